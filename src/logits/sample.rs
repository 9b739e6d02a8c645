//! Classes drawn from a teacher's probabilities.

use tch::Tensor;

use super::check::{indices as check_indices, numbers, on_device};
use crate::error::Result;

/// Classes drawn at each position, with weights that make up for how they were drawn:
/// `Σ weight · f(class)` is an unbiased estimate of `Σ p · f` over all classes
/// ([Anshumann et al. 2025](https://arxiv.org/abs/2503.16870)).
///
/// For `N` draws from the teacher's probabilities `p` the weight of a class is `count / N`; for
/// draws from other probabilities `r` it is `count · p / (r N)`. The weights need not sum to 1
/// then, and dividing them by their sum would make the estimate biased. A weight of 0 fills up
/// positions with fewer classes than others.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::logits::Sample;
/// use textbrewer::{AdaptorOutput, Logits};
///
/// // 50 draws at one position: class 7 came 40 times, class 2 ten times.
/// let sample = Sample::new(
///     &Tensor::from_slice2(&[[7i64, 2]]),
///     &Tensor::from_slice2(&[[40.0 / 50.0, 10.0 / 50.0]]),
/// )?;
/// let output = AdaptorOutput::new().logits(sample);
/// assert_eq!(output.logits[0].positions()?, [1]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Sample {
    indices: Tensor,
    weights: Tensor,
}

impl Sample {
    /// From the classes `[.., n]` and their weights `[.., n]`.
    ///
    /// # Errors
    /// When the shapes do not fit together, or the numbers are of another kind.
    pub fn new(indices: &Tensor, weights: &Tensor) -> Result<Self> {
        let size = check_indices("indices of a sample", "[.., n]", indices)?;
        let wanted = "[.., n], as the indices,";
        numbers("weights of a sample", wanted, weights, &size)?;
        let device = indices.device();
        on_device(
            "weights of a sample",
            "the indices are",
            device,
            weights.device(),
        )?;
        Ok(Sample {
            indices: indices.shallow_clone(),
            weights: weights.shallow_clone(),
        })
    }

    /// The classes, `[.., n]`.
    pub fn indices(&self) -> &Tensor {
        &self.indices
    }

    /// Their weights, `[.., n]`.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    pub(super) fn try_map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Sample {
            indices: f(&self.indices)?,
            weights: f(&self.weights)?,
        })
    }

    pub(super) fn shallow_clone(&self) -> Self {
        Sample {
            indices: self.indices.shallow_clone(),
            weights: self.weights.shallow_clone(),
        }
    }
}
