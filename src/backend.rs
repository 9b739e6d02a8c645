//! Settings and state of libtorch that hold for the whole process: how precise float32
//! products are, where random numbers come from, and how much memory a GPU has given out.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::config::device;
use crate::error::{Error, Result};
use crate::native::backend as native;

/// How float32 matrix products may be computed.
///
/// In JSON the names are PyTorch's: `"highest"`, `"high"` and `"medium"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MatmulPrecision {
    /// In float32, which is what libtorch begins with.
    #[default]
    Highest,
    /// In TensorFloat32 (10 bits of mantissa) where the device has it.
    High,
    /// In bfloat16 (8 bits) where the device is faster in it, else as `High`.
    Medium,
}

/// Sets how float32 matrix products are computed from now on, as
/// `torch.set_float32_matmul_precision` does.
///
/// The inputs and results stay float32. Convolutions have their own switch:
/// [`allow_tf32`]. Losses compute some of their sums as matrix products, so they are rounded
/// too.
///
/// ```
/// use textbrewer::backend::{matmul_precision, set_matmul_precision, MatmulPrecision};
///
/// set_matmul_precision(MatmulPrecision::High)?;
/// assert_eq!(matmul_precision()?, MatmulPrecision::High);
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When libtorch refuses.
pub fn set_matmul_precision(precision: MatmulPrecision) -> Result<()> {
    native::set_matmul_precision(match precision {
        MatmulPrecision::Highest => 0,
        MatmulPrecision::High => 1,
        MatmulPrecision::Medium => 2,
    })
}

/// How float32 matrix products are computed.
///
/// # Errors
/// When libtorch refuses.
pub fn matmul_precision() -> Result<MatmulPrecision> {
    Ok(match native::matmul_precision()? {
        0 => MatmulPrecision::Highest,
        1 => MatmulPrecision::High,
        _ => MatmulPrecision::Medium,
    })
}

/// Whether cuBLAS and cuDNN may use TensorFloat32 for float32: both of PyTorch's
/// `torch.backends.cuda.matmul.allow_tf32` and `torch.backends.cudnn.allow_tf32`.
///
/// The first is the same setting as [`set_matmul_precision`] with `High` or `Highest`. On a
/// machine without CUDA this has no other effect.
///
/// ```
/// use textbrewer::backend::{allow_tf32, matmul_precision, MatmulPrecision};
///
/// allow_tf32(true)?;
/// assert_eq!(matmul_precision()?, MatmulPrecision::High);
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When libtorch refuses.
pub fn allow_tf32(allow: bool) -> Result<()> {
    native::allow_tf32(allow)
}

/// The state of the random numbers of a device, as bytes: `torch.get_rng_state`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::backend::{random_state, set_random_state};
///
/// let state = random_state(Device::Cpu)?;
/// let first = Tensor::randn([4], (Kind::Float, Device::Cpu));
/// set_random_state(Device::Cpu, &state)?;
/// assert_eq!(Tensor::randn([4], (Kind::Float, Device::Cpu)), first);
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When the device is not there.
pub fn random_state(device: Device) -> Result<Tensor> {
    check(device)?;
    native::random_state(device)
}

/// Puts back what [`random_state`] returned for the same kind of device. A copy of it on
/// another device will do.
///
/// # Errors
/// When the device is not there, or `state` is none of it; then nothing is changed.
pub fn set_random_state(device: Device, state: &Tensor) -> Result<()> {
    check(device)?;
    let bytes = state.defined() && state.f_kind()? == Kind::Uint8 && state.dim() == 1;
    if !bytes || state.is_sparse() {
        let got = if state.defined() {
            format!("{:?} {:?}", state.f_kind()?, state.size())
        } else {
            "an undefined tensor".to_owned()
        };
        let expected = "a row of bytes, as `random_state` gives";
        return Err(Error::shape("random state", expected, got));
    }
    native::set_random_state(device, state)
}

/// What a GPU's allocator has given out, in bytes.
///
/// libtorch keeps what is freed for later tensors, so `reserved` is what other programs
/// see as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryStatistics {
    /// In tensors now.
    pub allocated: u64,
    /// Most in tensors since the start, or [`reset_peak_memory`].
    pub peak_allocated: u64,
    /// Taken from the device now.
    pub reserved: u64,
    /// Most taken from the device since the start, or [`reset_peak_memory`].
    pub peak_reserved: u64,
    /// How often memory ran out and what was kept for later had to be given back first.
    pub allocation_retries: u64,
}

/// How much memory of a CUDA device is in use by this process: the figures of
/// `torch.cuda.memory_allocated` and its like.
///
/// ```
/// use tch::Device;
/// use textbrewer::backend::{memory, reset_peak_memory};
///
/// match Device::cuda_if_available() {
///     // The operating system counts for the CPU, libtorch does not.
///     Device::Cpu => assert!(memory(Device::Cpu).is_err()),
///     device => {
///         reset_peak_memory(device)?;
///         let statistics = memory(device)?;
///         assert!(statistics.allocated <= statistics.peak_allocated);
///     }
/// }
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When the device is not there, or is no CUDA device.
pub fn memory(device: Device) -> Result<MemoryStatistics> {
    check_counts(device)?;
    let memory = native::memory(device)?;
    let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(MemoryStatistics {
        allocated: bytes(memory.allocated),
        peak_allocated: bytes(memory.peak_allocated),
        reserved: bytes(memory.reserved),
        peak_reserved: bytes(memory.peak_reserved),
        allocation_retries: bytes(memory.allocation_retries),
    })
}

/// Makes the peaks in [`memory`] what is in use now.
///
/// # Errors
/// When the device is not there, or is no CUDA device.
pub fn reset_peak_memory(device: Device) -> Result<()> {
    check_counts(device)?;
    native::reset_peak_memory(device)
}

/// Waits until a device has done all that it was given. On the CPU everything is done
/// already.
///
/// ```
/// textbrewer::backend::synchronize(tch::Device::cuda_if_available())?;
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When the device is not there, or something that it was given has failed.
pub fn synchronize(device: Device) -> Result<()> {
    check(device)?;
    native::synchronize(device)
}

/// Lets the C library keep memory that was freed, for the next step to use again, instead of
/// returning it to the system and having it zeroed page by page when it is asked for anew.
/// Returns whether it could be told: glibc can.
///
/// A training step on the CPU allocates and frees the same large tensors over and over; this
/// makes one of BERT-base about a tenth faster (see `docs/performance.md`), for some more
/// memory. It is for the whole process, so a program chooses, at its start; the library does
/// not. Memory of a GPU is kept by libtorch itself.
///
/// ```
/// if !textbrewer::backend::keep_freed_memory()? {
///     eprintln!("this C library always returns memory to the system");
/// }
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// None is known; the C++ side could report one.
pub fn keep_freed_memory() -> Result<bool> {
    native::keep_freed_memory()
}

fn check(device: Device) -> Result<()> {
    match device::absent(device) {
        None => Ok(()),
        Some(reason) => Err(Error::config("device", reason)),
    }
}

fn check_counts(device: Device) -> Result<()> {
    check(device)?;
    if device.is_cuda() {
        return Ok(());
    }
    let reason = format!(
        "libtorch keeps none for `{}`, only for CUDA devices",
        device::name(device)
    );
    Err(Error::config("memory statistics", reason))
}
