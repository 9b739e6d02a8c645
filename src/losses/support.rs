//! What losses are written with: the functions that the losses of this crate use themselves.
//!
//! They check what libtorch would take without a word (shapes that it stretches to fit, integers,
//! numbers of 16 bits in long sums) and return errors where tch panics.
//!
//! A loss of one's own at each position, which masks and weights then apply to:
//!
//! ```
//! use tch::Tensor;
//! use textbrewer::losses::support::{ScalarOps, at_temperature, fitting};
//! use textbrewer::{KdInput, Presets};
//!
//! /// Half the distance between the probabilities, kept in size by τ.
//! fn total_variation(input: &KdInput<'_>) -> textbrewer::Result<Tensor> {
//!     let student = input.student.whole()?;
//!     let teacher = fitting("tvd", "logits of one shape", &student, &input.teacher.whole()?)?;
//!     let q = at_temperature("tvd", &student, &input.temperature)?.f_softmax(-1, None)?;
//!     let p = at_temperature("tvd", &teacher, &input.temperature)?.f_softmax(-1, None)?;
//!     let distance = p.f_sub(&q)?.f_abs()?.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
//!     Ok(distance.times(0.5)?)
//! }
//!
//! let presets = Presets::default().kd_loss_per_position("tvd", total_variation);
//! let logits = |values: [f64; 2]| Tensor::from_slice2(&[values]);
//! let input = KdInput::new(logits([0.0, 0.0]), logits([900.0, 0.0]), 1.0)?;
//! let loss = presets.find_kd_loss("kd_loss_type", "tvd")?.apply(&input)?;
//! assert_eq!(loss.double_value(&[]), 0.5);
//! # textbrewer::Result::Ok(())
//! ```

use super::check::size_of;
pub use super::check::{fitting, mask_like};
use super::mean::per_count;
pub use super::temperature::at_temperature;
pub use crate::kind::at_least_float32;
pub use crate::scalar::{Number, ScalarOps};

use tch::Tensor;

use crate::error::Result;

/// The mean over the positions that a mask keeps.
///
/// The mask chooses: any number but 0 keeps a position whole. What stands at the others must be
/// finite, since 0 times infinity is NaN. When the mask keeps nothing the mean is 0, and so is its
/// gradient.
///
/// # Shape
/// Values and mask: `[batch, length]`, or any other shape, the same.
///
/// # Errors
/// When the shapes do not fit, or a tensor is undefined.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::masked_mean;
///
/// let losses = Tensor::from_slice2(&[[1.0, 3.0], [5.0, 100.0]]);
/// let mask = Tensor::from_slice2(&[[1, 1], [1, 0]]);
/// assert_eq!(masked_mean("my loss", &losses, &mask)?.double_value(&[]), 3.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn masked_mean(loss: &str, values: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let wanted = size_of(loss, "values", values)?;
    // Weights in place of a selection, whose size the device would have to tell the host.
    let kept = mask_like(loss, mask, &wanted, values)?
        .is_not(0.0)?
        .f_to_kind(values.f_kind()?)?;
    per_count(&values.f_mul(&kept)?.f_sum(None)?, &kept.f_sum(None)?)
}
