//! Calls that make the host wait for a CUDA device.

use std::fmt;

use super::torch_meter_set_waiting;

const ALLOWED: i32 = 0;
const ERROR: i32 = 2;

/// A guard: while it lives, what makes the host wait for a CUDA device is an error of libtorch's,
/// "called a synchronizing CUDA operation", in all threads of the process.
///
/// It is libtorch's debug mode for that, `torch.cuda.set_sync_debug_mode("error")`. What it knows
/// of is whatever libtorch itself waits for; CUDA's own allocations, which wait as well, it does
/// not see.
#[derive(Debug)]
#[must_use = "waiting is allowed again when the guard is dropped"]
pub struct Refused(());

/// No library of libtorch's for CUDA is loaded, so that nothing can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCuda;

impl fmt::Display for NoCuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no library of libtorch's for CUDA is loaded")
    }
}

impl std::error::Error for NoCuda {}

impl Refused {
    /// Refuses to wait from now on.
    ///
    /// # Errors
    /// Where there is no CUDA.
    pub fn new() -> Result<Self, NoCuda> {
        set(ERROR).map(|()| Refused(()))
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        // It was there when the guard was made.
        let _ = set(ALLOWED);
    }
}

fn set(mode: i32) -> Result<(), NoCuda> {
    // SAFETY: takes a number only, one of those that libtorch knows.
    match unsafe { torch_meter_set_waiting(mode) } {
        0 => Ok(()),
        _ => Err(NoCuda),
    }
}
