//! What tensors hold: numbers of which kind, if any.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// libtorch has no shape, kind or device to give for an undefined tensor, and tch panics where one
/// is asked for.
pub(crate) fn defined(what: &str, tensor: &Tensor) -> Result<()> {
    match tensor.defined() {
        true => Ok(()),
        false => Err(undefined(what)),
    }
}

/// The error for an undefined tensor that was given as `what`.
pub(crate) fn undefined(what: impl Into<String>) -> Error {
    Error::shape(what, "a tensor", "an undefined one")
}

/// Whether numbers of this kind are floating-point numbers.
pub(crate) fn is_floating(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double
    )
}

/// Numbers of 16 bits as `float32`, others as they are.
///
/// A model's output may be of 16 bits, but sums over thousands of elements need more.
///
/// # Errors
/// When the tensor is undefined, or there is no memory for the copy.
///
/// ```
/// use tch::{Kind, Tensor};
/// use textbrewer::losses::support::at_least_float32;
///
/// let logits = Tensor::from_slice(&[1f32, 2.0]).f_to_kind(Kind::BFloat16)?;
/// assert_eq!(at_least_float32(&logits)?.f_kind()?, Kind::Float);
/// // Doubles and integers stay what they are.
/// assert_eq!(at_least_float32(&Tensor::from_slice(&[1.0]))?.f_kind()?, Kind::Double);
/// assert_eq!(at_least_float32(&Tensor::from_slice(&[1i64]))?.f_kind()?, Kind::Int64);
/// # textbrewer::Result::Ok(())
/// ```
pub fn at_least_float32(tensor: &Tensor) -> Result<Tensor> {
    defined("numbers", tensor)?;
    match tensor.f_kind()? {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// The smallest kind of floating-point numbers that holds those of both kinds exactly.
pub(crate) fn holding_both(one: Kind, other: Kind) -> Kind {
    match (one, other) {
        _ if one == other => one,
        (Kind::Double, _) | (_, Kind::Double) => Kind::Double,
        // Neither `Half` nor `BFloat16` holds the other.
        _ => Kind::Float,
    }
}

/// Whether floating-point numbers of the kind `held` are all exact in `kind`.
pub(crate) fn holds(kind: Kind, held: Kind) -> bool {
    holding_both(kind, held) == kind
}

/// A conversion to what a tensor is already would still pass through libtorch's dispatcher.
pub(crate) fn in_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match tensor.f_kind()? == kind {
        true => tensor.shallow_clone(),
        false => tensor.f_to_kind(kind)?,
    })
}
