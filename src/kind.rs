//! Kinds of numbers in tensors.

use tch::{Kind, Tensor};

use crate::error::Result;

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
/// When there is no memory for the copy.
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
    match tensor.f_kind()? {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// A conversion to what a tensor is already would still pass through libtorch's dispatcher.
pub(crate) fn in_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match tensor.f_kind()? == kind {
        true => tensor.shallow_clone(),
        false => tensor.f_to_kind(kind)?,
    })
}
