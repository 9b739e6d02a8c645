//! Examples of a stream, shuffled in a buffer.

use std::fmt;

use crate::error::{Error, Result};
use crate::ids::Ids;

use super::stream::{Examples, Stream};
use super::{DataLoader, not_started, places};

type Open<'a, E> = Box<dyn FnMut(u64, usize) -> Result<Examples<'a, E>> + Send + 'a>;

/// Yields batches of the examples of an iterator that a closure returns for each epoch, for data
/// that does not fit into memory and is not lines of a file ([`LineLoader`](super::LineLoader)).
///
/// A batch is a vector of examples. They should be quick to make, such as texts;
/// [`map_in_threads`](DataLoader::map_in_threads) or [`map`](DataLoader::map) make a batch type of
/// one's own from them. A run that is resumed reads the examples that it had once more, but does
/// not convert them; with [`seekable`](Self::seekable) it hardly reads any.
///
/// The id of an example ([`with_ids`](DataLoader::with_ids)) is its place in the stream before it is
/// shuffled, from 0. So every epoch has to give the same examples in the same order where ids are
/// used; otherwise put an id of the example's own into the batch, as [`Ids`].
///
/// The number of batches is unknown unless [`with_num_batches`](Self::with_num_batches) sets it.
/// While it is unknown, a run needs a number of steps instead of epochs.
///
/// ```
/// use textbrewer::data::{DataLoader, StreamLoader};
///
/// # fn main() -> textbrewer::Result<()> {
/// let mut loader = StreamLoader::new(2, |epoch| {
///     // In place of records of a database, or of compressed files.
///     Ok((0..5).map(move |number| Ok(format!("record {number} in epoch {epoch}"))))
/// })?
/// .shuffle(42, 1000)
/// .map_in_threads(2, |records| Ok(records.join(", ")));
/// assert_eq!(loader.epoch(1)?.count(), 3);
/// # Ok(())
/// # }
/// ```
pub struct StreamLoader<'a, E> {
    open: Open<'a, E>,
    /// Whether `open` can begin inside the stream.
    seeks: bool,
    batch_size: usize,
    shuffled: Option<Shuffled>,
    drop_last: bool,
    num_batches: Option<usize>,
    stream: Option<Stream<'a, E>>,
    /// The places of the examples of the latest batch.
    latest: Option<Vec<usize>>,
}

/// How examples are shuffled.
#[derive(Debug, Clone, Copy)]
struct Shuffled {
    seed: u64,
    /// How many are shuffled together.
    buffer: usize,
}

impl<'a, E: 'a> StreamLoader<'a, E> {
    /// A loader of `batch_size` examples at a time; the last batch may have fewer. Of several
    /// processes each has so many, and reads the whole stream
    /// ([`Sharded`](super::Sharded)). It calls `open`
    /// with the number of the epoch, counted from 1, and may do so several times.
    ///
    /// # Errors
    /// When `batch_size` is 0.
    pub fn new<I>(
        batch_size: usize,
        mut open: impl FnMut(u64) -> Result<I> + Send + 'a,
    ) -> Result<Self>
    where
        I: Iterator<Item = Result<E>> + Send + 'a,
    {
        StreamLoader::of(batch_size, false, move |epoch, _| open(epoch))
    }

    /// As [`new`](Self::new), for a stream that need not be read from its beginning: `open` is also
    /// given how many examples it has to leave out. After the last example there are none.
    ///
    /// A run that is resumed then reads at most two buffers of examples again, or one batch where
    /// nothing is shuffled. It goes on with the same batches only if `open` leaves out exactly what
    /// it was told to.
    ///
    /// ```
    /// use textbrewer::data::{DataLoader, StreamLoader};
    ///
    /// # fn main() -> textbrewer::Result<()> {
    /// // In place of a file of records of equal length.
    /// let record = |number| Ok(format!("record {number}"));
    /// let open = move |_epoch, first| Ok((first..1000).map(record));
    /// let mut loader = StreamLoader::seekable(2, open)?;
    /// loader.start_epoch(1)?;
    /// assert_eq!(loader.skip(400)?, 400);
    /// assert_eq!(loader.next_batch()?.unwrap_or_default(), ["record 800", "record 801"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When `batch_size` is 0.
    pub fn seekable<I>(
        batch_size: usize,
        open: impl FnMut(u64, usize) -> Result<I> + Send + 'a,
    ) -> Result<Self>
    where
        I: Iterator<Item = Result<E>> + Send + 'a,
    {
        StreamLoader::of(batch_size, true, open)
    }

    fn of<I>(
        batch_size: usize,
        seeks: bool,
        mut open: impl FnMut(u64, usize) -> Result<I> + Send + 'a,
    ) -> Result<Self>
    where
        I: Iterator<Item = Result<E>> + Send + 'a,
    {
        if batch_size == 0 {
            return Err(Error::config("batch_size", "must be at least 1, got 0"));
        }
        Ok(StreamLoader {
            open: Box::new(move |epoch, first| Ok(Box::new(open(epoch, first)?))),
            seeks,
            batch_size,
            shuffled: None,
            drop_last: false,
            num_batches: None,
            stream: None,
            latest: None,
        })
    }

    /// Shuffles the examples anew in every epoch, from this seed. A buffer of so many examples is
    /// read, shuffled and given, and then the next: an example is never further from its place than
    /// the buffer is long, so the stream itself should be in no particular order. The buffer is held
    /// in memory. One that holds the whole stream shuffles all of it; with 0 or 1 nothing is
    /// shuffled.
    #[must_use]
    pub fn shuffle(mut self, seed: u64, buffer: usize) -> Self {
        self.shuffled = Some(Shuffled {
            seed,
            buffer: buffer.max(1),
        });
        self
    }

    /// Drops the last batch of an epoch if it is not full.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Sets how many batches every epoch has.
    #[must_use]
    pub fn with_num_batches(mut self, num_batches: usize) -> Self {
        self.num_batches = Some(num_batches);
        self
    }

    /// How many examples are read at once: those that are shuffled together, or a batch.
    fn part_size(&self) -> usize {
        self.shuffled
            .map_or(self.batch_size, |shuffled| shuffled.buffer)
    }

    fn seed(&self) -> Option<u64> {
        self.shuffled.map(|shuffled| shuffled.seed)
    }

    fn begin(&mut self, epoch: u64) -> Result<()> {
        (self.stream, self.latest) = (None, None);
        self.stream = Some(Stream {
            epoch,
            unread: (self.open)(epoch, 0)?.fuse(),
            part: Vec::new().into_iter(),
            given: 0,
        });
        Ok(())
    }

    /// Goes forward to an example of a stream that can be begun there; beyond the last there is
    /// nothing.
    fn go_to(&mut self, place: usize) -> Result<()> {
        let (size, seed) = (self.part_size(), self.seed());
        let stream = self.stream.as_mut().ok_or_else(not_started)?;
        let read = stream.given.saturating_add(stream.part.len());
        if place >= read {
            let start = place - place % size;
            if start > read {
                stream.unread = (self.open)(stream.epoch, start)?.fuse();
            }
            stream.given = start;
            stream.read_part(size, seed);
        }
        if let Some(last) = (place - stream.given).checked_sub(1) {
            stream.part.nth(last);
        }
        stream.given = place;
        Ok(())
    }
}

impl<'a, E: 'a> DataLoader for StreamLoader<'a, E> {
    type Batch = Vec<E>;

    fn num_batches(&self) -> Option<usize> {
        self.num_batches
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.begin(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<Vec<E>>> {
        self.latest = None;
        let (size, seed) = (self.part_size(), self.seed());
        let stream = self.stream.as_mut().ok_or_else(not_started)?;
        let next = || stream.next_example(size, seed);
        // All of the batch are taken, also after an error, so that the next call has the next.
        let batch: Vec<_> = std::iter::from_fn(next).take(self.batch_size).collect();
        if batch.is_empty() || (self.drop_last && batch.len() < self.batch_size) {
            return Ok(None);
        }
        let (places, examples): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let examples = examples.into_iter().collect::<Result<_>>()?;
        self.latest = Some(places);
        Ok(Some(examples))
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.latest = None;
        let stream = self.stream.as_ref().ok_or_else(not_started)?;
        let (epoch, given) = (stream.epoch, stream.given);
        if !self.seeks {
            let batches = usize::try_from(batches).unwrap_or(usize::MAX);
            let examples = batches.saturating_mul(self.batch_size);
            let (size, seed) = (self.part_size(), self.seed());
            let stream = self.stream.as_mut().ok_or_else(not_started)?;
            let passed = stream.pass_over(examples, size, seed);
            return Ok(match self.drop_last {
                true => passed / self.batch_size,
                false => passed.div_ceil(self.batch_size),
            } as u64);
        }
        let Some(before) = batches.checked_sub(1) else {
            return Ok(0);
        };
        // The last batch is taken, which shows whether the stream is as long as that.
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        self.go_to(given.saturating_add(before.saturating_mul(self.batch_size)))?;
        if self.next_batch()?.is_some() {
            self.latest = None;
            return Ok(batches);
        }
        // It is not, so what is left of it is counted.
        self.begin(epoch)?;
        self.go_to(given)?;
        let mut skipped = 0;
        while self.next_batch()?.is_some() {
            skipped += 1;
        }
        Ok(skipped)
    }

    /// Their places in the stream of this epoch.
    fn example_ids(&self) -> Option<Ids> {
        self.latest.as_deref().map(places)
    }
}

impl<E> fmt::Debug for StreamLoader<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLoader")
            .field("batch_size", &self.batch_size)
            .field("shuffled", &self.shuffled)
            .field("num_batches", &self.num_batches)
            .field("epoch", &self.stream.as_ref().map(|stream| stream.epoch))
            .finish_non_exhaustive()
    }
}
