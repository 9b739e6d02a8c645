//! The order of examples in an epoch.

use std::fmt;
use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};

/// The order of `len` items: unchanged, or shuffled anew for each epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) len: usize,
    pub(super) seed: Option<u64>,
}

impl Order {
    /// `what` names the items in the error for `len` 0.
    pub(super) fn new(what: &str, len: usize) -> Result<Self> {
        if len == 0 {
            return Err(Error::config(what, "is empty; give at least one"));
        }
        Ok(Order { len, seed: None })
    }

    /// Indices in the order of this epoch.
    ///
    /// The generator is keyed by the seed and the epoch. The shuffle is implemented here, so
    /// that no update of a random-number crate can change the order.
    pub(super) fn indices(self, epoch: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.len).collect();
        if let Some(seed) = self.seed {
            let mut random = generator(seed, epoch, 0);
            shuffle(&mut indices, &mut random);
        }
        indices
    }
}

/// Shuffles the examples of a part of a stream, counted from 0.
pub(super) fn shuffle_part<T>(items: &mut [T], seed: u64, epoch: u64, part: u64) {
    shuffle(items, &mut generator_of(seed, epoch, OF_PARTS, part));
}

/// Fisher–Yates. The upper half of the product is uniform in 0..=last up to a bias of at most
/// len / 2⁶⁴.
fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let wide = u128::from(random.next_u64()) * (last as u128 + 1);
        items.swap(last, (wide >> 64) as usize);
    }
}

/// The `purpose` of the random numbers that shuffle whole batches.
const OF_BATCHES: u8 = 2;
/// The `purpose` of those that shuffle a part of a stream.
const OF_PARTS: u8 = 3;

/// Random numbers that depend on these three alone.
pub(super) fn generator(seed: u64, epoch: u64, purpose: u8) -> ChaCha8Rng {
    generator_of(seed, epoch, purpose, 0)
}

fn generator_of(seed: u64, epoch: u64, purpose: u8, part: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16] = purpose;
    key[24..].copy_from_slice(&part.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Indices in groups of `batch_size`.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchOrder {
    pub(super) order: Order,
    pub(super) drop_last: bool,
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
            batch_size,
        })
    }

    pub(super) fn num_batches(self) -> usize {
        if self.drop_last {
            self.order.len / self.batch_size
        } else {
            self.order.len.div_ceil(self.batch_size)
        }
    }

    /// The indices of each batch of this epoch; with `groups`, batches of similar lengths.
    pub(super) fn batches(self, epoch: u64, groups: Option<Groups<'_>>) -> Result<BatchIndices> {
        let batches = self.num_batches();
        if batches == 0 {
            return Err(Error::config(
                "drop_last",
                format!(
                    "leaves no batch: {} examples are fewer than batch_size = {}",
                    self.order.len, self.batch_size
                ),
            ));
        }
        let indices = match (groups, self.order.seed) {
            (Some(groups), _) => Some(groups.regroup(self.order.indices(epoch), self, epoch)),
            (None, Some(_)) => Some(self.order.indices(epoch)),
            (None, None) => None,
        };
        Ok(BatchIndices {
            places: 0..self.order.len,
            indices,
            batches,
            batch_size: self.batch_size,
        })
    }
}

/// How examples of similar length are grouped.
pub(super) struct Groups<'a> {
    /// The length of the example with this index.
    pub(super) length: &'a dyn Fn(usize) -> usize,
    /// How many batches are made from one sorted pool.
    pub(super) pool: usize,
}

impl Groups<'_> {
    /// Sorts each pool by length, and shuffles the batches if the order is shuffled. An
    /// incomplete last batch stays the last.
    fn regroup(&self, mut indices: Vec<usize>, order: BatchOrder, epoch: u64) -> Vec<usize> {
        let size = order.batch_size;
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
    /// What is left of the places in the order.
    places: Range<usize>,
    /// The index at each place. Where the order is that of the data no memory is needed for it.
    indices: Option<Vec<usize>>,
    batches: usize,
    batch_size: usize,
}

impl Iterator for BatchIndices {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        self.batches = self.batches.checked_sub(1)?;
        let places = self.places.by_ref().take(self.batch_size);
        Some(match &self.indices {
            Some(indices) => places
                .filter_map(|place| indices.get(place).copied())
                .collect(),
            None => places.collect(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.batches, Some(self.batches))
    }

    /// What is passed over is not collected.
    fn nth(&mut self, batches: usize) -> Option<Vec<usize>> {
        let passed = batches.min(self.batches);
        self.batches -= passed;
        if let Some(last) = passed.saturating_mul(self.batch_size).checked_sub(1) {
            self.places.nth(last);
        }
        self.next()
    }
}

impl ExactSizeIterator for BatchIndices {}

/// Without the indices, which may be millions.
impl fmt::Debug for BatchIndices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIndices")
            .field("batches", &self.batches)
            .field("batch_size", &self.batch_size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
        let order = Order {
            len,
            seed: Some(seed),
        };
        order.indices(epoch)
    }

    #[test]
    fn shuffling_is_a_permutation_of_seed_and_epoch() {
        let first = shuffled(100, 1, 1);
        assert_eq!(first, shuffled(100, 1, 1));
        assert_ne!(first, shuffled(100, 1, 2));
        assert_ne!(first, shuffled(100, 2, 1));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

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

    #[test]
    fn every_position_is_reached_evenly() {
        let mut counts = [[0u32; 4]; 4];
        for epoch in 0..4000 {
            for (position, index) in shuffled(4, 0, epoch).into_iter().enumerate() {
                counts[position][index] += 1;
            }
        }
        // Expected 1000 each, standard deviation 27.
        assert!(
            counts.iter().flatten().all(|n| (880..=1120).contains(n)),
            "{counts:?}"
        );
    }
}
