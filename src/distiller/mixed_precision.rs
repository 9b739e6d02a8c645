//! Precision of a forward pass, and of the adaptor after it.

use tch::Device;

use crate::config::{Precision, TrainingConfig};
use crate::error::{Result, Side};
use crate::native::{Autocast, Widening};

/// The precision and device of a forward pass. Its adaptor computes in `float32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixedPrecision {
    precision: Precision,
    device: Device,
}

impl Default for MixedPrecision {
    fn default() -> Self {
        MixedPrecision {
            precision: Precision::Float32,
            device: Device::Cpu,
        }
    }
}

impl MixedPrecision {
    pub(crate) fn new(precision: Precision, device: Device) -> Self {
        MixedPrecision { precision, device }
    }

    /// Where the batches are.
    pub(super) fn device(self) -> Device {
        self.device
    }

    pub(super) fn of(config: &TrainingConfig, side: Side) -> Self {
        MixedPrecision {
            precision: config.precision_of(side),
            device: config.device,
        }
    }

    /// Runs `forward`. In `float32` the model decides alone: its weights may be in another
    /// type, and it may use autocast itself.
    pub(super) fn run<O>(self, forward: impl FnOnce() -> Result<O>) -> Result<O> {
        if self.precision == Precision::Float32 {
            return forward();
        }
        let _autocast = Autocast::enter(self.device, self.precision.kind())?;
        forward()
    }

    /// Runs an adaptor on what the model said. The model's output is of a type of the user's, in
    /// which tensors of 16 bits cannot be found; so each is widened where something is computed of
    /// it, and hidden states that nobody looks at are not copied.
    pub(super) fn adapt<O>(self, adaptor: impl FnOnce() -> Result<O>) -> Result<O> {
        if self.precision == Precision::Float32 {
            return adaptor();
        }
        let _widening = Widening::enter()?;
        adaptor()
    }
}
