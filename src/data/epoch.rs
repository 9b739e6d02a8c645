//! Iterating over the batches of an epoch.

use std::fmt;
use std::iter::FusedIterator;

use crate::error::Result;

use super::DataLoader;

/// The batches of one epoch: what [`DataLoader::epoch`] returns.
///
/// It ends after the last batch and after an error.
///
/// ```
/// use textbrewer::data::{DataLoader, Epoch, FnLoader};
/// use textbrewer::Error;
///
/// let mut loader = FnLoader::new(|_epoch| {
///     let lines = [Ok("first"), Err(Error::other("not UTF-8")), Ok("third")];
///     Ok(lines.into_iter())
/// });
/// let mut epoch: Epoch<'_, &str> = loader.epoch(1)?;
/// assert_eq!(epoch.next().transpose()?, Some("first"));
/// assert!(epoch.next().is_some_and(|line| line.is_err()));
/// assert!(epoch.next().is_none());
/// # textbrewer::Result::Ok(())
/// ```
pub struct Epoch<'a, B> {
    number: u64,
    // The closure hides the loader's type, so that `epoch` works on trait objects.
    next: Option<Box<dyn FnMut() -> Result<Option<B>> + 'a>>,
}

impl<'a, B> Epoch<'a, B> {
    pub(super) fn start<L>(loader: &'a mut L, epoch: u64) -> Result<Self>
    where
        L: DataLoader<Batch = B> + ?Sized,
    {
        loader.start_epoch(epoch)?;
        Ok(Epoch {
            number: epoch,
            next: Some(Box::new(move || loader.next_batch())),
        })
    }
}

impl<B> Iterator for Epoch<'_, B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        let batch = self.next.as_mut()?().transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.next = None;
        }
        batch
    }
}

impl<B> FusedIterator for Epoch<'_, B> {}

impl<B> fmt::Debug for Epoch<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch")
            .field("number", &self.number)
            .field("ended", &self.next.is_none())
            .finish_non_exhaustive()
    }
}
