//! Converting the batches of a loader.

use std::fmt;

use crate::error::Result;
use crate::ids::Ids;

use super::{DataLoader, Shard};

/// What [`DataLoader::map`] returns.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, VecLoader};
///
/// let batches = (1..=3i64).map(Tensor::from).collect();
/// let mut loader = VecLoader::new(batches)?.map(|batch| Ok(batch.f_square()?));
/// assert_eq!(loader.num_batches(), Some(3));
/// loader.start_epoch(1)?;
/// loader.next_batch()?;
/// assert_eq!(loader.next_batch()?.map(|batch| batch.int64_value(&[])), Some(4));
/// # textbrewer::Result::Ok(())
/// ```
pub struct Map<L, F> {
    loader: L,
    convert: F,
    /// Whether the latest batch could not be converted.
    failed: bool,
}

impl<L, F> Map<L, F> {
    pub(super) fn new(loader: L, convert: F) -> Self {
        Map {
            loader,
            convert,
            failed: false,
        }
    }
}

impl<L, F, B> DataLoader for Map<L, F>
where
    L: DataLoader,
    F: FnMut(L::Batch) -> Result<B>,
{
    type Batch = B;

    fn num_batches(&self) -> Option<usize> {
        self.loader.num_batches()
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.failed = false;
        self.loader.start_epoch(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        self.failed = false;
        let batch = self.loader.next_batch()?;
        let converted = batch.map(&mut self.convert).transpose();
        self.failed = converted.is_err();
        converted
    }

    /// Skipped batches are not converted.
    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.failed = false;
        self.loader.skip(batches)
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.failed = false;
        self.loader.take_share(shard)
    }

    /// The examples of the batch that was converted.
    fn example_ids(&self) -> Option<Ids> {
        match self.failed {
            true => None,
            false => self.loader.example_ids(),
        }
    }
}

impl<L: fmt::Debug, F> fmt::Debug for Map<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("loader", &self.loader)
            .finish_non_exhaustive()
    }
}
