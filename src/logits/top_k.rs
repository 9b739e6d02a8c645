//! A teacher's most likely classes.

use tch::Tensor;

use super::check::{indices as check_indices, numbers, on_device};
use crate::error::Result;

/// A teacher's `k` most likely classes at each position, and how likely all others are together.
///
/// Logarithms of probabilities at a temperature of 1, in which the probabilities of all classes
/// sum to 1: `Σ exp(log_probabilities) + exp(log_tail) = 1`.
///
/// The tail is given, not computed here. `1 − Σ exp(log_probabilities)` is wrong by a fifth where
/// the tail's mass is 1e-5 and numbers are `float32`; take the log-sum-exp of the other logits
/// less that of all.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::logits::TopK;
/// use textbrewer::{AdaptorOutput, Logits};
///
/// // One position, the classes 7 and 2 with probabilities of 0.6 and 0.3.
/// let top = TopK::new(
///     &Tensor::from_slice2(&[[7i64, 2]]),
///     &Tensor::from_slice2(&[[0.6f64.ln(), 0.3f64.ln()]]),
///     &Tensor::from_slice(&[0.1f64.ln()]),
/// )?;
/// assert_eq!(top.k(), 2);
/// let output = AdaptorOutput::new().logits(top);
/// assert!(matches!(output.logits[0], Logits::TopK(_)));
/// // Which classes share the rest is not known.
/// assert!(output.logits[0].whole().is_err());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TopK {
    indices: Tensor,
    log_probabilities: Tensor,
    log_tail: Tensor,
}

impl TopK {
    /// From the classes `[.., k]`, the logarithms of their probabilities `[.., k]`, and the
    /// logarithm of all other classes' probability `[..]`, which is −∞ where there are none.
    ///
    /// # Errors
    /// When the shapes do not fit together, or the numbers are of another kind.
    pub fn new(indices: &Tensor, log_probabilities: &Tensor, log_tail: &Tensor) -> Result<Self> {
        let size = check_indices("indices of the top k", "[.., k]", indices)?;
        let what = "log-probabilities of the top k";
        numbers(what, "[.., k], as the indices,", log_probabilities, &size)?;
        let positions = size.split_last().map_or(&[][..], |(_, before)| before);
        numbers("tail of the top k", "[..]", log_tail, positions)?;
        let device = indices.device();
        on_device(
            "log-probabilities of the top k",
            "the indices are",
            device,
            log_probabilities.device(),
        )?;
        on_device(
            "tail of the top k",
            "the indices are",
            device,
            log_tail.device(),
        )?;
        Ok(TopK {
            indices: indices.shallow_clone(),
            log_probabilities: log_probabilities.shallow_clone(),
            log_tail: log_tail.shallow_clone(),
        })
    }

    /// The classes, `[.., k]`.
    pub fn indices(&self) -> &Tensor {
        &self.indices
    }

    /// The logarithms of their probabilities, `[.., k]`.
    pub fn log_probabilities(&self) -> &Tensor {
        &self.log_probabilities
    }

    /// The logarithm of the probability of all other classes, `[..]`.
    pub fn log_tail(&self) -> &Tensor {
        &self.log_tail
    }

    /// How many classes are given at each position.
    pub fn k(&self) -> i64 {
        self.indices.size().last().copied().unwrap_or(0)
    }

    pub(super) fn try_map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(TopK {
            indices: f(&self.indices)?,
            log_probabilities: f(&self.log_probabilities)?,
            log_tail: f(&self.log_tail)?,
        })
    }

    pub(super) fn shallow_clone(&self) -> Self {
        TopK {
            indices: self.indices.shallow_clone(),
            log_probabilities: self.log_probabilities.shallow_clone(),
            log_tail: self.log_tail.shallow_clone(),
        }
    }
}
