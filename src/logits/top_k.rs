//! A teacher's most likely classes.

use tch::{Device, Tensor};

use super::check::{indices as check_indices, log_probabilities, numbers, on_device, said_once};
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// A teacher's `k` most likely classes at each position, and how likely all others are together.
///
/// Logarithms of probabilities at a [temperature](Self::taken_at) of 1 unless another is said,
/// in which the probabilities of all classes sum to 1:
/// `Σ exp(log_probabilities) + exp(log_tail) = 1`. The classes at a position differ; one with a
/// log-probability of −∞ fills up a position that has fewer than others, and is not looked at: its
/// index may be any number, such as −1.
///
/// [`TopK::of`] takes them from logits, and [`TopK::new`] what has been stored.
/// [`Tail`](super::Tail) says what a loss makes of the others.
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
/// // Which classes share the rest is not known; `forward_kl` and the like need not know.
/// assert!(output.logits[0].whole().is_err());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TopK {
    indices: Tensor,
    log_probabilities: Tensor,
    log_tail: Tensor,
    /// `None` where none was said, which is 1.
    temperature: Option<f64>,
}

impl TopK {
    /// The `k` most likely classes of logits `[.., classes]` at this temperature. The tail is the sum
    /// of the others' probabilities, and exact where it is small. No gradient is kept.
    ///
    /// Take them at the temperature of the loss. A loss at another one has to guess what the tail
    /// becomes there (see [`taken_at`](Self::taken_at)).
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::logits::TopK;
    ///
    /// let logits = Tensor::from_slice2(&[[0.1f64.ln(), 0.6f64.ln(), 0.05f64.ln(), 0.25f64.ln()]]);
    /// let top = TopK::of(&logits, 2, 1.0)?;
    /// assert_eq!(top.indices(), &Tensor::from_slice2(&[[1i64, 3]]));
    /// assert!((top.log_tail().f_exp()?.double_value(&[0]) - 0.15).abs() < 1e-12);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When there are fewer than `k` classes, or none are asked for; when the temperature is not a
    /// positive number, or the logits are not numbers of classes.
    pub fn of(logits: &Tensor, k: i64, temperature: f64) -> Result<Self> {
        let (logs, classes) = log_probabilities("the top k", logits, temperature)?;
        if !(1..=classes).contains(&k) {
            return Err(Error::shape(
                "top k",
                format!("a k from 1 to the {classes} classes of the logits"),
                k.to_string(),
            ));
        }
        let _no_history = tch::no_grad_guard();
        let (of_top, indices) = logs.f_topk(k, -1, true, true)?;
        let nothing = of_top.f_zeros_like()?.plus(f64::NEG_INFINITY)?;
        let others = logs.f_scatter(-1, &indices, &nothing)?;
        Ok(TopK {
            log_tail: others.f_logsumexp([-1i64].as_slice(), false)?,
            log_probabilities: of_top,
            indices,
            temperature: Some(temperature),
        })
    }

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
            temperature: None,
        })
    }

    /// Declares that what was given to [`new`](Self::new) are probabilities at another temperature
    /// than 1. No number is changed.
    ///
    /// A loss at a temperature τ makes of them what they would be there. With `a`, this temperature
    /// over τ, the probability `p` of one of the k becomes `pᵃ`, the tail `R` what the table says, and
    /// all are divided by their sum:
    ///
    /// | [`Tail`](super::Tail) | the tail becomes |
    /// |---|---|
    /// | `Bucket`, `Truncated` | `Rᵃ`, as if it were one class |
    /// | `Uniform` | `n (R/n)ᵃ`, for the `n` other classes that the student does not mask |
    /// | `Renormalized` | 0 |
    ///
    /// That is right for the k but for the common divisor. What the tail becomes is not known: at
    /// a higher temperature it is in truth larger than `Rᵃ`.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::logits::TopK;
    /// use textbrewer::{KdInput, Presets};
    ///
    /// let logits = Tensor::from_slice2(&[[3.0, 1.0, 0.0, -1.0]]);
    /// let loss = Presets::default().find_kd_loss("kd_loss_type", "forward_kl")?;
    /// let of_the_same = |top| -> textbrewer::Result<f64> {
    ///     Ok(loss.apply(&KdInput::new(&logits, top, 4.0)?)?.double_value(&[]))
    /// };
    /// assert_eq!(of_the_same(TopK::of(&logits, 2, 4.0)?)?, 0.0);
    /// assert!(of_the_same(TopK::of(&logits, 2, 1.0)?)? > 0.0);
    ///
    /// // Stored at 4, and read again.
    /// let top = TopK::of(&logits, 2, 4.0)?;
    /// let read = TopK::new(top.indices(), top.log_probabilities(), top.log_tail())?;
    /// assert_eq!(of_the_same(read.taken_at(4.0)?)?, 0.0);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When it is not a positive number, or another has been said, as [`of`](Self::of) does.
    pub fn taken_at(mut self, temperature: f64) -> Result<Self> {
        self.temperature = Some(said_once("the top k", self.temperature, temperature)?);
        Ok(self)
    }

    /// The temperature that these are probabilities at.
    pub fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(1.0)
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
            temperature: self.temperature,
        })
    }

    /// The same on this device, at the same temperature.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        self.try_map(|tensor| Ok(tensor.f_to_device(device)?))
    }

    /// The same in a value of its own; no number is copied.
    pub fn shallow_clone(&self) -> Self {
        TopK {
            indices: self.indices.shallow_clone(),
            log_probabilities: self.log_probabilities.shallow_clone(),
            log_tail: self.log_tail.shallow_clone(),
            temperature: self.temperature,
        }
    }
}
