//! The share of one process in the batches.

use crate::error::{Error, Result};

/// libtorch counts processes in 32 bits; and places of batches do not overflow.
const MAX_WORLD_SIZE: usize = i32::MAX as usize;

/// Which share of the batches one of several processes gets: that of its rank, counted from 0, of
/// `world_size` processes that train or evaluate together.
///
/// [`DataLoader::shard`](super::DataLoader::shard) applies it to a loader. Every process makes the
/// same loader, with the same data and seed; nothing is sent between them.
///
/// A loader's `batch_size` is that of one process. A step of N processes therefore has
/// `N × batch_size × accumulation` examples, and its batches are:
///
/// - With [`TensorLoader`](super::TensorLoader), [`ExampleLoader`](super::ExampleLoader) and
///   [`LineLoader`](super::LineLoader), what one process with a batch size of `N × batch_size`
///   has in its batch: rank r gets the r-th `batch_size` examples of it.
/// - With all other loaders, whole batches dealt out in turn: rank r gets the batches r, r + N,
///   r + 2N … of one process.
///
/// What does not come to the same for all processes at the end of an epoch is treated as
/// [`Uneven`] says.
///
/// ```
/// use textbrewer::data::{Shard, Uneven};
///
/// let shard = Shard::new(1, 4)?;
/// assert_eq!((shard.rank(), shard.world_size(), shard.uneven()), (1, 4, Uneven::Pad));
/// let evaluation = shard.with_uneven(Uneven::Keep);
/// assert_eq!(evaluation.uneven(), Uneven::Keep);
/// assert!(Shard::new(4, 4).is_err());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shard {
    rank: usize,
    world_size: usize,
    uneven: Uneven,
}

/// What becomes of the end of an epoch that cannot be shared out evenly.
///
/// ```
/// use textbrewer::data::{DataLoader, ExampleLoader, Shard, Uneven};
///
/// let last_of = |rank, uneven| {
///     let sum = |numbers: &[&u64]| Ok(numbers.iter().copied().sum::<u64>());
///     // Two processes: 1 + 2 and 3 + 4, and then there is one number left.
///     let numbers = ExampleLoader::new(vec![1, 2, 3, 4, 5], 2, sum)?;
///     let mut loader = numbers.shard(Shard::new(rank, 2)?.with_uneven(uneven));
///     loader.start_epoch(1)?;
///     loader.skip(1)?;
///     loader.next_batch()
/// };
/// assert_eq!((last_of(0, Uneven::Pad)?, last_of(1, Uneven::Pad)?), (Some(5), Some(1)));
/// assert_eq!((last_of(0, Uneven::Drop)?, last_of(1, Uneven::Drop)?), (None, None));
/// assert_eq!((last_of(0, Uneven::Keep)?, last_of(1, Uneven::Keep)?), (Some(5), None));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Uneven {
    /// What is missing is taken from the beginning of the epoch once more, as PyTorch's
    /// `DistributedSampler` does. All processes have equally many examples or batches.
    #[default]
    Pad,
    /// What is left over is left out. All processes have equally many examples or batches.
    Drop,
    /// Everything is given once. Some processes may have a smaller last batch than others, one
    /// batch less, or none at all: for evaluation in shares, not for training.
    Keep,
}

impl Shard {
    /// One process that has everything.
    pub(crate) const ALL: Shard = Shard {
        rank: 0,
        world_size: 1,
        uneven: Uneven::Pad,
    };

    /// The share of `rank`, from 0 to `world_size - 1`.
    ///
    /// # Errors
    /// When `world_size` is 0 or above 2³¹ - 1, or `rank` is not below it.
    pub fn new(rank: usize, world_size: usize) -> Result<Self> {
        if !(1..=MAX_WORLD_SIZE).contains(&world_size) {
            let reason = format!("must be 1 to {MAX_WORLD_SIZE}, got {world_size}");
            return Err(Error::config("world_size", reason));
        }
        if rank >= world_size {
            let reason = format!(
                "must be below world_size = {world_size}, for ranks count from 0; got {rank}"
            );
            return Err(Error::config("rank", reason));
        }
        Ok(Shard {
            rank,
            world_size,
            uneven: Uneven::default(),
        })
    }

    /// Sets what becomes of an uneven end; see [`Uneven`].
    #[must_use]
    pub fn with_uneven(mut self, uneven: Uneven) -> Self {
        self.uneven = uneven;
        self
    }

    /// The number of this process, counted from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// What becomes of an uneven end.
    pub fn uneven(&self) -> Uneven {
        self.uneven
    }

    /// How many batches this process gets of `batches` that are dealt out in turn.
    pub(super) fn batches_of(self, batches: u64) -> u64 {
        let (rank, ranks) = (self.rank as u64, self.world_size as u64);
        match self.uneven {
            Uneven::Pad => batches.div_ceil(ranks),
            Uneven::Drop => batches / ranks,
            Uneven::Keep => batches.saturating_sub(rank).div_ceil(ranks),
        }
    }

    /// Where the part of this process of `examples` begins, and how long it is. With
    /// [`Uneven::Pad`] it may go on beyond the end.
    pub(super) fn part_of(self, examples: usize) -> (usize, usize) {
        let even = examples / self.world_size;
        let over = examples % self.world_size;
        let longer = match self.uneven {
            // The first ranks, one each; with padding all.
            Uneven::Pad if over > 0 => self.world_size,
            Uneven::Keep => over,
            Uneven::Pad | Uneven::Drop => 0,
        };
        let start = self.rank * even + self.rank.min(longer);
        (start, even + usize::from(self.rank < longer))
    }

    /// The error where [`Uneven::Drop`] leaves nothing of `len` examples or batches.
    pub(super) fn no_batch(self, what: &str, len: usize) -> Error {
        let reason = format!(
            "Uneven::Drop leaves no batch: {len} {what} are fewer than {} processes; use fewer \
             processes, or Uneven::Pad",
            self.world_size
        );
        Error::config("shard", reason)
    }
}
