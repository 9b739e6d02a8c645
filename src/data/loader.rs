//! What every loader of batches does.

use crate::batch::Batch;
use crate::error::Result;
use crate::ids::Ids;

use super::{Epoch, Fixed, Map, MapInThreads, Prefetch, Shard, Sharded, WithIds};

/// Yields the batches of each epoch, one at a time.
///
/// Get them with a `for` loop over [`epoch`](Self::epoch), or with
/// [`start_epoch`](Self::start_epoch) and [`next_batch`](Self::next_batch) when several
/// loaders advance side by side. `&mut L` and `Box<L>` of a loader are loaders too.
///
/// A custom loader, here one that counts:
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
    /// The input of a model.
    type Batch;

    /// The number of batches in an epoch, if it is known in advance.
    fn num_batches(&self) -> Option<usize>;

    /// Starts an epoch; epochs count from 1. What is left of the previous epoch is dropped.
    ///
    /// # Errors
    /// When there are no batches, or the source cannot be opened. Then no epoch has started,
    /// and the call may be repeated.
    fn start_epoch(&mut self, epoch: u64) -> Result<()>;

    /// The next batch of the epoch; `None` at its end and from then on.
    ///
    /// # Errors
    /// When the batch cannot be made. The loaders of this crate then continue with the next
    /// batch; others may stay where they are, so a loop should end at an error and not wait
    /// for `None`. The loaders of this crate also return an error ([`Error::Protocol`](crate::Error::Protocol)) when no
    /// epoch was started.
    fn next_batch(&mut self) -> Result<Option<Self::Batch>>;

    /// Skips the next `batches` batches of the epoch and returns how many were skipped, which
    /// is less only at the end of the epoch.
    ///
    /// A resumed run starts the interrupted epoch again and skips the batches it had already,
    /// so this must leave the loader in the same place as that many calls of
    /// [`next_batch`](Self::next_batch). The provided implementation makes those calls;
    /// override it if batches can be skipped without making them.
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

    /// Starts an epoch and returns an iterator over its batches, which ends after the first
    /// error.
    ///
    /// # Errors
    /// As [`start_epoch`](Self::start_epoch). An error in a batch is an item of the iterator.
    fn epoch(&mut self, epoch: u64) -> Result<Epoch<'_, Self::Batch>> {
        Epoch::start(self, epoch)
    }

    /// Whether every epoch has the same batches, numbered by [`batch_id`](Self::batch_id).
    fn keeps_batches(&self) -> bool {
        false
    }

    /// The number of the latest batch, which is the same in every epoch, if the loader
    /// [keeps its batches](Self::keeps_batches).
    fn batch_id(&self) -> Option<u64> {
        None
    }

    /// The [`Ids`] of the examples of the latest batch, in their order, if the loader knows them; `None`
    /// after an error, after [`skip`](Self::skip), and at the end of an epoch.
    ///
    /// [`TensorLoader`](super::TensorLoader), [`ExampleLoader`](super::ExampleLoader),
    /// [`LineLoader`](super::LineLoader) and [`StreamLoader`](super::StreamLoader) give the place of each
    /// example in their data. Implement it for a loader of your own that knows its examples: an
    /// example needs the same id in every epoch, in every order and at every batch size. A loader
    /// that forwards to another one forwards this too.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, ExampleLoader};
    ///
    /// let words = |words: &[&&str]| Ok(words.iter().map(|word| **word).collect::<String>());
    /// let mut loader = ExampleLoader::new(vec!["a", "b", "c"], 2, words)?;
    /// loader.start_epoch(1)?;
    /// loader.skip(1)?;
    /// assert_eq!(loader.next_batch()?, Some("c".to_owned()));
    /// assert_eq!(loader.example_ids().map(|ids| ids.to_vec()), Some(vec![2]));
    /// # textbrewer::Result::Ok(())
    /// ```
    fn example_ids(&self) -> Option<Ids> {
        None
    }

    /// Gives only the batches of this share from the next [`start_epoch`](Self::start_epoch) on, in
    /// place of an earlier share, and returns true. `num_batches` and `skip` are then those of the
    /// share. A loader that returns false, as the provided implementation does, goes on to give
    /// everything; whoever asked deals its batches out in turn.
    ///
    /// It is called between epochs, by [`shard`](Self::shard), which is what a program calls.
    /// Implement it for a loader that forwards to another one, and for one that can make a part of
    /// each batch of all processes: what one process would have in a step is then what all have
    /// together.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, FnLoader, Shard, VecLoader};
    ///
    /// let mut batches = VecLoader::new((0..5i64).map(Tensor::from).collect())?;
    /// assert!(batches.take_share(Shard::new(0, 2)?));
    /// assert_eq!(batches.num_batches(), Some(3));
    /// let mut stream = FnLoader::new(|_epoch| Ok((0..5).map(Ok)));
    /// assert!(!stream.take_share(Shard::new(0, 2)?));
    /// # textbrewer::Result::Ok(())
    /// ```
    fn take_share(&mut self, shard: Shard) -> bool {
        let _ = shard;
        false
    }

    /// The share of one of several processes that train or evaluate together; see [`Shard`].
    /// Any loader can be shared out, also an endless one.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, ExampleLoader, Shard};
    ///
    /// // What each of two processes does, and one with twice their batch size.
    /// let examples = |batch_size| {
    ///     let collate = |words: &[&&str]| Ok(words.iter().map(|word| **word).collect::<String>());
    ///     ExampleLoader::new(vec!["a", "b", "c", "d", "e", "f"], batch_size, collate)
    /// };
    /// let mut first = examples(2)?.shard(Shard::new(0, 2)?);
    /// let mut second = examples(2)?.shard(Shard::new(1, 2)?);
    /// let mut alone = examples(4)?;
    /// first.start_epoch(1)?;
    /// second.start_epoch(1)?;
    /// for batch in alone.epoch(1)? {
    ///     let [ours, theirs] = [first.next_batch()?, second.next_batch()?].map(Option::unwrap_or_default);
    ///     assert_eq!(batch?, ours + &theirs);
    /// }
    /// # textbrewer::Result::Ok(())
    /// ```
    fn shard(self, shard: Shard) -> Sharded<Self>
    where
        Self: Sized,
    {
        Sharded::new(self, shard)
    }

    /// A loader whose batches are `(Ids, batch)`: which examples they have, and the batch. What needs
    /// the ids finds them there ([`Batch::ids`]), and a batch type of your own has a field for them.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::data::{DataLoader, TensorLoader};
    /// use textbrewer::{Batch, Error, Ids};
    ///
    /// #[derive(Debug, Batch)]
    /// struct Sentences {
    ///     ids: Ids,
    ///     input_ids: Tensor,
    ///     labels: Tensor,
    /// }
    ///
    /// let (input_ids, labels) = (Tensor::from_slice(&[7i64, 8, 9]), Tensor::from_slice(&[0i64, 1, 0]));
    /// let mut loader = TensorLoader::new(vec![input_ids, labels], 2)?
    ///     .shuffle(42)
    ///     .with_ids()
    ///     .map(|(ids, tensors)| {
    ///         let [input_ids, labels] = tensors.try_into().map_err(|_| Error::other("two tensors"))?;
    ///         Ok(Sentences { ids, input_ids, labels })
    ///     });
    /// for batch in loader.epoch(1)? {
    ///     let batch = batch?;
    ///     // The tokens of row n are n + 7.
    ///     let rows: Vec<u64> = Vec::<i64>::try_from(&batch.input_ids)?.iter().map(|id| *id as u64 - 7).collect();
    ///     assert_eq!(Batch::ids(&batch).map(|ids| ids.to_vec()), Some(rows));
    /// }
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// It comes right behind the loader that knows the examples
    /// ([`example_ids`](Self::example_ids)), before [`prefetch`](Self::prefetch),
    /// [`map_in_threads`](Self::map_in_threads) and [`fixed`](Self::fixed), which know none but hand on
    /// what is in the batches; and before a [`map`](Self::map) that leaves out examples or changes
    /// their order, which then has to do the same with the ids. With several tasks it comes behind
    /// the loader of each. An id means the example as the loader gives it: what was kept of it is not
    /// that of one which is changed at random afterwards ([`augment`](crate::augment)).
    ///
    /// # Errors
    /// [`next_batch`](Self::next_batch) is an [`Error::Protocol`](crate::Error::Protocol) where the
    /// loader does not know the ids. Put [`Ids`] into its batches yourself.
    fn with_ids(self) -> WithIds<Self>
    where
        Self: Sized,
    {
        WithIds::new(self)
    }

    /// A loader that collects the batches of the first epoch in main memory and repeats them
    /// in every epoch, in their order or shuffled. Teacher outputs can be cached for its
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

    /// A loader whose batches are converted by `convert`, for instance from a vector of
    /// tensors to your own batch type.
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

    /// As [`map`](Self::map), in `threads` threads and ahead of time: while the models are busy,
    /// up to two batches for each thread are converted. Batches and errors come in the same order
    /// as from `map`, whatever the number of threads. With 0 there is one.
    ///
    /// ```
    /// use textbrewer::data::{pad_to_longest, DataLoader, LineLoader};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("corpus.txt");
    /// # std::fs::write(&path, "abc\nde\n")?;
    /// let mut loader = LineLoader::new([&path], 2)?.shuffle(42).map_in_threads(4, |lines| {
    ///     // In place of a tokenizer.
    ///     let ids = lines.iter().map(|line| line.text().bytes().collect());
    ///     let ids: Vec<Vec<u8>> = ids.collect();
    ///     pad_to_longest(&ids, 0, None)
    /// });
    /// for batch in loader.epoch(1)? {
    ///     let (input_ids, _mask) = batch?;
    ///     assert_eq!(input_ids.size(), [2, 3]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn map_in_threads<F, B>(self, threads: usize, convert: F) -> MapInThreads<Self, B>
    where
        Self: Sized,
        Self::Batch: Send + 'static,
        B: Send + 'static,
        F: Fn(Self::Batch) -> Result<B> + Send + Sync + 'static,
    {
        MapInThreads::new(self, threads, convert)
    }

    /// A loader that prepares up to `depth` batches ahead of time in another thread while the
    /// models are busy; 2 is enough unless some batches take much longer than others. `depth`
    /// is at most 1024; with 0 a single batch is prepared ahead.
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
