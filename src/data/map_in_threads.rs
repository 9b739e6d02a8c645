//! Converting the batches of a loader in several threads.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::error::{Error, Result};

use super::prefetch::message;
use super::workers::Workers;
use super::{DataLoader, Shard, Sharded};

/// More threads than a machine is likely to have.
const MAX_THREADS: usize = 1024;
/// One batch is converted while the next one waits, so that no thread has nothing to do.
const BATCHES_PER_THREAD: usize = 2;

type Convert<A, B> = Arc<dyn Fn(A) -> Result<B> + Send + Sync>;

/// What [`DataLoader::map_in_threads`] returns: the batches and errors that
/// [`map`](DataLoader::map) would give, in the same order, converted in several threads.
///
/// The loader itself stays in the caller's thread, so it should be quick: one that reads text whose
/// tokens are made in `convert`. Up to two batches for each thread are taken from it ahead of
/// time, from the first batch of an epoch on. The threads end when a `MapInThreads` is dropped.
///
/// If `convert` panics, its batch is an error with the panic's message, and the batches after it
/// are still given.
///
/// A `convert` that draws random numbers from libtorch's global generator shares it with the models'
/// dropout, and the order in which they draw is then a matter of chance; so does a loader that
/// draws from it ahead of time. Give them a generator of their own if runs are to be reproducible.
///
/// ```
/// use textbrewer::data::{DataLoader, FnLoader, MapInThreads};
///
/// let numbers = FnLoader::new(|_epoch| Ok((1..=5u64).map(Ok)));
/// let mut loader: MapInThreads<_, u64> = numbers.map_in_threads(3, |n| Ok(n * n));
/// let squares: Vec<u64> = loader.epoch(1)?.collect::<textbrewer::Result<_>>()?;
/// assert_eq!(squares, [1, 4, 9, 16, 25]);
/// # textbrewer::Result::Ok(())
/// ```
pub struct MapInThreads<L: DataLoader, B> {
    /// Batches are dealt out before they are converted, or all would be, ahead of time.
    loader: Sharded<L>,
    convert: Convert<L::Batch, B>,
    threads: usize,
    workers: Option<Workers>,
    /// The batches under way, in their order.
    ahead: VecDeque<Receiver<Result<B>>>,
    /// Whether the loader has come to the end of the epoch.
    ended: bool,
    /// Whether the last of `ahead` is an error of the loader.
    failed: bool,
    /// Tells the threads that what they still have to do is not wanted any more.
    dropped: Arc<AtomicBool>,
}

impl<L, B> MapInThreads<L, B>
where
    L: DataLoader<Batch: Send + 'static>,
    B: Send + 'static,
{
    pub(super) fn new(
        loader: L,
        threads: usize,
        convert: impl Fn(L::Batch) -> Result<B> + Send + Sync + 'static,
    ) -> Self {
        MapInThreads {
            loader: Sharded::as_it_is(loader),
            convert: Arc::new(convert),
            threads: threads.clamp(1, MAX_THREADS),
            workers: None,
            ahead: VecDeque::new(),
            ended: false,
            failed: false,
            dropped: Arc::default(),
        }
    }

    /// Takes batches from the loader until the threads have enough to do.
    fn fill(&mut self) -> Result<()> {
        // A loader may stay where it is, so it is asked again only when its error was told.
        if self.failed && !self.ahead.is_empty() {
            return Ok(());
        }
        self.failed = false;
        while !self.ended && self.ahead.len() < BATCHES_PER_THREAD * self.threads {
            // The place of an error is after the batches before it.
            let (sender, receiver) = sync_channel(1);
            match self.loader.next_batch() {
                Ok(None) => self.ended = true,
                Ok(Some(batch)) => {
                    let convert = Arc::clone(&self.convert);
                    let dropped = Arc::clone(&self.dropped);
                    let job = move || {
                        if !dropped.load(Ordering::Relaxed) {
                            // Nobody waits for it any more if it cannot be sent.
                            let _ = sender.send(guarded(&convert, batch));
                        }
                    };
                    let workers = match &mut self.workers {
                        Some(workers) => workers,
                        none => none.insert(Workers::start(self.threads)?),
                    };
                    workers.give(Box::new(job))?;
                    self.ahead.push_back(receiver);
                }
                Err(error) => {
                    // There is a place in the channel.
                    let _ = sender.send(Err(error));
                    self.ahead.push_back(receiver);
                    self.failed = true;
                    break;
                }
            }
        }
        Ok(())
    }
}

impl<L: DataLoader, B> MapInThreads<L, B> {
    fn discard(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        self.dropped = Arc::default();
        self.ahead.clear();
    }
}

/// Converts a batch; a panic becomes an error, or its batch would be waited for in vain.
fn guarded<A, B>(convert: &Convert<A, B>, batch: A) -> Result<B> {
    catch_unwind(AssertUnwindSafe(|| convert(batch))).unwrap_or_else(|panic| {
        let reason = message(panic.as_ref());
        Err(Error::other(format!(
            "converting a batch panicked: {reason}"
        )))
    })
}

impl<L, B> DataLoader for MapInThreads<L, B>
where
    L: DataLoader<Batch: Send + 'static>,
    B: Send + 'static,
{
    type Batch = B;

    fn num_batches(&self) -> Option<usize> {
        self.loader.num_batches()
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.discard();
        self.loader.start_epoch(epoch)?;
        self.ended = false;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<B>> {
        self.fill()?;
        let Some(next) = self.ahead.pop_front() else {
            return Ok(None);
        };
        let gone = |_| Error::other("a thread that converts batches is gone; make a new loader");
        next.recv().map_err(gone)?.map(Some)
    }

    /// Skipped batches are not converted, but for those that were already under way.
    fn skip(&mut self, batches: u64) -> Result<u64> {
        let ahead = self
            .ahead
            .len()
            .min(usize::try_from(batches).unwrap_or(usize::MAX));
        self.ahead.drain(..ahead);
        let ahead = ahead as u64;
        match self.ended {
            true => Ok(ahead),
            false => Ok(ahead + self.loader.skip(batches - ahead)?),
        }
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.discard();
        self.ended = false;
        self.loader.take_share(shard)
    }
}

impl<L: DataLoader, B> Drop for MapInThreads<L, B> {
    fn drop(&mut self) {
        self.discard();
    }
}

impl<L: DataLoader + fmt::Debug, B> fmt::Debug for MapInThreads<L, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapInThreads")
            .field("loader", &self.loader)
            .field("threads", &self.threads)
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}
