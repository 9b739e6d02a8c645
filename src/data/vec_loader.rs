//! Batches in a vector.

use tch::Device;

use crate::batch::Batch;
use crate::error::Result;

use super::order::Order;
use super::shard::{Shard, Uneven};
use super::{DataLoader, advance, not_started};

/// Yields the batches of a vector, in their order or shuffled.
///
/// The batches stay in the vector; what is yielded comes from [`Batch::to_device`], which
/// shares tensors that are already on the device. The device is the CPU unless
/// [`device`](Self::device) names another. Training moves the batches on from there.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, VecLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let batches = (0..4).map(|i| Tensor::from_slice(&[i, i + 1])).collect();
/// let mut loader = VecLoader::new(batches)?.shuffle(42);
/// assert_eq!(loader.num_batches(), Some(4));
/// assert_eq!(loader.epoch(1)?.count(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VecLoader<B> {
    batches: Vec<B>,
    order: Order,
    shard: Shard,
    rest: Option<std::vec::IntoIter<usize>>,
    device: Device,
    last: Option<u64>,
}

impl<B: Batch> VecLoader<B> {
    /// A loader of `batches`.
    ///
    /// # Errors
    /// When there are no batches.
    pub fn new(batches: Vec<B>) -> Result<Self> {
        Ok(VecLoader {
            order: Order::new("batches", batches.len())?,
            ..VecLoader::or_empty(batches)
        })
    }

    /// A loader of batches that may be none.
    pub(super) fn or_empty(batches: Vec<B>) -> Self {
        VecLoader {
            order: Order {
                len: batches.len(),
                seed: None,
            },
            shard: Shard::ALL,
            rest: None,
            batches,
            device: Device::Cpu,
            last: None,
        }
    }

    /// Shuffles the batches anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order.seed = Some(seed);
        self
    }

    /// Sets the device that the batches are on, so that they are not copied from it.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }
}

impl<B: Batch> DataLoader for VecLoader<B> {
    type Batch = B;

    fn num_batches(&self) -> Option<usize> {
        Some(self.shard.batches_of(self.order.len as u64) as usize)
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.rest = None;
        let (shard, len) = (self.shard, self.order.len);
        if shard.uneven() == Uneven::Drop && len < shard.world_size() {
            return Err(shard.no_batch("batches", len));
        }
        let mut indices = self.order.indices(epoch);
        if shard.world_size() > 1 {
            let batches = shard.batches_of(len as u64) as usize;
            // Padding goes on at the beginning of the epoch.
            let places = (0..batches).map(|n| (n * shard.world_size() + shard.rank()) % len);
            indices = places
                .filter_map(|place| indices.get(place).copied())
                .collect();
        }
        self.rest = Some(indices.into_iter());
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        let index = self.rest.as_mut().ok_or_else(not_started)?.next();
        self.last = index.map(|index| index as u64);
        let batch = index.and_then(|index| self.batches.get(index));
        batch.map(|batch| batch.to_device(self.device)).transpose()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }

    /// Of each `world_size` batches, the one of the rank. They keep the numbers that they have in
    /// the vector.
    fn take_share(&mut self, shard: Shard) -> bool {
        self.shard = shard;
        self.rest = None;
        true
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}
