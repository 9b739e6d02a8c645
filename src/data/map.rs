//! Batches that are converted on the way.

use std::fmt;

use crate::Result;

use super::DataLoader;

/// What [`DataLoader::map`] returns.
pub struct Map<L, F> {
    loader: L,
    convert: F,
}

impl<L, F> Map<L, F> {
    pub(super) fn new(loader: L, convert: F) -> Self {
        Map { loader, convert }
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

    fn epoch<'a>(&'a mut self, epoch: u64) -> Result<Box<dyn Iterator<Item = Result<B>> + 'a>> {
        let batches = self.loader.epoch(epoch)?;
        Ok(Box::new(batches.map(|batch| (self.convert)(batch?))))
    }
}

impl<L: fmt::Debug, F> fmt::Debug for Map<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("loader", &self.loader)
            .finish_non_exhaustive()
    }
}
