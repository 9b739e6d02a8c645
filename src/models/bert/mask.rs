//! The attention mask as a term added to attention scores.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// The lowest finite number of a kind.
///
/// It replaces minus infinity, as in `transformers`: a sequence that is all padding then attends
/// evenly to all positions, where minus infinity would give NaN.
fn lowest(kind: Kind) -> Result<f64> {
    match kind {
        Kind::Half => Ok(-65504.0),
        Kind::BFloat16 => Ok(-3.389_531_389_251_535_5e38),
        Kind::Float => Ok(f64::from(f32::MIN)),
        Kind::Double => Ok(f64::MIN),
        other => Err(Error::shape(
            "attention scores",
            "floating-point numbers",
            format!("{other:?}"),
        )),
    }
}

/// 0 where attention is allowed and the lowest number elsewhere, to broadcast over
/// `[batch, heads, length, length]`.
pub(super) fn additive(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    let mask = mask.f_to_kind(kind)?;
    let mask = match mask.dim() {
        3 => mask.f_unsqueeze(1)?,
        _ => mask.f_unsqueeze(1)?.f_unsqueeze(1)?,
    };
    // (1 − mask) · lowest, in one operation less.
    Ok(mask.minus(1.0)?.times(-lowest(kind)?)?)
}

/// The mask in the kind of the scores, which autocast may have lowered. A plain
/// conversion would turn the lowest number of the wider kind into minus infinity.
pub(super) fn in_kind(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    let now = mask.f_kind()?;
    if now == kind {
        return Ok(mask.shallow_clone());
    }
    let floor = lowest(kind)?;
    if floor > lowest(now)? {
        return Ok(mask.at_least(floor)?.f_to_kind(kind)?);
    }
    Ok(mask.f_to_kind(kind)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_finite_in_every_kind() {
        let mask = Tensor::from_slice2(&[[1i64, 0]]);
        let wide = additive(&mask, Kind::Float).unwrap();
        assert_eq!(wide.size(), [1, 1, 1, 2]);
        for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
            for mask in [
                additive(&mask, kind).unwrap(),
                in_kind(&wide, kind).unwrap(),
            ] {
                assert_eq!(mask.kind(), kind);
                assert!(bool::try_from(mask.isfinite().all()).unwrap(), "{kind:?}");
                assert_eq!(mask.double_value(&[0, 0, 0, 0]), 0.0);
                assert!(mask.double_value(&[0, 0, 0, 1]) <= -65504.0);
            }
        }
    }
}
