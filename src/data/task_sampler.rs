//! Drawing tasks at random.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::error::{Error, Result};

use super::order::generator;

/// Gives the draws another random sequence than a shuffle with the same seed.
const PURPOSE: u8 = 1;

/// Draws the indices of tasks with fixed probabilities.
#[derive(Debug)]
pub(super) struct TaskSampler {
    random: ChaCha8Rng,
    weights: Vec<f64>,
}

impl TaskSampler {
    /// Probabilities proportional to `size^tau`, or all the same when a size is unknown.
    /// Every size is at least 1.
    pub(super) fn new(sizes: &[Option<usize>], tau: f64, seed: u64, epoch: u64) -> Result<Self> {
        if !tau.is_finite() {
            return Err(Error::config("tau", format!("must be finite, got {tau}")));
        }
        let known: Option<Vec<f64>> = sizes.iter().map(|size| size.map(|n| n as f64)).collect();
        let weights = match known {
            Some(sizes) => {
                // Relative to the most likely task, so that no weight is infinite.
                let likelier = if tau < 0.0 { f64::min } else { f64::max };
                let most = sizes.iter().copied().reduce(likelier).unwrap_or(1.0);
                sizes.iter().map(|size| (size / most).powf(tau)).collect()
            }
            None => vec![1.0; sizes.len()],
        };
        Ok(TaskSampler {
            random: generator(seed, epoch, PURPOSE),
            weights,
        })
    }

    /// The index of the next task. Every call draws one random number.
    pub(super) fn draw(&mut self) -> usize {
        // The upper 53 bits are a multiple of 2⁻⁵³ below 1, exact in an f64.
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * self.weights.iter().sum::<f64>();
        let mut drawn = 0;
        for (index, weight) in self.weights.iter().enumerate() {
            // Rounding can leave a remainder; it belongs to the last task that is possible.
            if *weight > 0.0 {
                drawn = index;
                if left < *weight {
                    break;
                }
                left -= weight;
            }
        }
        drawn
    }
}
