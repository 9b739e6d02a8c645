//! Examples of a stream, shuffled in a buffer.

use std::fmt;
use std::iter::Fuse;
use std::vec;

use crate::error::{Error, Result};

use super::order::shuffle_part;
use super::{DataLoader, not_started};

type Examples<'a, E> = Box<dyn Iterator<Item = Result<E>> + Send + 'a>;
type Open<'a, E> = Box<dyn FnMut(u64, usize) -> Result<Examples<'a, E>> + Send + 'a>;

/// Yields batches of the examples of an iterator that a closure returns for each epoch, for data
/// that does not fit into memory and is not lines of a file ([`LineLoader`](super::LineLoader)).
///
/// A batch is a vector of examples. They should be quick to make, such as texts;
/// [`map_in_threads`](DataLoader::map_in_threads) or [`map`](DataLoader::map) make a batch type of
/// one's own from them. A run that is resumed reads the examples that it had once more, but does
/// not convert them; with [`seekable`](Self::seekable) it hardly reads any.
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
}

/// How examples are shuffled.
#[derive(Debug, Clone, Copy)]
struct Shuffled {
    seed: u64,
    /// How many are shuffled together.
    buffer: usize,
}

/// An open stream, of which parts of equal size are read one after the other.
struct Stream<'a, E> {
    epoch: u64,
    /// What was not read yet.
    unread: Fuse<Examples<'a, E>>,
    /// What is left of the part that was read last, in the order of the batches.
    part: vec::IntoIter<Result<E>>,
    /// How many examples were given or passed over.
    given: usize,
}

impl<'a, E: 'a> StreamLoader<'a, E> {
    /// A loader of `batch_size` examples at a time; the last batch may have fewer. It calls `open`
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
        self.stream = None;
        self.stream = Some(Stream {
            epoch,
            unread: (self.open)(epoch, 0)?.fuse(),
            part: Vec::new().into_iter(),
            given: 0,
        });
        Ok(())
    }

    /// Goes forward to an example; beyond the last there is nothing.
    fn go_to(&mut self, place: usize) -> Result<()> {
        let (size, seed) = (self.part_size(), self.seed());
        let stream = self.stream.as_mut().ok_or_else(not_started)?;
        let read = stream.given.saturating_add(stream.part.len());
        if place >= read {
            let start = place - place % size;
            if start > read && self.seeks {
                stream.unread = (self.open)(stream.epoch, start)?.fuse();
            } else if let Some(last) = start.saturating_sub(read).checked_sub(1) {
                stream.unread.nth(last);
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

impl<E> Stream<'_, E> {
    /// Reads the part that begins here.
    fn read_part(&mut self, size: usize, seed: Option<u64>) {
        // An error keeps its place among the examples, so that every batch has its own.
        let mut part: Vec<_> = self.unread.by_ref().take(size).collect();
        if let Some(seed) = seed {
            shuffle_part(&mut part, seed, self.epoch, (self.given / size) as u64);
        }
        self.part = part.into_iter();
    }

    fn next_example(&mut self, size: usize, seed: Option<u64>) -> Option<Result<E>> {
        if self.part.len() == 0 {
            self.read_part(size, seed);
        }
        let example = self.part.next()?;
        self.given += 1;
        Some(example)
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
        let (size, seed) = (self.part_size(), self.seed());
        let stream = self.stream.as_mut().ok_or_else(not_started)?;
        let next = || stream.next_example(size, seed);
        // All of the batch are taken, also after an error, so that the next call has the next.
        let batch: Vec<_> = std::iter::from_fn(next).take(self.batch_size).collect();
        if batch.is_empty() || (self.drop_last && batch.len() < self.batch_size) {
            return Ok(None);
        }
        batch.into_iter().collect::<Result<_>>().map(Some)
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        let stream = self.stream.as_ref().ok_or_else(not_started)?;
        let (epoch, given) = (stream.epoch, stream.given);
        let Some(before) = batches.checked_sub(1) else {
            return Ok(0);
        };
        // The last batch is taken, which shows whether the stream is as long as that.
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        self.go_to(given.saturating_add(before.saturating_mul(self.batch_size)))?;
        if self.next_batch()?.is_some() {
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
