//! The states of libtorch's random generators.

use std::ffi::{c_char, c_int};
use std::ptr;

use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::error::Context;
use crate::Result;

use super::{checked, device_code};

extern "C" {
    fn textbrewer_random_state(device: c_int, state: *mut *mut C_tensor) -> *mut c_char;
    fn textbrewer_set_random_state(device: c_int, state: *const C_tensor) -> *mut c_char;
}

/// The state of a device's generator, which dropout and other random operations draw from:
/// bytes on the CPU.
pub(crate) fn random_state(device: Device) -> Result<Tensor> {
    let context = || format!("state of the random generator of {device:?}");
    let code = device_code(device)?;
    let mut state = ptr::null_mut();
    // SAFETY: `state` is a place for one pointer, which is written when there is no error;
    // the tensor is then ours.
    unsafe {
        checked(textbrewer_random_state(code, &mut state)).context(context)?;
        Ok(Tensor::from_ptr(state))
    }
}

/// Puts back what [`random_state`] gave. Anything else is an error.
pub(crate) fn set_random_state(device: Device, state: &Tensor) -> Result<()> {
    let context = || format!("state of the random generator of {device:?}");
    let code = device_code(device)?;
    // SAFETY: the tensor outlives the call.
    unsafe { checked(textbrewer_set_random_state(code, state.as_ptr())).context(context) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn strangers_states_are_refused() {
        let state = random_state(Device::Cpu).unwrap();
        for bad in [
            Tensor::zeros([10], (Kind::Uint8, Device::Cpu)),
            Tensor::full_like(&state, 255),
            state.to_kind(Kind::Float),
            Tensor::zeros([0], (Kind::Uint8, Device::Cpu)),
            Tensor::new(),
        ] {
            let error = set_random_state(Device::Cpu, &bad).unwrap_err().to_string();
            assert!(error.contains("random generator of Cpu"), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert!(random_state(Device::Cuda(usize::MAX)).is_err());
        if !tch::Cuda::is_available() {
            assert!(random_state(Device::Cuda(0)).is_err());
        }
    }
}
