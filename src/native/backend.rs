//! Settings and state of libtorch as a whole.

use std::ffi::{c_char, c_int};
use std::ptr;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::{Context, Result};

use super::{checked, device_code, owned};

/// Bytes, and how often an allocation had to be tried again.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Memory {
    pub(crate) allocated: i64,
    pub(crate) peak_allocated: i64,
    pub(crate) reserved: i64,
    pub(crate) peak_reserved: i64,
    pub(crate) allocation_retries: i64,
}

unsafe extern "C" {
    fn textbrewer_set_matmul_precision(precision: i32) -> *mut c_char;
    fn textbrewer_matmul_precision(precision: *mut i32) -> *mut c_char;
    fn textbrewer_allow_tf32(allow: bool) -> *mut c_char;
    fn textbrewer_random_state(device: c_int, state: *mut *mut C_tensor) -> *mut c_char;
    fn textbrewer_set_random_state(device: c_int, state: *const C_tensor) -> *mut c_char;
    fn textbrewer_memory_of(device: c_int, memory: *mut Memory) -> *mut c_char;
    fn textbrewer_reset_peak_memory(device: c_int) -> *mut c_char;
    fn textbrewer_synchronize(device: c_int) -> *mut c_char;
    fn textbrewer_keep_freed_memory(told: *mut bool) -> *mut c_char;
}

/// 0, 1 and 2 are float32 throughout, TensorFloat32 and bfloat16.
pub(crate) fn set_matmul_precision(precision: i32) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(textbrewer_set_matmul_precision(precision)) }
        .context(|| "matmul precision".into())
}

pub(crate) fn matmul_precision() -> Result<i32> {
    let mut precision = 0;
    // SAFETY: the pointer is to a live number.
    unsafe { checked(textbrewer_matmul_precision(&mut precision)) }
        .context(|| "matmul precision".into())?;
    Ok(precision)
}

pub(crate) fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(textbrewer_allow_tf32(allow)) }.context(|| "TensorFloat32".into())
}

pub(crate) fn random_state(device: Device) -> Result<Tensor> {
    let code = device_code(device)?;
    let mut state = ptr::null_mut();
    // SAFETY: a tensor that is given is ours.
    let state =
        unsafe { checked(textbrewer_random_state(code, &mut state)).map(|()| owned(state)) };
    state
        .and_then(|state| state.ok_or_else(|| TchError::Torch("no state".into())))
        .context(|| format!("random state of {device:?}"))
}

pub(crate) fn set_random_state(device: Device, state: &Tensor) -> Result<()> {
    let code = device_code(device)?;
    // SAFETY: the tensor is borrowed for the call.
    unsafe { checked(textbrewer_set_random_state(code, state.as_ptr())) }
        .context(|| format!("random state of {device:?}"))
}

pub(crate) fn memory(device: Device) -> Result<Memory> {
    let code = device_code(device)?;
    let mut memory = Memory::default();
    // SAFETY: the pointer is to a live value of the layout that backend.cpp declares.
    unsafe { checked(textbrewer_memory_of(code, &mut memory)) }
        .context(|| format!("memory of {device:?}"))?;
    Ok(memory)
}

pub(crate) fn reset_peak_memory(device: Device) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(textbrewer_reset_peak_memory(device_code(device)?)) }
        .context(|| format!("memory of {device:?}"))
}

pub(crate) fn synchronize(device: Device) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { checked(textbrewer_synchronize(device_code(device)?)) }
        .context(|| format!("waiting for {device:?}"))
}

pub(crate) fn keep_freed_memory() -> Result<bool> {
    let mut told = false;
    // SAFETY: the pointer is to a live variable.
    unsafe { checked(textbrewer_keep_freed_memory(&mut told))? };
    Ok(told)
}
