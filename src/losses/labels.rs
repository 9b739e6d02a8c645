//! Losses on labels.

use tch::{Device, Kind, Reduction, Tensor};

use super::at_least_float32;
use super::mean::per_count;
use crate::error::{Context, Error, Result};
use crate::kind::{defined, is_floating};
use crate::scalar::ScalarOps;

/// Positions with this label are left out of losses, as in `transformers`.
pub(crate) const IGNORED: i64 = -100;

/// Mean cross entropy of logits with labels, in `float32` at least. Positions with the label −100
/// are left out; where no label is left, the loss and its gradient are 0.
///
/// For a model's own loss, as in an adaptor's
/// [`losses`](crate::AdaptorOutput::losses). libtorch's `cross_entropy_loss` is NaN without a label,
/// and in numbers of 16 bits where the logits are.
///
/// # Shape
/// Logits: `[.., classes]`; labels: `[..]`, integers.
///
/// # Errors
/// When the shapes do not fit, labels are no integers, or one is neither a class nor −100 (on
/// CUDA the device reports that later).
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::cross_entropy;
///
/// let logits = Tensor::from_slice2(&[[0f32, 0.0], [3.0, 1.0]]);
/// let loss = cross_entropy(&logits, &Tensor::from_slice(&[1i64, -100]))?;
/// assert!((loss.double_value(&[]) - 2f64.ln()).abs() < 1e-6);
/// let nothing = cross_entropy(&logits, &Tensor::from_slice(&[-100i64, -100]))?;
/// assert_eq!(nothing.double_value(&[]), 0.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    defined("cross_entropy, logits", logits)?;
    defined("cross_entropy, labels", labels)?;
    cross_entropy_of(logits, labels, "labels", IGNORED)
}

/// [`cross_entropy`] with labels that errors call `what`, of which `ignored` is left out.
pub(crate) fn cross_entropy_of(
    logits: &Tensor,
    labels: &Tensor,
    what: &str,
    ignored: i64,
) -> Result<Tensor> {
    let mut expected = logits.size();
    let classes = expected.pop().unwrap_or_default();
    if classes < 1 || !is_floating(logits.f_kind()?) {
        let got = format!("{:?} of {:?}", logits.size(), logits.f_kind()?);
        let wanted = "floating-point numbers [.., classes] of at least one class";
        return Err(Error::shape("cross entropy: logits", wanted, got));
    }
    check_shape(labels, &expected, what)?;
    let logits = at_least_float32(logits)?.f_reshape([-1, classes])?;
    let labels = integers(labels, what)?.f_reshape([-1])?;
    // libtorch's own mean of no label is NaN; otherwise it divides by the same count.
    let sum = logits
        .f_cross_entropy_loss(&labels, None::<Tensor>, Reduction::Sum, ignored, 0.0)
        .context(|| format!("cross entropy: {what} must be in 0..{classes}, or {ignored}"))?;
    per_count(&sum, &labels.is_not(ignored)?.f_sum(None)?)
}

/// Fails where a label is neither negative nor a class. Looked at on the CPU alone: elsewhere the host
/// would wait for the device.
pub(crate) fn check_classes(labels: &Tensor, classes: i64) -> Result<()> {
    if labels.device() != Device::Cpu || labels.numel() == 0 {
        return Ok(());
    }
    let largest = i64::try_from(&labels.f_max()?.f_to_kind(Kind::Int64)?)?;
    match largest < classes {
        true => Ok(()),
        false => Err(Error::shape(
            "labels",
            format!("classes below {classes}, or {IGNORED} for none"),
            largest.to_string(),
        )),
    }
}

/// Labels as the 64-bit integers that libtorch expects.
pub(crate) fn integers(labels: &Tensor, what: &str) -> Result<Tensor> {
    match labels.f_kind()? {
        Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8 => {
            Ok(labels.f_to_kind(Kind::Int64)?)
        }
        other => {
            let got = format!("{other:?}");
            Err(Error::shape(what, "integers (Int64)", got))
        }
    }
}

pub(crate) fn check_shape(labels: &Tensor, expected: &[i64], what: &str) -> Result<()> {
    let got = labels.size();
    if got == expected {
        return Ok(());
    }
    Err(Error::shape(
        what,
        format!("{expected:?}, as the logits need"),
        format!("{got:?}"),
    ))
}
