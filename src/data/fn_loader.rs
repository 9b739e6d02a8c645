//! Batches from any iterator.

use std::fmt;
use std::iter::Fuse;

use crate::error::Result;

use super::{DataLoader, not_started};

/// Yields the batches of an iterator that a closure returns for each epoch.
///
/// The number of batches is unknown unless [`with_num_batches`](Self::with_num_batches) sets it.
/// While it is unknown, a run needs a number of steps instead of epochs.
///
/// A run that is resumed takes the batches that it had from the iterator once more, and throws
/// them away. Work that takes time belongs in [`map`](DataLoader::map) or
/// [`map_in_threads`](DataLoader::map_in_threads), which leave those batches out;
/// [`StreamLoader::seekable`](super::StreamLoader::seekable) can pass over them altogether.
///
/// ```
/// use textbrewer::data::{DataLoader, FnLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let mut loader = FnLoader::new(|epoch| {
///     let lines = format!("first of {epoch}\nsecond of {epoch}");
///     Ok(lines.lines().map(|line| Ok(line.to_owned())).collect::<Vec<_>>().into_iter())
/// });
/// assert_eq!(loader.epoch(3)?.next().unwrap()?, "first of 3");
/// # Ok(())
/// # }
/// ```
pub struct FnLoader<F, I> {
    open: F,
    num_batches: Option<usize>,
    rest: Option<Fuse<I>>,
}

impl<F, I, B> FnLoader<F, I>
where
    F: FnMut(u64) -> Result<I>,
    I: Iterator<Item = Result<B>>,
{
    /// A loader that calls `open` with the number of the epoch, counted from 1.
    pub fn new(open: F) -> Self {
        FnLoader {
            open,
            num_batches: None,
            rest: None,
        }
    }

    /// Sets how many batches every epoch has.
    #[must_use]
    pub fn with_num_batches(mut self, num_batches: usize) -> Self {
        self.num_batches = Some(num_batches);
        self
    }
}

impl<F, I, B> DataLoader for FnLoader<F, I>
where
    F: FnMut(u64) -> Result<I>,
    I: Iterator<Item = Result<B>>,
{
    type Batch = B;

    fn num_batches(&self) -> Option<usize> {
        self.num_batches
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.rest = None;
        self.rest = Some((self.open)(epoch)?.fuse());
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        let batches = self.rest.as_mut().ok_or_else(not_started)?;
        batches.next().transpose()
    }
}

impl<F, I> fmt::Debug for FnLoader<F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnLoader")
            .field("num_batches", &self.num_batches)
            .finish_non_exhaustive()
    }
}
