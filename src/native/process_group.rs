//! c10d's process groups.

use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::Result;

use super::store::RawStore;
pub(crate) use super::store::Store;
use super::{checked, device_code};

#[repr(C)]
pub(super) struct RawGroup {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn textbrewer_group_check(address: *const c_char, device: c_int) -> *mut c_char;
    fn textbrewer_group_new(
        store: *const RawStore,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        timeout: i64,
        address: *const c_char,
        device: c_int,
        made: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn textbrewer_group_free(group: *mut RawGroup);
    fn textbrewer_all_reduce(
        group: *mut RawGroup,
        tensors: *const *mut C_tensor,
        count: usize,
        operation: c_int,
    ) -> *mut c_char;
    fn textbrewer_broadcast(
        group: *mut RawGroup,
        tensors: *const *mut C_tensor,
        roots: *const c_int,
        count: usize,
    ) -> *mut c_char;
    fn textbrewer_all_gather(
        group: *mut RawGroup,
        all: *mut C_tensor,
        tensor: *const C_tensor,
    ) -> *mut c_char;
}

/// What libtorch says when it fails.
pub(crate) type Outcome<T> = std::result::Result<T, TchError>;

/// How the tensors of all processes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Reduction {
    Sum = 0,
    Mean = 1,
    Min = 2,
    Max = 3,
}

/// Processes that compute together. All have to make the same calls in the same order, with
/// tensors of the same shape and kind: with others Gloo aborts the process.
#[derive(Debug)]
pub(crate) struct Group(NonNull<RawGroup>);

// SAFETY: c10d's group may be called from any thread. That its calls have one order is up to who
// calls, so it is not `Sync`.
unsafe impl Send for Group {}

impl Group {
    /// Fails if this process could not be one of a group, before it is waited for.
    pub(crate) fn check(address: Option<&str>, device: Device) -> Result<Outcome<()>> {
        let device = device_code(device)?;
        let check = || {
            let address = address.map(c_string).transpose()?;
            let address = address.as_ref().map_or(ptr::null(), |text| text.as_ptr());
            // SAFETY: the text lives through the call.
            unsafe { checked(textbrewer_group_check(address, device)) }
        };
        Ok(check())
    }

    /// Meets the other processes through the store. `address` is where others find this one.
    pub(crate) fn new(
        store: &Store,
        prefix: &str,
        rank: usize,
        size: usize,
        timeout: Duration,
        address: Option<&str>,
        device: Device,
    ) -> Result<Outcome<Self>> {
        let device = device_code(device)?;
        Ok(Self::meet(
            store, prefix, rank, size, timeout, address, device,
        ))
    }

    fn meet(
        store: &Store,
        prefix: &str,
        rank: usize,
        size: usize,
        timeout: Duration,
        address: Option<&str>,
        device: c_int,
    ) -> Outcome<Self> {
        let prefix = c_string(prefix)?;
        let address = address.map(c_string).transpose()?;
        let number = |number| c_int::try_from(number).map_err(|_| torch("too many processes"));
        let (rank, size) = (number(rank)?, number(size)?);
        let mut made = ptr::null_mut();
        // SAFETY: the texts live through the call; what is made is ours.
        unsafe {
            checked(textbrewer_group_new(
                store.raw(),
                prefix.as_ptr(),
                rank,
                size,
                milliseconds(timeout),
                address.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
                device,
                &mut made,
            ))?;
        }
        NonNull::new(made).map(Group).ok_or_else(nothing_made)
    }

    pub(super) fn raw(&self) -> *mut RawGroup {
        self.0.as_ptr()
    }

    /// Writes into each tensor what all processes have there together.
    pub(crate) fn all_reduce(&self, tensors: &[&Tensor], reduction: Reduction) -> Outcome<()> {
        let pointers = pointers(tensors);
        // SAFETY: group and tensors live through the call, which waits for its work.
        unsafe {
            checked(textbrewer_all_reduce(
                self.raw(),
                pointers.as_ptr(),
                pointers.len(),
                reduction as c_int,
            ))
        }
    }

    /// Writes into each tensor what the process beside it has there.
    pub(crate) fn broadcast(&self, tensors: &[(&Tensor, usize)]) -> Outcome<()> {
        let (tensors, roots): (Vec<_>, Vec<_>) = tensors.iter().copied().unzip();
        let pointers = pointers(&tensors);
        let roots: Vec<c_int> = roots.into_iter().map(|root| root as c_int).collect();
        // SAFETY: group and tensors live through the call, which waits for its work; there is a
        // root for each tensor.
        unsafe {
            checked(textbrewer_broadcast(
                self.raw(),
                pointers.as_ptr(),
                roots.as_ptr(),
                pointers.len(),
            ))
        }
    }

    /// Writes the tensors of all processes into `all`, one after the other.
    pub(crate) fn all_gather(&self, all: &Tensor, tensor: &Tensor) -> Outcome<()> {
        // SAFETY: group and tensors live through the call, which waits for its work.
        unsafe {
            checked(textbrewer_all_gather(
                self.raw(),
                all.as_ptr().cast_mut(),
                tensor.as_ptr(),
            ))
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { textbrewer_group_free(self.0.as_ptr()) }
    }
}

pub(super) fn pointers(tensors: &[&Tensor]) -> Vec<*mut C_tensor> {
    let pointers = tensors.iter().map(|tensor| tensor.as_ptr().cast_mut());
    pointers.collect()
}

pub(super) fn milliseconds(time: Duration) -> i64 {
    // Far above what anybody waits, and far below what a clock overflows at.
    const LONGEST: u128 = 1000 * 60 * 60 * 24 * 365;
    // None at all would mean that there is no limit.
    time.as_millis().clamp(1, LONGEST) as i64
}

pub(super) fn c_string(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| torch("a text has a zero byte in it"))
}

pub(super) fn nothing_made() -> TchError {
    torch("nothing was made")
}

fn torch(text: &str) -> TchError {
    TchError::Torch(text.to_owned())
}
