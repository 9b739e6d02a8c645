//! What tensors have to be to stand for logits.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::is_floating;

/// libtorch has no shape to give for an undefined tensor, and tch panics where one is asked for.
pub(super) fn defined(what: &str, tensor: &Tensor) -> Result<()> {
    match tensor.defined() {
        true => Ok(()),
        false => Err(Error::shape(what, "a tensor", "an undefined one")),
    }
}

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
    let kind = tensor.f_kind()?;
    match is_floating(kind) {
        true => Ok(()),
        false => Err(Error::shape(
            what,
            "floating-point numbers",
            format!("{kind:?}"),
        )),
    }
}
