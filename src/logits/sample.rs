//! Classes drawn from a teacher's probabilities.

use tch::{Kind, Tensor};

use super::check::{indices as check_indices, log_probabilities, numbers, on_device};
use crate::error::{Context, Error, Result};
use crate::scalar::ScalarOps;

/// Classes drawn at each position, with weights that make up for how they were drawn:
/// `Σ weight · f(class)` is an unbiased estimate of `Σ p · f` over all classes
/// ([Anshumann et al. 2025](https://arxiv.org/abs/2503.16870)).
///
/// For `N` draws from the teacher's probabilities `p` the weight of a class is `count / N`; for
/// draws from other probabilities `r` it is `count · p / (r N)`. The weights need not sum to 1
/// then, and dividing them by their sum would make the estimate biased. A weight of 0 fills up
/// positions with fewer classes than others.
///
/// The probabilities are those at the temperature of the loss: a sample drawn at one temperature
/// says nothing of another. `forward_kl`, `kl` and `ce` take a sample; each is then
/// `−Σ weight · log q`, a cross entropy, whose gradient is on average that of the divergence. Its value is larger by
/// the teacher's entropy, which a sample does not tell.
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
    /// Draws classes from the probabilities of logits `[.., classes]` at this temperature, that of
    /// the loss, by libtorch's random numbers: `draws` of them at each position, with replacement.
    /// A class that comes more than once is there once, with the weight `count / draws`. No gradient is
    /// kept.
    ///
    /// The paper draws 50, which are about 12 classes at a position of a large vocabulary.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::logits::Sample;
    ///
    /// let sample = Sample::draw(&Tensor::from_slice2(&[[0.0, 9.0, 0.0]]), 50, 2.0)?;
    /// let likeliest = sample.weights().f_argmax(-1, true)?;
    /// assert_eq!(sample.indices().f_gather(-1, &likeliest, false)?.int64_value(&[0, 0]), 1);
    /// assert!((sample.weights().f_sum(None)?.double_value(&[]) - 1.0).abs() < 1e-12);
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When nothing is to be drawn, the temperature is not a positive number, or the logits are not
    /// numbers of classes or have NaN among them.
    pub fn draw(logits: &Tensor, draws: i64, temperature: f64) -> Result<Self> {
        let what = "logits of a sample";
        let (logs, classes) = log_probabilities(what, logits, temperature)?;
        if draws < 1 {
            let got = draws.to_string();
            return Err(Error::shape("sample", "at least one draw", got));
        }
        let _no_history = tch::no_grad_guard();
        let mut size = logs.size();
        let rows = logs.f_exp()?.f_reshape([-1, classes])?;
        if rows.numel() == 0 {
            size.pop();
            size.push(1);
            let weights = logs.f_new_zeros(&size, (logs.f_kind()?, logs.device()))?;
            return Sample::new(&weights.f_to_kind(Kind::Int64)?, &weights);
        }
        let drawn = rows
            .f_multinomial(draws, true)
            .context(|| format!("{what}: the probabilities must be finite"))?;
        let (drawn, _) = drawn.f_sort(-1, false)?;
        // A class that differs from the one before it begins a place of its own.
        let ends = drawn.f_narrow(-1, 1, draws - 1)?;
        let is_new = ends.f_ne_tensor(&drawn.f_narrow(-1, 0, draws - 1)?)?;
        let first = drawn.f_narrow(-1, 0, 1)?.f_zeros_like()?;
        let place = is_new.f_to_kind(Kind::Int64)?.f_cumsum(-1, None)?;
        let place = Tensor::f_cat(&[first, place], -1)?;
        let most = i64::try_from(&place.f_max()?)? + 1;
        let nothing = drawn.f_zeros_like()?.f_narrow(-1, 0, most)?;
        let indices = nothing.f_scatter(-1, &place, &drawn)?;
        let counts = nothing.f_scatter_add(-1, &place, &drawn.f_ones_like()?)?;
        let weights = counts.f_to_kind(logs.f_kind()?)?.over(draws as f64)?;
        if let Some(last) = size.last_mut() {
            *last = most;
        }
        Sample::new(&indices.f_reshape(&size)?, &weights.f_reshape(&size)?)
    }

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
