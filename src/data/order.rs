//! The order of examples in an epoch.

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
pub(super) fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let wide = u128::from(random.next_u64()) * (last as u128 + 1);
        items.swap(last, (wide >> 64) as usize);
    }
}

/// The `purpose` of the random numbers that shuffle whole batches.
pub(super) const OF_BATCHES: u8 = 2;
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
