//! Layers of models on the CPU, with fewer passes over memory than libtorch's own.

use std::ffi::c_char;
use std::ptr;

use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::checked;

type Result<T> = std::result::Result<T, TchError>;

unsafe extern "C" {
    fn textbrewer_dropout(
        input: *const C_tensor,
        probability: f64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn textbrewer_attention(
        query: *const C_tensor,
        key: *const C_tensor,
        value: *const C_tensor,
        mask: *const C_tensor,
        batch: i64,
        heads: i64,
        probability: f64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn textbrewer_residual_norm(
        input: *const C_tensor,
        residual: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        eps: f64,
        probability: f64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn textbrewer_linear(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        gelu: bool,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Whether these functions support a tensor.
pub(crate) fn supports(tensor: &Tensor) -> Result<bool> {
    let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
    Ok(tensor.device() == Device::Cpu && kinds.contains(&tensor.f_kind()?))
}

/// Zeroes each element with the given probability p, and divides the others by 1 - p.
///
/// One seed is drawn from libtorch's generator. Which elements are dropped depends only on the
/// seed and their positions.
pub(crate) fn dropout(input: &Tensor, probability: f64) -> Result<Tensor> {
    let mut output = ptr::null_mut();
    // SAFETY: the tensor outlives the call, and a returned one is given to its owner once.
    unsafe {
        checked(textbrewer_dropout(input.as_ptr(), probability, &mut output))?;
        Ok(Tensor::from_ptr(output))
    }
}

/// Every head's `softmax(q kᵀ / √size + mask) v`, with a dropout on the softmax, of states
/// `[batch · length, hidden]`. All operands have one kind; the mask broadcasts over
/// `[batch, heads, length, length]` and gets no gradient.
pub(crate) fn attention(
    [query, key, value]: [&Tensor; 3],
    mask: Option<&Tensor>,
    batch: i64,
    heads: i64,
    dropout: f64,
) -> Result<Tensor> {
    let mut output = ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        checked(textbrewer_attention(
            query.as_ptr(),
            key.as_ptr(),
            value.as_ptr(),
            mask.map_or(ptr::null(), Tensor::as_ptr),
            batch,
            heads,
            dropout,
            &mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

/// `LayerNorm(residual + dropout(input))` over the last dimension.
pub(crate) fn residual_norm(
    input: &Tensor,
    residual: &Tensor,
    [weight, bias]: [&Tensor; 2],
    eps: f64,
    dropout: f64,
) -> Result<Tensor> {
    let mut output = ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        checked(textbrewer_residual_norm(
            input.as_ptr(),
            residual.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            eps,
            dropout,
            &mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

/// `x Wᵀ + b` of a matrix x, on request followed by GELU, by oneDNN. `None` when that has no
/// kernel for these operands, a gradient of GELU is needed, or the product is too small for it
/// to pay off.
pub(crate) fn linear(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    gelu: bool,
) -> Result<Option<Tensor>> {
    let mut output = ptr::null_mut();
    // SAFETY: as above; null is not a tensor.
    unsafe {
        checked(textbrewer_linear(
            input.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            gelu,
            &mut output,
        ))?;
        Ok((!output.is_null()).then(|| Tensor::from_ptr(output)))
    }
}

#[cfg(test)]
mod tests;
