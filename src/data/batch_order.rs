//! The examples of each batch of an epoch.

use std::fmt;

use crate::error::{Error, Result};

use super::order::{OF_BATCHES, Order, generator, shuffle};
use super::shard::{Shard, Uneven};

/// Indices in groups of `batch_size`, of which a process may have a share: the order is cut into
/// pieces of as many examples as one batch of all processes has, and each rank gets a part of each
/// piece. So N processes do in a step what one with N times the batch size does.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchOrder {
    pub(super) order: Order,
    pub(super) drop_last: bool,
    pub(super) shard: Shard,
    batch_size: usize,
}

impl BatchOrder {
    pub(super) fn new(what: &str, len: usize, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::config("batch_size", "must be at least 1, got 0"));
        }
        Ok(BatchOrder {
            order: Order::new(what, len)?,
            drop_last: false,
            shard: Shard::ALL,
            batch_size,
        })
    }

    /// How many examples all processes together have in a step.
    fn piece(self) -> usize {
        self.batch_size.saturating_mul(self.shard.world_size())
    }

    /// How many pieces are complete.
    fn complete(self) -> usize {
        self.order.len / self.piece()
    }

    /// Where this process's part of the incomplete piece begins, and how long it is.
    fn last_part(self) -> (usize, usize) {
        let complete = self.complete() * self.piece();
        let (start, len) = match self.drop_last {
            true => (0, 0),
            false => self.shard.part_of(self.order.len - complete),
        };
        (complete + start, len)
    }

    /// How many batches this process has.
    pub(super) fn num_batches(self) -> usize {
        self.complete() + usize::from(self.last_part().1 > 0)
    }

    /// Where this process's part of a piece begins, and how long it is.
    fn part(self, piece: usize) -> (usize, usize) {
        if piece < self.complete() {
            let start = piece * self.piece() + self.shard.rank() * self.batch_size;
            return (start, self.batch_size);
        }
        self.last_part()
    }

    /// The error for an epoch in which no process has a batch.
    fn no_batch(self) -> Error {
        let (len, ranks) = (self.order.len, self.shard.world_size());
        if !self.drop_last {
            return self.shard.no_batch("examples", len);
        }
        let of = match ranks {
            1 => String::new(),
            _ => format!(" × {ranks} processes"),
        };
        let reason = format!(
            "leaves no batch: {len} examples are fewer than batch_size = {}{of}",
            self.batch_size
        );
        Error::config("drop_last", reason)
    }

    /// The indices of each batch of this epoch; with `groups`, batches of similar lengths.
    pub(super) fn batches(self, epoch: u64, groups: Option<Groups<'_>>) -> Result<BatchIndices> {
        // With `Keep` it is only this process that has none.
        if self.num_batches() == 0 && (self.drop_last || self.shard.uneven() != Uneven::Keep) {
            return Err(self.no_batch());
        }
        let indices = match (groups, self.order.seed) {
            (Some(groups), _) => Some(groups.regroup(self.order.indices(epoch), self, epoch)),
            (None, Some(_)) => Some(self.order.indices(epoch)),
            (None, None) => None,
        };
        Ok(BatchIndices {
            order: self,
            indices,
            given: 0,
        })
    }
}

/// How examples of similar length are grouped.
pub(super) struct Groups<'a> {
    /// The length of the example with this index.
    pub(super) length: &'a dyn Fn(usize) -> usize,
    /// How many batches of all processes are made from one sorted pool.
    pub(super) pool: usize,
}

impl Groups<'_> {
    /// Sorts each pool by length, and shuffles the batches if the order is shuffled. An
    /// incomplete last batch stays the last.
    fn regroup(&self, mut indices: Vec<usize>, order: BatchOrder, epoch: u64) -> Vec<usize> {
        let size = order.piece();
        // The incomplete batch is split off before sorting, or it would always have the longest.
        let full = indices.len() / size * size;
        let rest = indices.split_off(full);
        for stretch in indices.chunks_mut(self.pool.saturating_mul(size)) {
            stretch.sort_by_key(|index| (self.length)(*index));
        }
        if let Some(seed) = order.order.seed {
            let mut batches: Vec<&[usize]> = indices.chunks(size).collect();
            shuffle(&mut batches, &mut generator(seed, epoch, OF_BATCHES));
            indices = batches.concat();
        }
        indices.extend(rest);
        indices
    }
}

/// The indices of the remaining batches of an epoch.
pub(super) struct BatchIndices {
    order: BatchOrder,
    /// The index at each place. Where the order is that of the data no memory is needed for it.
    indices: Option<Vec<usize>>,
    /// How many batches were given or passed over.
    given: usize,
}

impl Iterator for BatchIndices {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        if self.len() == 0 {
            return None;
        }
        let (start, len) = self.order.part(self.given);
        self.given += 1;
        // Padding goes on at the beginning of the epoch.
        let places = (start..start + len).map(|place| place % self.order.order.len);
        Some(match &self.indices {
            Some(indices) => places
                .filter_map(|place| indices.get(place).copied())
                .collect(),
            None => places.collect(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.num_batches() - self.given;
        (left, Some(left))
    }

    /// What is passed over is not collected.
    fn nth(&mut self, batches: usize) -> Option<Vec<usize>> {
        self.given += batches.min(self.len());
        self.next()
    }
}

impl ExactSizeIterator for BatchIndices {}

/// Without the indices, which may be millions.
impl fmt::Debug for BatchIndices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIndices")
            .field("batches", &self.len())
            .field("batch_size", &self.order.batch_size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_like_lengths_and_every_example_once() {
        let mut order = BatchOrder::new("data", 103, 4).unwrap();
        order.order.seed = Some(3);
        let length = |index: usize| index * 7 % 103;
        let groups = || Groups {
            length: &length,
            pool: 5,
        };
        let batches: Vec<_> = order.batches(1, Some(groups())).unwrap().collect();
        assert_eq!(batches.len(), 26);
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!(batches[25].len(), 3);

        // The padding that is needed: for each place of a batch, up to its longest example.
        let padding = |batches: &[Vec<usize>]| -> usize {
            let of = |batch: &Vec<usize>| {
                let lengths = batch.iter().map(|index| length(*index));
                let longest = lengths.clone().max().unwrap();
                lengths.map(|length| longest - length).sum::<usize>()
            };
            batches.iter().map(of).sum()
        };
        let plain: Vec<_> = order.batches(1, None).unwrap().collect();
        // Sorted stretches of 20 have their quarters: about a fifth of what chance needs.
        assert!(padding(&batches[..25]) * 3 < padding(&plain[..25]));

        // Shuffled: lengths go up and down from batch to batch, another way in each epoch.
        let firsts = |epoch| -> Vec<usize> {
            let batches = order.batches(epoch, Some(groups())).unwrap();
            batches.map(|batch| length(batch[0])).collect()
        };
        assert_ne!(firsts(1), firsts(2));
        assert_eq!(firsts(2), firsts(2));
        assert!(!firsts(1)[..5].is_sorted());
    }
}
