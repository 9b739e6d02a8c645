//! The batches of a run, epoch by epoch.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::position::Position;
use super::random::Random;
use crate::batch::Batch;
use crate::data::DataLoader;
use crate::error::{Error, Result};

/// The loader as the run uses it: postprocessed, and kept where teacher outputs are cached.
pub(super) type Feed<'a, B> = Box<dyn DataLoader<Batch = B> + 'a>;

/// The batches of a run, epoch by epoch, and the random numbers that they are made with.
pub(super) struct Epochs<'a, B> {
    feed: Feed<'a, B>,
    /// The device on which the models want their batches.
    device: Device,
    /// The number of batches that every epoch must have, where it is known. With several ranks one
    /// of another length would train when the others begin the next epoch.
    expected: Option<u64>,
    random: Random<'a>,
}

impl<'a, B: Batch> Epochs<'a, B> {
    pub(super) fn new(
        feed: Feed<'a, B>,
        device: Device,
        expected: Option<u64>,
        random: Random<'a>,
    ) -> Self {
        Epochs {
            feed,
            device,
            expected,
            random,
        }
    }

    /// Starts the next epoch.
    pub(super) fn begin(&mut self, at: &mut Position) -> Result<()> {
        at.epoch += 1;
        at.batch = 0;
        let feed = &mut self.feed;
        self.random.begin_epoch(|| {
            let started = feed.start_epoch(at.epoch);
            started.map_err(|error| data_error(at.epoch, 0, error))
        })
    }

    /// Returns to a position inside an epoch, with the random state of that moment.
    pub(super) fn resume(
        &mut self,
        at: &Position,
        random: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let failed = |batch: u64| move |error| data_error(at.epoch, batch, error);
        self.random.load(random);
        if at.epoch > 1 {
            // Loaders that keep their batches collect them when they are first started, and
            // may have drawn random numbers for it. The interrupted epoch stands in for the
            // first, whose data may no longer be there.
            self.random.return_to_run()?;
            self.feed.start_epoch(at.epoch).map_err(failed(0))?;
        }
        self.random.return_to_epoch()?;
        self.feed.start_epoch(at.epoch).map_err(failed(0))?;
        let skipped = self.feed.skip(at.batch).map_err(failed(at.batch))?;
        if skipped < at.batch {
            let reason = format!(
                "the loader gave only {skipped} batches of the {} that the run had of this \
                 epoch when it was interrupted; give it the data that it had",
                at.batch
            );
            return Err(failed(skipped)(Error::other(reason)));
        }
        self.random.resume(random)
    }

    /// The next batch of the epoch, on the device; `None` at its end.
    pub(super) fn next_batch(&mut self, at: &mut Position) -> Result<Option<B>> {
        let batch = self.feed.next_batch().and_then(|batch| {
            let batch = batch.map(|batch| batch.to_device(self.device));
            batch.transpose()
        });
        let batch = batch.map_err(|error| data_error(at.epoch, at.batch, error))?;
        if self.expected.is_none() {
            self.check_others(at, batch.is_some())?;
        }
        let Some(batch) = batch else {
            self.check_length(at)?;
            return Ok(None);
        };
        if self.expected == Some(at.batch) {
            return Err(wrong_length(at, at.batch, "more"));
        }
        at.batch += 1;
        Ok(Some(batch))
    }

    /// The number of the batch that was given last, where the loader knows one.
    pub(super) fn batch_id(&self) -> Option<u64> {
        self.feed.batch_id()
    }

    /// The state of the random generators of all ranks, for a checkpoint.
    pub(super) fn saved_random_state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.random.saved_state()
    }

    /// The state of the random generators of this rank.
    pub(super) fn random_state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.random.state()
    }

    /// Returns to what [`random_state`](Self::random_state) gave.
    pub(super) fn return_to(&self, random: &BTreeMap<String, Tensor>) -> Result<()> {
        self.random.return_to(random)
    }

    /// Fails in all ranks if an epoch of unknown length is over in some of them only.
    fn check_others(&self, at: &Position, is_here: bool) -> Result<()> {
        let ranks = self.random.ranks();
        if ranks.world_size() == 1 {
            return Ok(());
        }
        let have = ranks.each("the next batch", is_here)?;
        let of = |wanted| have.iter().position(|has| *has == wanted);
        let (Some(has), Some(ended)) = (of(true), of(false)) else {
            return Ok(());
        };
        let reason = format!(
            "process {has} has another batch and process {ended} is at the end of the epoch; give \
             all of them the same data, and a loader that the run shares out"
        );
        Err(data_error(at.epoch, at.batch, Error::other(reason)))
    }

    fn check_length(&self, at: &Position) -> Result<()> {
        match self.expected {
            _ if at.batch == 0 => Err(no_batch(at.epoch)),
            Some(expected) if at.batch < expected => {
                let gave = format!("only {}", at.batch);
                Err(wrong_length(at, expected, &gave))
            }
            _ => Ok(()),
        }
    }
}

/// An error of the loader, after `batches` batches of an epoch that is counted from 1.
fn data_error(epoch: u64, batches: u64, error: Error) -> Error {
    Error::Data {
        epoch,
        batch: batches + 1,
        source: Box::new(error),
    }
}

/// The loader had nothing to give.
pub(super) fn no_batch(epoch: u64) -> Error {
    let reason = "the loader has no batch; is the data set empty, smaller than a batch with `drop_last`, or than \
         the number of processes with `Uneven::Drop`?";
    data_error(epoch, 0, Error::other(reason))
}

fn wrong_length(at: &Position, announced: u64, gave: &str) -> Error {
    let reason = format!("the loader announced {announced} batches and gave {gave}");
    data_error(at.epoch, at.batch, Error::other(reason))
}
