//! Where batches come from: vectors of batches, tensors or examples in memory, streams.
//!
//! | data | loader |
//! |---|---|
//! | batches that are ready | [`VecLoader`] |
//! | tensors, one row for each example | [`TensorLoader`] |
//! | examples of any type, such as token ids of several lengths | [`ExampleLoader`] with [`pad_to_longest`] |
//! | a file, a generator, anything else | [`FnLoader`] |
//! | several tasks | [`TaskLoader`] of one loader for each |
//!
//! [`map`](DataLoader::map) converts the batches of any of them, and
//! [`prefetch`](DataLoader::prefetch) makes them ahead in another thread.
//!
//! Shuffled loaders give an order that depends on their seed and the epoch alone, so a
//! training that is resumed at some epoch sees the batches it would have seen.

mod collate;
mod epoch;
mod example_loader;
mod fixed;
mod fn_loader;
mod map;
mod order;
mod prefetch;
mod task_batch;
mod task_loader;
mod task_sampler;
mod tensor_loader;
mod vec_loader;

pub use collate::pad_to_longest;
pub use epoch::Epoch;
pub use example_loader::ExampleLoader;
pub use fixed::Fixed;
pub use fn_loader::FnLoader;
pub use map::Map;
pub use prefetch::Prefetch;
pub use task_batch::TaskBatch;
pub use task_loader::TaskLoader;
pub use tensor_loader::TensorLoader;
pub use vec_loader::VecLoader;

use crate::batch::Batch;
use crate::error::{Error, Result};

/// Gives the batches of each epoch, one at a time.
///
/// Take them with a `for` loop over [`epoch`](Self::epoch), or with
/// [`start_epoch`](Self::start_epoch) and [`next_batch`](Self::next_batch) where several
/// loaders advance side by side. `&mut L` and `Box<L>` of a loader are loaders too.
///
/// A loader of one's own, here one that counts:
///
/// ```
/// use textbrewer::{DataLoader, Result};
///
/// struct Counter {
///     next: u64,
/// }
///
/// impl DataLoader for Counter {
///     type Batch = u64;
///
///     fn num_batches(&self) -> Option<usize> {
///         Some(3)
///     }
///
///     fn start_epoch(&mut self, _epoch: u64) -> Result<()> {
///         self.next = 0;
///         Ok(())
///     }
///
///     fn next_batch(&mut self) -> Result<Option<u64>> {
///         self.next += 1;
///         Ok((self.next <= 3).then_some(self.next))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut loader = Counter { next: 0 };
/// let batches: Vec<u64> = loader.epoch(1)?.collect::<Result<_>>()?;
/// assert_eq!(batches, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
pub trait DataLoader {
    /// What a model is called with.
    type Batch;

    /// How many batches an epoch has, if that is known beforehand.
    fn num_batches(&self) -> Option<usize>;

    /// Begins an epoch; epochs count from 1. Whatever is left of the epoch before is
    /// forgotten.
    ///
    /// # Errors
    /// When there is nothing to give, or the source cannot be opened. Then no epoch is under
    /// way, and it may be tried again.
    fn start_epoch(&mut self, epoch: u64) -> Result<()>;

    /// The next batch of the epoch, or `None` at its end and from then on.
    ///
    /// # Errors
    /// When the batch cannot be made. The loaders of this crate then go on with the batch
    /// after it; others may end the epoch, so a loop should not wait for `None` after an
    /// error. The loaders of this crate also return an error ([`Error::Protocol`]) when no epoch
    /// was begun.
    fn next_batch(&mut self) -> Result<Option<Self::Batch>>;

    /// Passes over the next `batches` batches of the epoch, and says how many there were:
    /// fewer only at its end.
    ///
    /// A run that is resumed begins its epoch anew and passes over what it has had, so this
    /// has to end where [`next_batch`](Self::next_batch) as many times would. As provided it
    /// makes the batches; loaders that can tell what they would be need not.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, VecLoader};
    ///
    /// let mut loader = VecLoader::new((0..5i64).map(Tensor::from).collect())?;
    /// loader.start_epoch(1)?;
    /// assert_eq!(loader.skip(3)?, 3);
    /// assert_eq!(loader.next_batch()?.map(|batch| batch.int64_value(&[])), Some(3));
    /// assert_eq!(loader.skip(3)?, 1);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// As [`next_batch`](Self::next_batch).
    fn skip(&mut self, batches: u64) -> Result<u64> {
        for skipped in 0..batches {
            if self.next_batch()?.is_none() {
                return Ok(skipped);
            }
        }
        Ok(batches)
    }

    /// Begins an epoch and gives its batches, for a `for` loop, which the first error ends.
    ///
    /// # Errors
    /// As [`start_epoch`](Self::start_epoch). An error at one batch is an item of the
    /// iterator.
    fn epoch(&mut self, epoch: u64) -> Result<Epoch<'_, Self::Batch>> {
        Epoch::start(self, epoch)
    }

    /// Whether every epoch has the same batches, which [`batch_id`](Self::batch_id) tells
    /// apart.
    fn keeps_batches(&self) -> bool {
        false
    }

    /// The number of the batch last given, the same in every epoch, if the loader
    /// [keeps its batches](Self::keeps_batches).
    fn batch_id(&self) -> Option<u64> {
        None
    }

    /// A loader that collects the batches of the first epoch in main memory and gives them
    /// in every epoch, in their order or shuffled. Teacher outputs can be kept for its
    /// batches (`is_caching_logits`).
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, TensorLoader};
    ///
    /// let ids = Tensor::from_slice(&[1i64, 2, 3, 4]);
    /// let mut loader = TensorLoader::new(vec![ids], 2)?.shuffle(1).fixed().shuffle(2);
    /// loader.start_epoch(1)?;
    /// let first = (loader.next_batch()?, loader.batch_id());
    /// assert!(loader.keeps_batches() && first.1.is_some());
    /// # textbrewer::Result::Ok(())
    /// ```
    fn fixed(self) -> Fixed<Self>
    where
        Self: Sized,
        Self::Batch: Batch,
    {
        Fixed::new(self)
    }

    /// A loader whose batches have gone through `convert`, for instance from a vector of
    /// tensors to a batch type of one's own.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, TensorLoader};
    /// use textbrewer::Error;
    ///
    /// # fn main() -> textbrewer::Result<()> {
    /// struct Sentences {
    ///     input_ids: Tensor,
    ///     labels: Tensor,
    /// }
    ///
    /// let (input_ids, labels) = (Tensor::from_slice(&[1i64, 2, 3]), Tensor::from_slice(&[0i64, 1, 0]));
    /// let mut loader = TensorLoader::new(vec![input_ids, labels], 2)?.map(|tensors| {
    ///     let [input_ids, labels] = tensors.try_into().map_err(|_| Error::other("two tensors"))?;
    ///     Ok(Sentences { input_ids, labels })
    /// });
    /// for batch in loader.epoch(1)? {
    ///     let batch = batch?;
    ///     assert_eq!(batch.input_ids.size(), batch.labels.size());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn map<F, B>(self, convert: F) -> Map<Self, F>
    where
        Self: Sized,
        F: FnMut(Self::Batch) -> Result<B>,
    {
        Map::new(self, convert)
    }

    /// A loader that makes up to `depth` batches ahead in another thread while the models
    /// are busy; 2 is enough unless some batches take much longer than others. `depth` is at
    /// most 1024; with 0 one batch is made ahead and waits in the thread.
    ///
    /// ```
    /// use textbrewer::data::{pad_to_longest, DataLoader, ExampleLoader};
    ///
    /// # fn main() -> textbrewer::Result<()> {
    /// let sentences = vec![vec![101, 7, 102], vec![101, 102]];
    /// let mut loader = ExampleLoader::new(sentences, 1, |examples: &[&Vec<i64>]| {
    ///     pad_to_longest(examples, 0, None)
    /// })?
    /// .prefetch(2);
    /// assert_eq!(loader.num_batches(), Some(2));
    /// for batch in loader.epoch(1)? {
    ///     let (input_ids, _mask) = batch?;
    ///     assert_eq!(input_ids.size()[0], 1);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn prefetch(self, depth: usize) -> Prefetch<Self>
    where
        Self: Sized + Send + 'static,
        Self::Batch: Send,
    {
        Prefetch::new(self, depth)
    }
}

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

    fn keeps_batches(&self) -> bool {
        (**self).keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        (**self).batch_id()
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

    fn keeps_batches(&self) -> bool {
        (**self).keeps_batches()
    }

    fn batch_id(&self) -> Option<u64> {
        (**self).batch_id()
    }
}

/// Passes over what an iterator has left, at most this much; how much there was.
fn advance(rest: &mut impl Iterator, batches: u64) -> u64 {
    let mut skipped = 0;
    while skipped < batches && rest.next().is_some() {
        skipped += 1;
    }
    skipped
}

/// What the loaders say that are asked for a batch outside of an epoch.
fn not_started() -> Error {
    Error::protocol(
        "data loader",
        "`next_batch` was called before an epoch was begun; call `start_epoch` first",
    )
}
