//! Examples of any type, collated by a closure.

use std::fmt;

use crate::error::Result;
use crate::ids::Ids;

use super::batch_order::{BatchIndices, BatchOrder, Groups};
use super::shard::Shard;
use super::{DataLoader, advance, not_started, places};

/// Yields batches that a closure makes from examples.
///
/// The id of an example is its place in the vector, from 0 ([`with_ids`](DataLoader::with_ids)).
/// Examples with an id of their own need no `with_ids`: `collate` puts it into the batch, as
/// [`Ids`].
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
    /// The length of each example, and how many batches are made of a pool.
    lengths: Option<(Vec<usize>, usize)>,
    rest: Option<BatchIndices>,
    /// The indices of the latest batch.
    latest: Option<Vec<usize>>,
    collate: F,
}

impl<E, F, B> ExampleLoader<E, F>
where
    F: Fn(&[&E]) -> Result<B>,
{
    /// A loader that calls `collate` with `batch_size` examples at a time; the last batch may
    /// have fewer. Of several processes each has so many ([`Shard`]).
    ///
    /// # Errors
    /// When there are no examples, or `batch_size` is 0.
    pub fn new(examples: Vec<E>, batch_size: usize, collate: F) -> Result<Self> {
        Ok(ExampleLoader {
            order: BatchOrder::new("data set", examples.len(), batch_size)?,
            examples,
            lengths: None,
            rest: None,
            latest: None,
            collate,
        })
    }

    /// Shuffles the examples anew in every epoch, from this seed.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order.order.seed = Some(seed);
        self
    }

    /// Groups examples of similar length, so that batches contain little padding. Each pool of
    /// `pool` batches of examples, in the order of the epoch, is sorted by length and cut into
    /// batches; with [`shuffle`](Self::shuffle) the batches are then shuffled.
    ///
    /// A larger pool means less padding, and less randomness in which examples share a batch;
    /// 50 is a good value for sentences. A pool of 0 or 1 sorts only within batches, which
    /// saves nothing. With several processes the batches that are sorted are those of all of them
    /// together, so that all ranks of a step have like lengths.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, ExampleLoader};
    ///
    /// let texts = vec!["a", "a long one", "the", "another one", "an", "the longest of them"];
    /// let longest = |texts: &[&&str]| Ok(texts.iter().map(|text| text.len()).max());
    /// let mut loader = ExampleLoader::new(texts, 3, longest)?.group_by_length(2, |text| text.len());
    /// let lengths: Vec<_> = loader.epoch(1)?.filter_map(|batch| batch.ok().flatten()).collect();
    /// assert_eq!(lengths, [3, 19]);
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn group_by_length(mut self, pool: usize, length: impl Fn(&E) -> usize) -> Self {
        let lengths = self.examples.iter().map(length).collect();
        self.lengths = Some((lengths, pool.max(1)));
        self
    }

    /// Drops the last batch of an epoch if it is not full; of several processes, those of a step that
    /// are not all full.
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
        (self.rest, self.latest) = (None, None);
        self.rest = Some(match &self.lengths {
            Some((lengths, pool)) => {
                let length = |index| lengths.get(index).copied().unwrap_or_default();
                let groups = Groups {
                    length: &length,
                    pool: *pool,
                };
                self.order.batches(epoch, Some(groups))?
            }
            None => self.order.batches(epoch, None)?,
        });
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        self.latest = None;
        let Some(indices) = self.rest.as_mut().ok_or_else(not_started)?.next() else {
            return Ok(None);
        };
        let pick = |&index: &usize| self.examples.get(index);
        let examples: Vec<&E> = indices.iter().filter_map(pick).collect();
        let batch = (self.collate)(&examples)?;
        self.latest = Some(indices);
        Ok(Some(batch))
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.latest = None;
        let rest = self.rest.as_mut().ok_or_else(not_started)?;
        Ok(advance(rest, batches))
    }

    /// Of each `world_size × batch_size` examples, those of the rank.
    fn take_share(&mut self, shard: Shard) -> bool {
        self.order.shard = shard;
        self.rest = None;
        self.latest = None;
        true
    }

    /// Their places in the vector.
    fn example_ids(&self) -> Option<Ids> {
        self.latest.as_deref().map(places)
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
