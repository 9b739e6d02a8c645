//! Batches in a vector.

use tch::Device;

use crate::batch::Batch;
use crate::error::Result;

use super::order::Order;
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
            rest: None,
            batches,
            device: Device::Cpu,
            last: None,
        })
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
        Some(self.batches.len())
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.rest = Some(self.order.indices(epoch).into_iter());
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

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}
