//! libtorch's random generators at three moments of a run.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::backend;
use crate::error::{Error, Result};
use crate::logging;

/// The generators' states at one moment, by device.
#[derive(Debug, Default)]
struct Moment(BTreeMap<String, Tensor>);

/// The generators' states when the run began, when its epoch began, and now.
///
/// The first two are for loaders that draw random numbers from libtorch: in a resumed run they
/// draw the same again.
#[derive(Debug)]
pub(super) struct Random {
    devices: Vec<Device>,
    run: Moment,
    epoch: Moment,
}

const RUN: &str = "run";
const EPOCH: &str = "epoch";
const NOW: &str = "now";

impl Random {
    /// For a run on this device that begins now.
    pub(super) fn new(device: Device) -> Result<Self> {
        let mut devices = vec![Device::Cpu];
        // No other kind of device has a generator of its own.
        if matches!(device, Device::Cuda(_) | Device::Mps) {
            devices.push(device);
        }
        let mut random = Random {
            devices,
            run: Moment::default(),
            epoch: Moment::default(),
        };
        random.run = random.now()?;
        random.begin_epoch()?;
        Ok(random)
    }

    fn now(&self) -> Result<Moment> {
        let of = |device: &Device| Ok((name(*device), backend::random_state(*device)?));
        Ok(Moment(self.devices.iter().map(of).collect::<Result<_>>()?))
    }

    pub(super) fn begin_epoch(&mut self) -> Result<()> {
        self.epoch = self.now()?;
        Ok(())
    }

    /// All three, for a checkpoint.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let now = self.now()?;
        let mut state = BTreeMap::new();
        for (moment, states) in [(RUN, &self.run), (EPOCH, &self.epoch), (NOW, &now)] {
            for (device, tensor) in &states.0 {
                state.insert(format!("{moment}.{device}"), tensor.shallow_clone());
            }
        }
        Ok(state)
    }

    /// Takes the first two from a checkpoint.
    pub(super) fn load(&mut self, state: &BTreeMap<String, Tensor>) {
        self.run = self.moment(RUN, state);
        self.epoch = self.moment(EPOCH, state);
    }

    fn moment(&self, moment: &str, state: &BTreeMap<String, Tensor>) -> Moment {
        let names = self.devices.iter().map(|device| name(*device));
        let found = names.filter_map(|device| {
            let tensor = state.get(&format!("{moment}.{device}"));
            if tensor.is_none() {
                logging::warn(format_args!(
                    "the checkpoint has no random state of {device}; the run continues \
                     with other random numbers"
                ));
            }
            Some((device, tensor?.shallow_clone()))
        });
        Moment(found.collect())
    }

    pub(super) fn return_to_run(&self) -> Result<()> {
        self.set(&self.run)
    }

    pub(super) fn return_to_epoch(&self) -> Result<()> {
        self.set(&self.epoch)
    }

    /// Restores the third from a checkpoint.
    pub(super) fn return_to(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.set(&self.moment(NOW, state))
    }

    fn set(&self, moment: &Moment) -> Result<()> {
        for device in &self.devices {
            if let Some(state) = moment.0.get(&name(*device)) {
                backend::set_random_state(*device, state)
                    .map_err(|error: Error| error.at("random.safetensors"))?;
            }
        }
        Ok(())
    }
}

/// All GPUs have one name: a run may be resumed on another GPU.
fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    }
    .to_owned()
}
