//! What tensors have to be to stand for logits.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::{at_least_float32, defined, is_floating};
use crate::scalar::ScalarOps;

/// A tensor of exactly the shape `size`, which is called `wanted`.
pub(super) fn fits(what: &str, wanted: &str, tensor: &Tensor, size: &[i64]) -> Result<()> {
    defined(what, tensor)?;
    let got = tensor.size();
    match got == size {
        true => Ok(()),
        false => Err(Error::shape(
            what,
            format!("{wanted} = {size:?}"),
            format!("{got:?}"),
        )),
    }
}

/// Indices of classes, `[.., k]` with a `k` of at least 1: their shape.
pub(super) fn indices(what: &str, wanted: &str, indices: &Tensor) -> Result<Vec<i64>> {
    defined(what, indices)?;
    let (size, kind) = (indices.size(), indices.f_kind()?);
    let whole_numbers = matches!(
        kind,
        Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64
    );
    if whole_numbers && size.last().is_some_and(|&last| last > 0) {
        return Ok(size);
    }
    Err(Error::shape(
        what,
        format!("{wanted} of whole numbers, at least one for each position"),
        format!("{size:?} of {kind:?}"),
    ))
}

/// Floating-point numbers of exactly the shape `size`, which is called `wanted`.
pub(super) fn numbers(what: &str, wanted: &str, tensor: &Tensor, size: &[i64]) -> Result<()> {
    fits(what, wanted, tensor, size)?;
    floating(what, tensor).map(drop)
}

/// Floating-point numbers: their kind.
pub(super) fn floating(what: &str, tensor: &Tensor) -> Result<Kind> {
    let kind = tensor.f_kind()?;
    match is_floating(kind) {
        true => Ok(kind),
        false => Err(Error::shape(
            what,
            "floating-point numbers",
            format!("{kind:?}"),
        )),
    }
}

/// A positive number.
pub(super) fn positive(what: &str, value: f64) -> Result<f64> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Error::config(
            what,
            format!("must be a positive number, is {value}"),
        )),
    }
}

/// The temperature that probabilities are said to be at, once.
pub(super) fn said_once(of: &str, before: Option<f64>, temperature: f64) -> Result<f64> {
    let what = format!("temperature of {of}");
    let temperature = positive(&what, temperature)?;
    match before {
        Some(before) if before != temperature => Err(Error::config(
            what,
            format!(
                "{temperature} is said of what is at {before} already; no number is converted: take \
                 it from the logits anew, at {temperature}"
            ),
        )),
        _ => Ok(temperature),
    }
}

/// The logarithms of the probabilities that logits `[.., classes]` stand for at a temperature, in
/// numbers of at least 32 bits and without a history, and how many classes there are. `of` is what
/// they are for.
pub(super) fn log_probabilities(
    of: &str,
    logits: &Tensor,
    temperature: f64,
) -> Result<(Tensor, i64)> {
    let what = &format!("logits of {of}");
    defined(what, logits)?;
    floating(what, logits)?;
    let temperature = positive(&format!("temperature of {of}"), temperature)?;
    let size = logits.size();
    let Some(classes) = size.last().copied().filter(|classes| *classes > 0) else {
        return Err(Error::shape(
            what,
            "[.., classes] of at least one class",
            format!("{size:?}"),
        ));
    };
    let _no_history = tch::no_grad_guard();
    let scaled = at_least_float32(&logits.f_detach()?)?.over(temperature)?;
    Ok((scaled.f_log_softmax(-1, None)?, classes))
}

/// What is to be with tensors on `device`, which are called `those`.
pub(super) fn on_device(what: &str, those: &str, device: Device, got: Device) -> Result<()> {
    match device == got {
        true => Ok(()),
        false => Err(Error::shape(
            what,
            format!("{device:?}, where {those} (move one with `to_device`)"),
            format!("{got:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_differ_are_named() {
        let check = |device| on_device("bias", "the matrix is", Device::Cuda(1), device);
        assert!(check(Device::Cuda(1)).is_ok());
        assert_eq!(
            check(Device::Cpu).unwrap_err().to_string(),
            "bias: expected Cuda(1), where the matrix is (move one with `to_device`), got Cpu"
        );
    }
}
