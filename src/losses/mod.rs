//! Losses between a student's tensors and a teacher's.
//!
//! Plain functions: each takes the student's tensor first, then the teacher's, and
//! returns a scalar that gradients flow through. They give TextBrewer's numbers, with
//! its peculiarities, which each function names.
//!
//! **Logits**: [`kd_ce`], [`kd_mse`], [`kd_kl`], and [`kd_bce`] of several labels.
//! **Numbers**: [`regression_mse`], [`smooth_l1`]. **Attentions**: [`attention_mse`],
//! [`attention_mse_sum`], [`attention_ce`], [`attention_ce_mean`]. **Hidden states**:
//! [`hidden_mse`], [`cos`], [`pkd`], and [`fsp`] and [`mmd`] on two layers a side.
//!
//! # The teacher
//! The functions do not detach the teacher's tensors. Compute them under
//! [`tch::no_grad_guard`], as the distillers of this crate do, or detach them; otherwise
//! the teacher gets gradients.
//!
//! A teacher in another floating-point kind is converted to the student's, whose kind the
//! loss then has. Anything but floating point, and a teacher on another device than the
//! student, is an [`Error::Shape`](crate::Error::Shape).
//!
//! # Masks
//! A mask has the shape `[batch, length]`, any kind and any device; 1 keeps a position
//! and 0 leaves it out. What stands at a masked position does not count, but must be
//! finite: 0 times infinity is NaN. When a mask keeps nothing at all there is nothing to
//! take a mean of, and the loss is NaN ([`fsp`]: already when it keeps nothing of one
//! example). The distillers report that as [`Error::NonFiniteLoss`](crate::Error::NonFiniteLoss)
//! with the name of the loss.

mod attention;
mod check;
mod gram;
mod hidden;
mod kd;
mod outputs;

pub use attention::{attention_ce, attention_ce_mean, attention_mse, attention_mse_sum};
pub(crate) use check::at_least_float32;
pub use gram::{fsp, mmd};
pub use hidden::{cos, hidden_mse, pkd};
pub use kd::{kd_ce, kd_kl, kd_mse};
pub use outputs::{kd_bce, regression_mse, smooth_l1};

use tch::Tensor;

/// What logits are divided by before the softmax or sigmoid.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_mse, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.0], [0.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0], [4.0]]);
/// let loss = kd_mse(&student, &teacher, &Temperature::Constant(2.0))?;
/// assert_eq!(loss.double_value(&[]), (1.0 + 4.0) / 2.0);
/// // One for each example: here both come to (2 / 1)² = (4 / 2)².
/// let each = Temperature::from(Tensor::from_slice(&[1.0, 2.0]));
/// assert_eq!(kd_mse(&student, &teacher, &each)?.double_value(&[]), 4.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Temperature {
    /// One number for all.
    Constant(f64),
    /// One for each example (`[batch]`) or position (`[batch, length]`).
    Each(Tensor),
}

impl From<f64> for Temperature {
    fn from(value: f64) -> Self {
        Temperature::Constant(value)
    }
}

impl From<Tensor> for Temperature {
    fn from(value: Tensor) -> Self {
        Temperature::Each(value)
    }
}
