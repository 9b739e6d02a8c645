//! Ids of the examples beside each batch.

use crate::error::{Error, Result};
use crate::ids::Ids;

use super::{DataLoader, Shard};

/// What [`DataLoader::with_ids`] returns: the ids of the examples and the batch.
///
/// ```
/// use textbrewer::data::{DataLoader, StreamLoader, WithIds};
///
/// let stream = StreamLoader::new(2, |_epoch| Ok("abc".chars().map(Ok)))?;
/// let mut loader: WithIds<_> = stream.shuffle(7, 1000).with_ids();
/// for batch in loader.epoch(1)? {
///     let (ids, letters) = batch?;
///     for (id, letter) in ids.iter().zip(letters) {
///         assert_eq!("abc".chars().nth(*id as usize), Some(letter));
///     }
/// }
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct WithIds<L> {
    loader: L,
}

impl<L> WithIds<L> {
    pub(super) fn new(loader: L) -> Self {
        WithIds { loader }
    }
}

impl<L: DataLoader> DataLoader for WithIds<L> {
    type Batch = (Ids, L::Batch);

    fn num_batches(&self) -> Option<usize> {
        self.loader.num_batches()
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.loader.start_epoch(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<Self::Batch>> {
        let Some(batch) = self.loader.next_batch()? else {
            return Ok(None);
        };
        let ids = self.loader.example_ids().ok_or_else(unknown)?;
        Ok(Some((ids, batch)))
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.loader.skip(batches)
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.loader.take_share(shard)
    }

    fn keeps_batches(&self) -> bool {
        self.loader.keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        self.loader.batch_id()
    }

    fn example_ids(&self) -> Option<Ids> {
        self.loader.example_ids()
    }
}

fn unknown() -> Error {
    Error::protocol(
        "data loader, with_ids",
        "the loader does not know which examples its batch has; call `with_ids` right behind the \
         loader of the examples, before `prefetch`, `map_in_threads` and `fixed`, or put `Ids` \
         into the batch yourself",
    )
}
