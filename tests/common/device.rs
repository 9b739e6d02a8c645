//! Where the tests that can run on a device run.

use tch::{Device, Tensor};
use textbrewer::config::parse_device;

/// `TEXTBREWER_TEST_DEVICE`, as a configuration writes a device, or the CPU.
pub fn device() -> Device {
    match std::env::var("TEXTBREWER_TEST_DEVICE") {
        Ok(name) => parse_device(&name).unwrap_or_else(|error| panic!("{error}")),
        Err(_) => Device::Cpu,
    }
}

/// Whether bits are promised to be the same in every run; elsewhere kernels may add numbers in
/// another order each time.
pub fn keeps_bits() -> bool {
    device() == Device::Cpu
}

/// Whether a test is left out on this device, for a reason that is told: `tests/gpu/run` lists it.
pub fn left_out(test: &str, is_left_out: bool, reason: &str) -> bool {
    if is_left_out {
        println!("left out: {test}: {reason}");
    }
    is_left_out
}

/// The numbers of [`super::waves`], on the device.
pub fn waves(shape: &[i64], seed: f64) -> Tensor {
    super::waves(shape, seed).to_device(device())
}
