//! Process-wide settings and state of libtorch: the precision of float32 matrix products, random
//! number generators, and memory statistics.

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
    /// In float32, libtorch's default.
    #[default]
    Highest,
    /// In TensorFloat32 (10 bits of mantissa) where the device supports it.
    High,
    /// In bfloat16 (8 bits) where that is faster, else as `High`.
    Medium,
}

/// Sets how float32 matrix products are computed from now on, as
/// `torch.set_float32_matmul_precision` does.
///
/// Inputs and results stay float32. Convolutions have their own switch: [`allow_tf32`]. Some
/// losses compute sums as matrix products, so they are affected too.
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
/// The first is the same as [`set_matmul_precision`] with `High` or `Highest`, and the only
/// effect on a machine without CUDA.
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

/// The state of a device's random number generator, as bytes, like `torch.get_rng_state`.
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

/// Restores what [`random_state`] returned for the same kind of device. The tensor itself may be
/// on any device.
///
/// # Errors
/// When the device is not there, or `state` does not fit it; then nothing is changed.
pub fn set_random_state(device: Device, state: &Tensor) -> Result<()> {
    check(device)?;
    let bytes = state.defined() && state.f_kind()? == Kind::Uint8 && state.dim() == 1;
    if !bytes || state.is_sparse() {
        let got = if state.defined() {
            format!("{:?} {:?}", state.f_kind()?, state.size())
        } else {
            "an undefined tensor".to_owned()
        };
        let expected = "a row of bytes, as `random_state` returns";
        return Err(Error::shape("random state", expected, got));
    }
    native::set_random_state(device, state)
}

/// Memory of a GPU allocated by this process, in bytes.
///
/// libtorch keeps freed memory for later tensors, so `reserved` is what other programs see as
/// used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryStatistics {
    /// Currently used by tensors.
    pub allocated: u64,
    /// Peak of `allocated` since the start, or [`reset_peak_memory`].
    pub peak_allocated: u64,
    /// Currently reserved on the device.
    pub reserved: u64,
    /// Peak of `reserved` since the start, or [`reset_peak_memory`].
    pub peak_reserved: u64,
    /// How often memory ran out and freed memory had to be returned to the device first.
    pub allocation_retries: u64,
}

/// The memory of a CUDA device used by this process, as `torch.cuda.memory_allocated` and its
/// relatives report it.
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

/// Resets the peaks in [`memory`] to what is in use now.
///
/// # Errors
/// When the device is not there, or is no CUDA device.
pub fn reset_peak_memory(device: Device) -> Result<()> {
    check_counts(device)?;
    native::reset_peak_memory(device)
}

/// Waits until a device has finished all operations. On the CPU they are always finished.
///
/// ```
/// textbrewer::backend::synchronize(tch::Device::cuda_if_available())?;
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When the device is not there, or one of its operations has failed.
pub fn synchronize(device: Device) -> Result<()> {
    check(device)?;
    native::synchronize(device)
}

/// Lets the C library keep freed memory for later use, instead of returning it to the system,
/// which zeroes it page by page when it is allocated again. Returns whether the C library
/// supports this; glibc does.
///
/// A training step on the CPU allocates and frees the same large tensors over and over. This
/// makes a step of BERT-base about a tenth faster (`docs/book/src/performance.md`) and uses somewhat
/// more memory. It affects the whole process, so the library never does it by itself: call it at
/// the start of a program. GPU memory is kept by libtorch in any case.
///
/// ```
/// if !textbrewer::backend::keep_freed_memory()? {
///     eprintln!("this C library always returns memory to the system");
/// }
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// None is known; an exception in C++ would be returned.
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
