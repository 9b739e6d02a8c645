//! Counts what libtorch does on this thread: the operators it runs, and the memory of its
//! tensors. For tests: the numbers are the same in every run, where times are not. On CUDA
//! memory is counted in the blocks of libtorch's allocator, and a backward pass, which has a
//! thread of its own there, only by its memory.

mod waiting;

pub use waiting::{NoCuda, Refused};

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};

use torch_sys as _; // links libtorch

/// What libtorch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// How often each operator ran. Operators that others call are counted too.
    pub operators: BTreeMap<String, i64>,
    /// How often memory for a tensor was allocated.
    pub allocations: i64,
    /// The bytes that were allocated and are not free yet.
    pub kept_bytes: i64,
    /// The largest number of bytes allocated at one time.
    pub peak_bytes: i64,
}

impl Usage {
    /// How many operators ran.
    pub fn calls(&self) -> i64 {
        self.operators.values().sum()
    }

    /// How often one operator ran.
    pub fn calls_of(&self, operator: &str) -> i64 {
        self.operators.get(operator).copied().unwrap_or(0)
    }
}

unsafe extern "C" {
    fn torch_meter_start() -> c_int;
    fn torch_meter_set_waiting(mode: c_int) -> c_int;
    fn torch_meter_stop(
        numbers: *mut i64,
        each: extern "C" fn(*mut c_void, *const c_char, i64),
        context: *mut c_void,
    );
}

extern "C" fn note(operators: *mut c_void, name: *const c_char, calls: i64) {
    // SAFETY: `stop` passes its own map, which nothing else uses during the call, and the
    // name is a C string that lives as long as the call.
    let (operators, name) = unsafe {
        let operators = &mut *operators.cast::<BTreeMap<String, i64>>();
        (operators, CStr::from_ptr(name))
    };
    operators.insert(name.to_string_lossy().into_owned(), calls);
}

/// Ends the measurement when it is dropped, however the closure ends.
struct Running;

impl Running {
    fn stop(self) -> Usage {
        let usage = stop();
        std::mem::forget(self);
        usage
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop();
    }
}

fn stop() -> Usage {
    let mut usage = Usage::default();
    let mut numbers = [0; 3];
    let operators: *mut BTreeMap<String, i64> = &mut usage.operators;
    // SAFETY: both pointers are valid for the call, after which they are not kept.
    unsafe { torch_meter_stop(numbers.as_mut_ptr(), note, operators.cast()) };
    [usage.allocations, usage.kept_bytes, usage.peak_bytes] = numbers;
    usage
}

/// What libtorch does on this thread while `work` runs, and what `work` returns. Memory that
/// was allocated before is not counted, not even when it is freed.
///
/// # Panics
/// When a measurement is under way on this thread already.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    // SAFETY: the function takes nothing, and lets no exception out.
    let started = unsafe { torch_meter_start() };
    assert_eq!(started, 0, "one measurement at a time on a thread");
    let running = Running;
    let result = work();
    (result, running.stop())
}
