//! libtorch's random generators at three moments of a run.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::ranks::{Ranks, of_rank};
use crate::backend;
use crate::error::{Error, Result};
use crate::logging;

/// The generators' states at one moment, by device.
#[derive(Debug, Default)]
struct Moment(BTreeMap<String, Tensor>);

/// The generators' states when the run began, when its epoch began, and now.
///
/// The first two are for loaders that draw random numbers from libtorch: in a resumed run they
/// draw the same again. They are those of the first rank on all ranks, which then have the same
/// data; dropout draws on from each rank's own.
#[derive(Debug)]
pub(super) struct Random<'a> {
    ranks: Ranks<'a>,
    devices: Vec<Device>,
    run: Moment,
    epoch: Moment,
}

const RUN: &str = "run";
const EPOCH: &str = "epoch";
const NOW: &str = "now";

impl<'a> Random<'a> {
    /// For a run on this device that begins now.
    pub(super) fn new(device: Device, ranks: Ranks<'a>) -> Result<Self> {
        let mut devices = vec![Device::Cpu];
        // No other kind of device has a generator of its own.
        if matches!(device, Device::Cuda(_) | Device::Mps) {
            devices.push(device);
        }
        let mut random = Random {
            ranks,
            devices,
            run: Moment::default(),
            epoch: Moment::default(),
        };
        random.run = random.now()?;
        random.of_first(&random.run)?;
        random.epoch = random.now()?;
        random.diverge(&random.run)?;
        Ok(random)
    }

    pub(super) fn ranks(&self) -> Ranks<'a> {
        self.ranks
    }

    /// Writes the first rank's state into that of all ranks.
    fn of_first(&self, own: &Moment) -> Result<()> {
        let states: Vec<_> = own.0.values().map(Tensor::shallow_clone).collect();
        self.ranks.copy_from_first("random numbers", &states)
    }

    /// Gives each rank random numbers of its own, which follow from those that the first has now;
    /// that one keeps its own.
    fn diverge(&self, of_first: &Moment) -> Result<()> {
        if self.ranks.is_first() {
            return Ok(());
        }
        let mut hash = crc32fast::Hasher::new();
        for state in of_first.0.values() {
            hash.update(&Vec::<u8>::try_from(&state.f_flatten(0, -1)?)?);
        }
        let rank = self.ranks.rank() as i64;
        tch::manual_seed((i64::from(hash.finalize()) << 24) + rank);
        Ok(())
    }

    fn now(&self) -> Result<Moment> {
        let of = |device: &Device| Ok((name(*device), backend::random_state(*device)?));
        Ok(Moment(self.devices.iter().map(of).collect::<Result<_>>()?))
    }

    /// Does what starts an epoch with the random numbers of the first rank. The others go on with
    /// their own afterwards.
    pub(super) fn begin_epoch(&mut self, start: impl FnOnce() -> Result<()>) -> Result<()> {
        self.epoch = self.now()?;
        if self.ranks.world_size() == 1 {
            return start();
        }
        let own = self.now()?;
        self.of_first(&self.epoch)?;
        if self.ranks.is_first() {
            return start();
        }
        self.set(&self.epoch)?;
        start()?;
        self.set(&own)
    }

    /// All three, for a checkpoint, with those of the other ranks.
    pub(super) fn saved_state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.state()?;
        let now = name_of(NOW, "");
        let own = state.iter().filter(|(name, _)| name.starts_with(&now));
        let own = own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        state.extend(self.ranks.gather(own.collect())?);
        Ok(state)
    }

    /// All three, of this rank.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let now = self.now()?;
        let mut state = BTreeMap::new();
        for (moment, states) in [(RUN, &self.run), (EPOCH, &self.epoch), (NOW, &now)] {
            for (device, tensor) in &states.0 {
                state.insert(name_of(moment, device), tensor.shallow_clone());
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
            let tensor = state.get(&name_of(moment, &device));
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

    /// Restores the third from a checkpoint: this rank's own, or one made of the first rank's where
    /// fewer processes trained before.
    pub(super) fn resume(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.return_to(state)?;
        let own = self.devices.iter().filter_map(|device| {
            let device = name(*device);
            let own = state.get(&of_rank(self.ranks.rank(), &name_of(NOW, &device)))?;
            Some((device, own.shallow_clone()))
        });
        let own = Moment(own.collect());
        match own.0.is_empty() {
            true => self.diverge(&self.moment(NOW, state)),
            false => self.set(&own),
        }
    }

    /// Returns to what [`state`](Self::state) gave.
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

fn name_of(moment: &str, device: &str) -> String {
    format!("{moment}.{device}")
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
