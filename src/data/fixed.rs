//! The same batches in every epoch.

use std::fmt;

use tch::Device;

use crate::batch::Batch;
use crate::error::Result;

use super::{DataLoader, Shard, Sharded, Uneven, VecLoader, not_started};

/// What [`DataLoader::fixed`] returns: the batches of the loader's epoch 1 in every epoch.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, Fixed, FnLoader};
///
/// let mut times_read = 0;
/// let mut loader: Fixed<_> = FnLoader::new(|_epoch| {
///     times_read += 1;
///     Ok((0..3i64).map(|number| Ok(Tensor::from(number))))
/// })
/// .fixed();
/// for epoch in 1..=2 {
///     assert_eq!(loader.epoch(epoch)?.count(), 3);
/// }
/// drop(loader);
/// assert_eq!(times_read, 1);
/// # textbrewer::Result::Ok(())
/// ```
pub struct Fixed<L: DataLoader> {
    /// Batches are dealt out before they are collected, so that only this process's are kept.
    loader: Sharded<L>,
    seed: Option<u64>,
    collected: Option<VecLoader<L::Batch>>,
    /// Whose share they are.
    collected_for: Shard,
}

impl<L: DataLoader> Fixed<L> {
    pub(super) fn new(loader: L) -> Self {
        Fixed {
            loader: Sharded::as_it_is(loader),
            seed: None,
            collected: None,
            collected_for: Shard::ALL,
        }
    }
}

impl<L> Fixed<L>
where
    L: DataLoader,
    L::Batch: Batch,
{
    /// Shuffles the batches anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.collected = self.collected.map(|batches| batches.shuffle(seed));
        self
    }

    fn collect(&mut self) -> Result<VecLoader<L::Batch>> {
        // One more than announced, so that an endless loader is detected.
        let limit = self.loader.num_batches();
        let limit = limit.map_or(usize::MAX, |n| n.saturating_add(1));
        // Epoch 1 whichever is asked for, so that a resumed run gets the batches that it had.
        let collected = self.loader.epoch(1)?.take(limit);
        let collected = collected.map(|batch| batch?.to_device(Device::Cpu));
        let collected = collected.collect::<Result<Vec<_>>>()?;
        let keeps = |shard: Shard| shard.uneven() == Uneven::Keep && shard.world_size() > 1;
        let batches = match self.loader.share().is_some_and(keeps) {
            // Then a process may have none.
            true => VecLoader::or_empty(collected),
            false => VecLoader::new(collected)?,
        };
        // The order of an epoch depends on its number, the seed and the number of batches alone. All
        // ranks have these in common, unless it is `Uneven::Keep`, so the k-th batches of all
        // ranks belong to one step after the shuffle too, as they did when they were collected.
        Ok(match self.seed {
            Some(seed) => batches.shuffle(seed),
            None => batches,
        })
    }
}

impl<L> DataLoader for Fixed<L>
where
    L: DataLoader,
    L::Batch: Batch,
{
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        match &self.collected {
            None => self.loader.num_batches(),
            Some(batches) => batches.num_batches(),
        }
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        let of = self.loader.share().unwrap_or(Shard::ALL);
        let mut batches = match self.collected.take() {
            Some(batches) if self.collected_for == of => batches,
            _ => self.collect()?,
        };
        self.collected_for = of;
        batches.start_epoch(epoch)?;
        self.collected = Some(batches);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<L::Batch>> {
        let batches = self.collected.as_mut().ok_or_else(not_started)?;
        batches.next_batch()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        let collected = self.collected.as_mut().ok_or_else(not_started)?;
        collected.skip(batches)
    }

    /// Only the batches of the share are collected. They stay until an epoch of another share is
    /// begun: a run may ask for all of them in between.
    fn take_share(&mut self, shard: Shard) -> bool {
        self.loader.take_share(shard);
        true
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        self.collected.as_ref().and_then(VecLoader::batch_id)
    }
}

impl<L: DataLoader + fmt::Debug> fmt::Debug for Fixed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed")
            .field("loader", &self.loader)
            .field("is_collected", &self.collected.is_some())
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
