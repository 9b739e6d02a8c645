//! The same batches in every epoch.

use std::fmt;

use tch::Device;

use crate::batch::Batch;
use crate::error::Result;

use super::order::Order;
use super::{DataLoader, advance, not_started};

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
    loader: L,
    batches: Vec<L::Batch>,
    seed: Option<u64>,
    rest: Option<std::vec::IntoIter<usize>>,
    last: Option<u64>,
}

impl<L: DataLoader> Fixed<L> {
    pub(super) fn new(loader: L) -> Self {
        Fixed {
            loader,
            batches: Vec::new(),
            seed: None,
            rest: None,
            last: None,
        }
    }

    /// Shuffles the batches anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl<L> DataLoader for Fixed<L>
where
    L: DataLoader,
    L::Batch: Batch,
{
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        match self.batches.len() {
            0 => self.loader.num_batches(),
            count => Some(count),
        }
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.rest = None;
        if self.batches.is_empty() {
            // One more than announced, so that an endless loader is detected.
            let limit = self
                .loader
                .num_batches()
                .map_or(usize::MAX, |n| n.saturating_add(1));
            // Epoch 1 whichever is asked for, so that a resumed run gets the batches that it had.
            let collected = self.loader.epoch(1)?.take(limit);
            let collected = collected.map(|batch| batch?.to_device(Device::Cpu));
            self.batches = collected.collect::<Result<_>>()?;
        }
        let mut order = Order::new("batches", self.batches.len())?;
        order.seed = self.seed;
        self.rest = Some(order.indices(epoch).into_iter());
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<L::Batch>> {
        let index = self.rest.as_mut().ok_or_else(not_started)?.next();
        self.last = index.map(|index| index as u64);
        let batch = index.and_then(|index| self.batches.get(index));
        batch.map(|batch| batch.to_device(Device::Cpu)).transpose()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}

impl<L: DataLoader + fmt::Debug> fmt::Debug for Fixed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed")
            .field("loader", &self.loader)
            .field("batches", &self.batches.len())
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
