//! Losses of heads.

use tch::{Kind, Reduction, Tensor};

use crate::error::{Context, Error, Result};
use crate::losses::at_least_float32;

/// Positions with this label are left out of losses, as in `transformers`.
pub(super) const IGNORED: i64 = -100;

/// Mean cross entropy of `logits`, `[…, classes]`, with `labels`, `[…]`.
pub(super) fn cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    what: &str,
    ignored: i64,
) -> Result<Tensor> {
    let mut expected = logits.size();
    let classes = expected.pop().unwrap_or_default();
    check_shape(labels, &expected, what)?;
    let logits = at_least_float32(logits)?.f_reshape([-1, classes])?;
    let labels = integers(labels, what)?.f_reshape([-1])?;
    logits
        .f_cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, ignored, 0.0)
        .context(|| format!("cross entropy: {what} must be in 0..{classes}, or {ignored}"))
}

/// Labels as the 64-bit integers that libtorch expects.
pub(super) fn integers(labels: &Tensor, what: &str) -> Result<Tensor> {
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

pub(super) fn check_shape(labels: &Tensor, expected: &[i64], what: &str) -> Result<()> {
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
