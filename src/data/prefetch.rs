//! Preparing batches ahead of time in another thread.

use std::any::Any;
use std::fmt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};

use super::{DataLoader, Shard, Sharded};

/// A channel allocates memory for all its places at once.
const MAX_DEPTH: usize = 1024;

/// What [`DataLoader::prefetch`] returns: the same batches and errors in the same order,
/// prepared in another thread while the models are busy.
///
/// An epoch starts in the caller's thread; its batches are made in a thread that ends with the
/// epoch. Dropping a `Prefetch`, or starting another epoch, waits for the batch that is being
/// made and discards those that were prepared.
///
/// If the loader panics, the batches before the panic are still returned, then an error with
/// the panic's message. After that no epoch can be started.
///
/// A loader that draws random numbers from libtorch's global generator shares it with the
/// models' dropout, and the order in which they draw is then a matter of chance. Give the
/// loader its own generator if runs are to be reproducible.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::data::{DataLoader, Prefetch, VecLoader};
///
/// let batches = (0..4i64).map(Tensor::from).collect();
/// let mut loader: Prefetch<_> = VecLoader::new(batches)?.prefetch(2);
/// let mut numbers = Vec::new();
/// for batch in loader.epoch(1)? {
///     numbers.push(batch?.int64_value(&[]));
/// }
/// assert_eq!(numbers, [0, 1, 2, 3]);
/// # textbrewer::Result::Ok(())
/// ```
pub struct Prefetch<L: DataLoader> {
    depth: usize,
    num_batches: Option<usize>,
    keeps_batches: bool,
    last: Option<u64>,
    // The loader is here between epochs, and in the worker during an epoch. Batches are dealt out
    // there, or those of all ranks would be made.
    loader: Option<Sharded<L>>,
    /// The current epoch, until its first batch is taken.
    untouched: Option<u64>,
    worker: Option<Worker<L>>,
}

/// A batch and its [`batch_id`](DataLoader::batch_id).
type Numbered<B> = (B, Option<u64>);

struct Worker<L: DataLoader> {
    batches: Receiver<Result<Option<Numbered<L::Batch>>>>,
    thread: JoinHandle<Sharded<L>>,
}

impl<L: DataLoader> Prefetch<L> {
    pub(super) fn new(loader: L, depth: usize) -> Self {
        Prefetch {
            depth: depth.min(MAX_DEPTH),
            num_batches: loader.num_batches(),
            keeps_batches: loader.keeps_batches(),
            last: None,
            loader: Some(Sharded::as_it_is(loader)),
            untouched: None,
            worker: None,
        }
    }

    /// Takes the loader back from its thread.
    fn stop(&mut self) -> Result<()> {
        let Some(Worker { batches, thread }) = self.worker.take() else {
            return Ok(());
        };
        // A worker that is waiting to send a batch gets an error, and ends.
        drop(batches);
        let loader = thread.join().map_err(|panic| {
            let reason = message(panic.as_ref());
            Error::other(format!("the loader panicked while prefetching: {reason}"))
        })?;
        self.loader = Some(loader);
        Ok(())
    }
}

impl<L> DataLoader for Prefetch<L>
where
    L: DataLoader + Send + 'static,
    L::Batch: Send,
{
    type Batch = L::Batch;

    fn num_batches(&self) -> Option<usize> {
        self.num_batches
    }

    /// # Errors
    /// Those of the loader; when the loader panicked in an earlier epoch; when no thread can
    /// be started.
    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.begin(epoch, 0)?;
        self.untouched = Some(epoch);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<L::Batch>> {
        self.last = None;
        self.untouched = None;
        let Some(worker) = &self.worker else {
            // Before the first epoch, or after the end of one.
            return match &mut self.loader {
                Some(loader) => loader.next_batch(),
                None => Ok(None),
            };
        };
        match worker.batches.recv() {
            Ok(Ok(None)) | Err(_) => {
                self.stop()?;
                Ok(None)
            }
            Ok(Ok(Some((batch, id)))) => {
                self.last = id;
                Ok(Some(batch))
            }
            Ok(Err(error)) => Err(error),
        }
    }

    /// At the start of an epoch the loader itself skips the batches, before any is made.
    fn skip(&mut self, batches: u64) -> Result<u64> {
        if batches == 0 {
            return Ok(0);
        }
        if let Some(epoch) = self.untouched.take() {
            return self.begin(epoch, batches);
        }
        for skipped in 0..batches {
            if self.next_batch()?.is_none() {
                return Ok(skipped);
            }
        }
        Ok(batches)
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.untouched = None;
        self.last = None;
        // A loader that panicked is lost, which the next `start_epoch` says.
        let _ = self.stop();
        if let Some(loader) = &mut self.loader {
            loader.take_share(shard);
            self.num_batches = loader.num_batches();
        }
        true
    }

    fn keeps_batches(&self) -> bool {
        self.keeps_batches
    }

    fn batch_id(&self) -> Option<u64> {
        self.last
    }
}

impl<L> Prefetch<L>
where
    L: DataLoader + Send + 'static,
    L::Batch: Send,
{
    /// Starts an epoch, skips its first batches, and starts a thread that makes the others.
    fn begin(&mut self, epoch: u64, skip: u64) -> Result<u64> {
        self.untouched = None;
        self.stop()?;
        let lost = || Error::other("the prefetched loader was lost; make a new one");
        let loader = self.loader.as_mut().ok_or_else(lost)?;
        loader.start_epoch(epoch)?;
        let skipped = loader.skip(skip)?;
        let mut loader = self.loader.take().ok_or_else(lost)?;
        let (sender, batches) = sync_channel(self.depth);
        let work = move || {
            loop {
                let batch = loader.next_batch();
                let batch = batch.map(|batch| batch.map(|batch| (batch, loader.batch_id())));
                let is_last = matches!(batch, Ok(None));
                if sender.send(batch).is_err() || is_last {
                    break;
                }
            }
            loader
        };
        let builder = thread::Builder::new().name("prefetch".to_owned());
        let thread = builder
            .spawn(work)
            .map_err(|error| Error::other(format!("no thread to prefetch batches in: {error}")))?;
        self.worker = Some(Worker { batches, thread });
        Ok(skipped)
    }
}

impl<L: DataLoader> Drop for Prefetch<L> {
    fn drop(&mut self) {
        // A panic is ignored here: the batches are not needed any more.
        let _ = self.stop();
    }
}

impl<L: DataLoader + fmt::Debug> fmt::Debug for Prefetch<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch")
            .field("depth", &self.depth)
            .field("num_batches", &self.num_batches)
            .field("loader", &self.loader)
            .field("is_working", &self.worker.is_some())
            .finish_non_exhaustive()
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        panic
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or("no message")
    }
}
