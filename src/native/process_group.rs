//! c10d's store and process groups.

use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::Result;

use super::{checked, device_code};

#[repr(C)]
pub(super) struct RawStore {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(super) struct RawGroup {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn textbrewer_store_new(
        host: *const c_char,
        port: u16,
        is_server: bool,
        timeout: i64,
        made: *mut *mut RawStore,
    ) -> *mut c_char;
    fn textbrewer_store_free(store: *mut RawStore);
    fn textbrewer_store_port(store: *const RawStore, port: *mut u16) -> *mut c_char;
    fn textbrewer_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
    ) -> *mut c_char;
    fn textbrewer_store_set_first(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
        there: *mut *mut u8,
        there_length: *mut usize,
    ) -> *mut c_char;
    fn textbrewer_store_add(
        store: *mut RawStore,
        key: *const c_char,
        number: *mut i64,
    ) -> *mut c_char;
    fn textbrewer_store_has(
        store: *mut RawStore,
        key: *const c_char,
        has: *mut bool,
    ) -> *mut c_char;
    fn textbrewer_store_get(
        store: *mut RawStore,
        key: *const c_char,
        timeout: i64,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> *mut c_char;
    fn textbrewer_free_bytes(data: *mut u8);
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

/// Keys and values that all processes see.
#[derive(Debug)]
pub(crate) struct Store(NonNull<RawStore>);

// SAFETY: c10d's store locks itself in each call.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves the store at this port (0 for any that is free), or connects to it.
    pub(crate) fn new(host: &str, port: u16, is_server: bool, timeout: Duration) -> Outcome<Self> {
        let host = c_string(host)?;
        let mut made = ptr::null_mut();
        // SAFETY: the text lives through the call; what is made is ours.
        unsafe {
            let timeout = milliseconds(timeout);
            checked(textbrewer_store_new(
                host.as_ptr(),
                port,
                is_server,
                timeout,
                &mut made,
            ))?;
        }
        NonNull::new(made).map(Store).ok_or_else(nothing_made)
    }

    pub(crate) fn port(&self) -> Outcome<u16> {
        let mut port = 0;
        // SAFETY: the store is alive, and the pointer is to a live number.
        unsafe { checked(textbrewer_store_port(self.0.as_ptr(), &mut port))? };
        Ok(port)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Outcome<()> {
        let key = c_string(key)?;
        // SAFETY: key and value live through the call.
        unsafe {
            checked(textbrewer_store_set(
                self.0.as_ptr(),
                key.as_ptr(),
                value.as_ptr(),
                value.len(),
            ))
        }
    }

    /// Sets the value unless there is one, and returns the one that is there then.
    pub(crate) fn set_first(&self, key: &str, value: &[u8]) -> Outcome<Vec<u8>> {
        let key = c_string(key)?;
        let (mut there, mut length) = (ptr::null_mut(), 0);
        // SAFETY: key and value live through the call; the bytes that are given are ours.
        unsafe {
            checked(textbrewer_store_set_first(
                self.0.as_ptr(),
                key.as_ptr(),
                value.as_ptr(),
                value.len(),
                &mut there,
                &mut length,
            ))?;
            Ok(taken(there, length))
        }
    }

    /// Adds to the number under this key, which is 0 before, and returns the sum.
    pub(crate) fn add(&self, key: &str, number: i64) -> Outcome<i64> {
        let key = c_string(key)?;
        let mut number = number;
        // SAFETY: the key lives through the call, and the pointer is to a live number.
        unsafe {
            checked(textbrewer_store_add(
                self.0.as_ptr(),
                key.as_ptr(),
                &mut number,
            ))?
        };
        Ok(number)
    }

    pub(crate) fn has(&self, key: &str) -> Outcome<bool> {
        let key = c_string(key)?;
        let mut has = false;
        // SAFETY: the key lives through the call, and the pointer is to a live variable.
        unsafe {
            checked(textbrewer_store_has(
                self.0.as_ptr(),
                key.as_ptr(),
                &mut has,
            ))?
        };
        Ok(has)
    }

    /// Waits until there is a value.
    pub(crate) fn get(&self, key: &str, timeout: Duration) -> Outcome<Vec<u8>> {
        let key = c_string(key)?;
        let (mut value, mut length) = (ptr::null_mut(), 0);
        // SAFETY: the key lives through the call; the bytes that are given are ours.
        unsafe {
            checked(textbrewer_store_get(
                self.0.as_ptr(),
                key.as_ptr(),
                milliseconds(timeout),
                &mut value,
                &mut length,
            ))?;
            Ok(taken(value, length))
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { textbrewer_store_free(self.0.as_ptr()) }
    }
}

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
                store.0.as_ptr(),
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

/// # Safety
/// `data` is of `length` bytes and was given by a native function, or is null.
unsafe fn taken(data: *mut u8, length: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller guarantees; freed once.
    unsafe {
        let bytes = std::slice::from_raw_parts(data, length).to_vec();
        textbrewer_free_bytes(data);
        bytes
    }
}

fn milliseconds(time: Duration) -> i64 {
    // Far above what anybody waits, and far below what a clock overflows at.
    const LONGEST: u128 = 1000 * 60 * 60 * 24 * 365;
    // None at all would mean that there is no limit.
    time.as_millis().clamp(1, LONGEST) as i64
}

pub(super) fn c_string(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| torch("a text has a zero byte in it"))
}

fn nothing_made() -> TchError {
    torch("nothing was made")
}

fn torch(text: &str) -> TchError {
    TchError::Torch(text.to_owned())
}
