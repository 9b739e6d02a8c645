//! Gradient clipping.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::native::optim as native;

/// Scales the gradients of `parameters` so that their total norm is at most `max_norm`, and
/// returns the norm before scaling, as `torch.nn.utils.clip_grad_norm_` does.
///
/// The norm is the L2 norm of all gradients as one vector, and each gradient is
/// multiplied by `min(1, max_norm / (norm + 1e-6))`. No value is read from the device, so the
/// multiplication happens even when the factor is 1. Parameters without a gradient are left
/// out; when none has a gradient, the norm is 0.
///
/// As in PyTorch, a norm that is NaN or infinite spoils all gradients.
///
/// ```
/// use textbrewer::optim::{clip_grad_norm, Optimizer, ParamGroup, Sgd};
///
/// # fn main() -> textbrewer::Result<()> {
/// let weight = tch::Tensor::from_slice(&[3f32, 4.0]).set_requires_grad(true);
/// weight.f_square()?.f_sum(None)?.f_backward()?;
/// let norm = clip_grad_norm([&weight], 1.0)?;
/// assert_eq!(norm.double_value(&[]), 10.0);
///
/// // All groups of an optimizer:
/// let mut optimizer = Sgd::new(0.1);
/// optimizer.add_group(ParamGroup::new("all", vec![("weight".into(), weight)]))?;
/// clip_grad_norm(optimizer.groups().iter().flat_map(ParamGroup::tensors), 1.0)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When `max_norm` is negative or NaN, or libtorch refuses.
pub fn clip_grad_norm<'a>(
    parameters: impl IntoIterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<Tensor> {
    if max_norm.is_nan() || max_norm < 0.0 {
        let reason = format!("must be at least 0, got {max_norm}");
        return Err(Error::config("max_grad_norm", reason));
    }
    match native::clip(parameters, max_norm)? {
        Some(norm) => Ok(norm),
        None => Ok(Tensor::f_zeros([], (Kind::Float, Device::Cpu))?),
    }
}
