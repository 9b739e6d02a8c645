//! Loaders behind a reference or in a box.

use crate::error::Result;
use crate::ids::Ids;

use super::{DataLoader, Shard};

impl<L: DataLoader + ?Sized> DataLoader for &mut L {
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        (**self).num_batches()
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        (**self).start_epoch(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<Self::Batch>> {
        (**self).next_batch()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        (**self).skip(batches)
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        (**self).take_share(shard)
    }

    fn keeps_batches(&self) -> bool {
        (**self).keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        (**self).batch_id()
    }

    fn example_ids(&self) -> Option<Ids> {
        (**self).example_ids()
    }
}

impl<L: DataLoader + ?Sized> DataLoader for Box<L> {
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        (**self).num_batches()
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        (**self).start_epoch(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<Self::Batch>> {
        (**self).next_batch()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        (**self).skip(batches)
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        (**self).take_share(shard)
    }

    fn keeps_batches(&self) -> bool {
        (**self).keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        (**self).batch_id()
    }

    fn example_ids(&self) -> Option<Ids> {
        (**self).example_ids()
    }
}
