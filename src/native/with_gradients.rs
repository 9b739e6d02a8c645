//! A number whose gradients are known already.

use std::ffi::c_char;
use std::ptr;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::process_group::pointers;
use super::{checked, owned};
use crate::error::{Context, Result};

unsafe extern "C" {
    fn textbrewer_with_gradients(
        value: *const C_tensor,
        inputs: *const *mut C_tensor,
        gradients: *const *mut C_tensor,
        count: usize,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// A copy of `value`. Its backward pass gives each tensor the gradient beside it, times that of the
/// copy, and changes the gradients for that: they are the caller's no longer. They may be of wider
/// numbers than the tensors, and are converted last. There can be one such pass.
pub(crate) fn with_gradients(value: &Tensor, gradients: &[(&Tensor, Tensor)]) -> Result<Tensor> {
    let inputs: Vec<&Tensor> = gradients.iter().map(|(input, _)| *input).collect();
    let known: Vec<&Tensor> = gradients.iter().map(|(_, gradient)| gradient).collect();
    let (inputs, known) = (pointers(&inputs), pointers(&known));
    let mut result = ptr::null_mut();
    // SAFETY: all tensors live through the call, and there is a gradient for each input; the tensor
    // that is given is ours.
    let result = unsafe {
        checked(textbrewer_with_gradients(
            value.as_ptr(),
            inputs.as_ptr(),
            known.as_ptr(),
            inputs.len(),
            &mut result,
        ))
        .map(|()| owned(result))
    };
    result
        .and_then(|result| result.ok_or_else(|| TchError::Torch("no value".into())))
        .context(|| "a loss computed in parts".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn gradients_are_those_that_were_given_times_that_of_the_value() {
        let input = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let other = Tensor::from_slice(&[3f32]).set_requires_grad(true);
        let value = Tensor::from(5f32);
        let known = [
            (&input, Tensor::from_slice(&[10f32, 20.0])),
            (&other, Tensor::from_slice(&[0.5f32])),
        ];
        let result = with_gradients(&value, &known).unwrap();
        assert_eq!(result.double_value(&[]), 5.0);
        (&result * 3.0).backward();
        assert_eq!(Vec::<f32>::try_from(input.grad()).unwrap(), [30.0, 60.0]);
        assert_eq!(Vec::<f32>::try_from(other.grad()).unwrap(), [1.5]);
        // It is known once.
        assert!((&result * 3.0).f_backward().is_err());
    }

    #[test]
    fn a_tensor_without_a_gradient_gets_none() {
        let frozen = Tensor::from_slice(&[1f32]);
        let input = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let known = [
            (&frozen, Tensor::from_slice(&[1f32])),
            (&input, Tensor::from_slice(&[2f32])),
        ];
        with_gradients(&Tensor::from(0f32), &known)
            .unwrap()
            .backward();
        assert!(!frozen.grad().defined());
        assert_eq!(input.grad().double_value(&[0]), 2.0);
    }
}
