//! Functions of libtorch that tch does not bind, and a few kernels of this crate. It is the only
//! place with `unsafe`.
//!
//! Each C++ file has a module here that is a safe interface to it.
//! Every function that can fail catches all exceptions and returns their text.
#![allow(unsafe_code)]

mod autocast;
pub(crate) mod backend;
pub(crate) mod divergence;
mod history;
pub(crate) mod layers;
pub(crate) mod optim;
pub(crate) mod process_group;
mod reducer;
mod store;
mod widening;
mod with_gradients;

pub(crate) use autocast::Autocast;
pub(crate) use history::NoHistory;
pub(crate) use reducer::Reducer;
pub(crate) use widening::Widening;
pub(crate) use with_gradients::with_gradients;

use std::ffi::{CStr, c_char, c_int};

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, Result};

unsafe extern "C" {
    fn textbrewer_free_message(text: *mut c_char);
}

/// Takes over the message that a native function returned.
///
/// # Safety
/// `message` is null, or was returned by a native function and not given to this before.
unsafe fn checked(message: *mut c_char) -> std::result::Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null is a C string of the native function's, freed once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        textbrewer_free_message(message);
        text
    };
    Err(TchError::Torch(text))
}

/// # Safety
/// The pointer is null or to a tensor made with `new` that nobody else owns.
unsafe fn owned(tensor: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: the caller guarantees that nobody else owns it.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
}

/// tch's number for a device.
fn device_code(device: Device) -> Result<c_int> {
    match device {
        Device::Cpu => Ok(-1),
        Device::Mps => Ok(-2),
        Device::Vulkan => Ok(-3),
        Device::Cuda(index) => c_int::try_from(index)
            .map_err(|_| Error::config("device", format!("there is no CUDA device {index}"))),
    }
}
