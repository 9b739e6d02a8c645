//! Examples of any type, put together by a closure.

use std::fmt;

use crate::Result;

use super::order::{BatchIndices, BatchOrder};
use super::{advance, not_started, DataLoader};

/// Gives batches that a closure makes of a few examples each.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{pad_to_longest, DataLoader, ExampleLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let sentences = vec![(vec![101, 7, 8, 102], 1), (vec![101, 9, 102], 0)];
/// let mut loader = ExampleLoader::new(sentences, 32, |examples: &[&(Vec<i64>, i64)]| {
///     let ids: Vec<_> = examples.iter().map(|example| &example.0).collect();
///     let labels: Vec<_> = examples.iter().map(|example| example.1).collect();
///     let (input_ids, attention_mask) = pad_to_longest(&ids, 0, Some(512))?;
///     Ok((input_ids, attention_mask, Tensor::f_from_slice(&labels)?))
/// })?
/// .shuffle(42);
/// for batch in loader.epoch(1)? {
///     let (input_ids, attention_mask, labels) = batch?;
///     assert_eq!(input_ids.size(), [2, 4]);
/// }
/// # Ok(())
/// # }
/// ```
pub struct ExampleLoader<E, F> {
    examples: Vec<E>,
    order: BatchOrder,
    rest: Option<BatchIndices>,
    collate: F,
}

impl<E, F, B> ExampleLoader<E, F>
where
    F: Fn(&[&E]) -> Result<B>,
{
    /// A loader that calls `collate` with `batch_size` examples at a time, and with what
    /// is left at the end.
    ///
    /// # Errors
    /// When there is no example, or `batch_size` is 0.
    pub fn new(examples: Vec<E>, batch_size: usize, collate: F) -> Result<Self> {
        Ok(ExampleLoader {
            order: BatchOrder::new("data set", examples.len(), batch_size)?,
            examples,
            rest: None,
            collate,
        })
    }

    /// Another order of the examples in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order.order.seed = Some(seed);
        self
    }

    /// Leaves out the last batch of an epoch when it is not full.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.order.drop_last = true;
        self
    }
}

impl<E, F, B> DataLoader for ExampleLoader<E, F>
where
    F: Fn(&[&E]) -> Result<B>,
{
    type Batch = B;

    fn num_batches(&self) -> Option<usize> {
        Some(self.order.num_batches())
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.rest = None;
        self.rest = Some(self.order.batches(epoch)?);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        let Some(indices) = self.rest.as_mut().ok_or_else(not_started)?.next() else {
            return Ok(None);
        };
        let pick = |&index: &usize| self.examples.get(index);
        let examples: Vec<&E> = indices.iter().filter_map(pick).collect();
        (self.collate)(&examples).map(Some)
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }
}

impl<E, F> fmt::Debug for ExampleLoader<E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExampleLoader")
            .field("examples", &self.examples.len())
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}
