//! c10d's store.

use std::ffi::c_char;
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::checked;
use super::process_group::{Outcome, c_string, milliseconds, nothing_made};

#[repr(C)]
pub(super) struct RawStore {
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
}

/// Keys and values that all processes see.
#[derive(Debug)]
pub(crate) struct Store(NonNull<RawStore>);

// SAFETY: c10d's store locks itself in each call.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    pub(super) fn raw(&self) -> *mut RawStore {
        self.0.as_ptr()
    }

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
