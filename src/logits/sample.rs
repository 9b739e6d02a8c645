//! Classes drawn from a teacher's probabilities.

use tch::{Device, Kind, Tensor};

use super::check::{indices as check_indices, log_probabilities, numbers, on_device, said_once};
use crate::error::{Context, Error, Result};
use crate::scalar::ScalarOps;

/// About how many bytes of probabilities are drawn from at a time.
const BYTES_AT_ONCE: i64 = 64 << 20;

/// How many classes libtorch draws from at most.
const MOST_CLASSES: i64 = 1 << 24;

/// Classes drawn at each position, with weights that make up for how they were drawn:
/// `Σ weight · f(class)` is an unbiased estimate of `Σ p · f` over all classes
/// ([Anshumann et al. 2025](https://arxiv.org/abs/2503.16870)).
///
/// For `N` draws from the teacher's probabilities `p` the weight of a class is `count / N`; for
/// draws from other probabilities `r` it is `count · p / (r N)`. The weights need not sum to 1
/// then, and dividing them by their sum would make the estimate biased. A weight of 0 fills up
/// positions with fewer classes than others; its index is not looked at.
///
/// A sample drawn at one temperature says nothing of another. It remembers [its own](Self::drawn_at),
/// 1 unless another is said, and a loss at another is an error; only where each position has a
/// temperature of its own nobody compares. `forward_kl`, `kl` and `ce` take a sample; each is then
/// `−Σ weight · log q`, a cross entropy, whose gradient is on average that of the divergence. Its
/// value is larger by the teacher's entropy, which a sample does not tell.
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
    /// `None` where none was said, which is 1.
    temperature: Option<f64>,
}

impl Sample {
    /// Draws classes from the probabilities of logits `[.., classes]` at this temperature, that of
    /// the loss, by libtorch's random numbers: `draws` of them at each position, with replacement.
    /// A class that comes more than once is there once, with the weight `count / draws`. No gradient is
    /// kept. Probabilities are summed in float64: a sum in float32 misses rare classes.
    ///
    /// On the CPU a sample is as wide as the most classes that a position has. On other devices it is
    /// `min(draws, classes)` wide, so that nobody waits for the device to count; the rest fills up.
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
    /// numbers of classes, have NaN among them, or are of more than 2²⁴ classes.
    pub fn draw(logits: &Tensor, draws: i64, temperature: f64) -> Result<Self> {
        let (logs, classes) = log_probabilities("a sample", logits, temperature)?;
        if draws < 1 {
            let got = draws.to_string();
            return Err(Error::shape("sample", "at least one draw", got));
        }
        if classes > MOST_CLASSES {
            return Err(Error::shape(
                "logits of a sample",
                format!("at most 2^24 = {MOST_CLASSES} classes, for which libtorch can draw"),
                classes.to_string(),
            ));
        }
        let _no_history = tch::no_grad_guard();
        let mut size = logs.size();
        if logs.numel() == 0 {
            size.pop();
            size.push(1);
            let weights = logs.f_new_zeros(&size, (logs.f_kind()?, logs.device()))?;
            return Sample::new(&weights.f_to_kind(Kind::Int64)?, &weights)?.drawn_at(temperature);
        }
        let drawn = drawn_of_rows(&logs.f_reshape([-1, classes])?, draws)?;
        let (drawn, _) = drawn.f_sort(-1, false)?;
        // A class that differs from the one before it begins a place of its own.
        let ends = drawn.f_narrow(-1, 1, draws - 1)?;
        let is_new = ends.f_ne_tensor(&drawn.f_narrow(-1, 0, draws - 1)?)?;
        let first = drawn.f_narrow(-1, 0, 1)?.f_zeros_like()?;
        let place = is_new.f_to_kind(Kind::Int64)?.f_cumsum(-1, None)?;
        let place = Tensor::f_cat(&[first, place], -1)?;
        let most = match place.device() {
            Device::Cpu => i64::try_from(&place.f_max()?)? + 1,
            _ => draws.min(classes),
        };
        let nothing = drawn.f_zeros_like()?.f_narrow(-1, 0, most)?;
        let indices = nothing.f_scatter(-1, &place, &drawn)?;
        let counts = nothing.f_scatter_add(-1, &place, &drawn.f_ones_like()?)?;
        let weights = counts.f_to_kind(logs.f_kind()?)?.over(draws as f64)?;
        if let Some(last) = size.last_mut() {
            *last = most;
        }
        Sample::new(&indices.f_reshape(&size)?, &weights.f_reshape(&size)?)?.drawn_at(temperature)
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
            temperature: None,
        })
    }

    /// Declares that what was given to [`new`](Self::new) was drawn at another temperature than 1. No
    /// number is changed.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::logits::Sample;
    /// use textbrewer::{KdInput, Presets};
    ///
    /// let logits = Tensor::from_slice2(&[[3.0, 1.0, 0.0, -1.0]]);
    /// let drawn = Sample::draw(&logits, 50, 4.0)?;
    /// // Stored, and read again.
    /// let read = || Sample::new(drawn.indices(), drawn.weights());
    /// let loss = Presets::default().find_kd_loss("kd_loss_type", "forward_kl")?;
    /// assert!(loss.apply(&KdInput::new(&logits, read()?, 4.0)?).is_err());
    /// assert!(loss.apply(&KdInput::new(&logits, read()?.drawn_at(4.0)?, 4.0)?).is_ok());
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When it is not a positive number, or another has been said, as [`draw`](Self::draw) does.
    pub fn drawn_at(mut self, temperature: f64) -> Result<Self> {
        self.temperature = Some(said_once("a sample", self.temperature, temperature)?);
        Ok(self)
    }

    /// The temperature that it was drawn at.
    pub fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(1.0)
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
            temperature: self.temperature,
        })
    }

    /// The same on this device, drawn at the same temperature.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        self.try_map(|tensor| Ok(tensor.f_to_device(device)?))
    }

    /// The same in a value of its own; no number is copied.
    pub fn shallow_clone(&self) -> Self {
        Sample {
            indices: self.indices.shallow_clone(),
            weights: self.weights.shallow_clone(),
            temperature: self.temperature,
        }
    }
}

/// `draws` classes of each row of log-probabilities, `[rows, draws]`, some rows at a time.
fn drawn_of_rows(logs: &Tensor, draws: i64) -> Result<Tensor> {
    let (rows, classes) = logs.size2()?;
    let at_once = (BYTES_AT_ONCE / (8 * classes)).max(1);
    let mut drawn = Vec::new();
    for start in (0..rows).step_by(usize::try_from(at_once).unwrap_or(1)) {
        let part = logs.f_narrow(0, start, at_once.min(rows - start))?;
        let probabilities = part.f_to_kind(Kind::Double)?.f_exp()?;
        let of_part = probabilities.f_multinomial(draws, true);
        drawn.push(match of_part {
            Ok(of_part) => of_part,
            Err(error) => {
                let is_nan = i64::try_from(&probabilities.f_isnan()?.f_any()?)? != 0;
                return Err(error).context(|| match is_nan {
                    true => "logits of a sample: the probabilities must be finite".to_owned(),
                    false => format!("a sample of {draws} draws"),
                });
            }
        });
    }
    Ok(Tensor::f_cat(&drawn, 0)?)
}
