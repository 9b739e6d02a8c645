//! Logits: all scores of a model's classes, or as much as is known of them.
//!
//! A loss on logits is given [`Logits`] of both models. Most need the scores of all classes,
//! which [`Logits::whole`] gives where they are known. The other kinds are for large
//! vocabularies: logits that have not been made yet, and what is kept of a teacher's.

mod check;
mod from_hidden;
mod sample;
mod select;
mod shift;
mod tail;
mod top_k;

pub use from_hidden::FromHidden;
pub use sample::Sample;
pub(crate) use select::kept_rows;
pub use select::select_logits_with_mask;
pub use shift::probability_shift;
pub use tail::Tail;
pub use top_k::TopK;

use tch::{Device, Tensor};

use self::select::rows_of;
use crate::error::{Error, Result};
use crate::kind::{at_least_float32, defined};

/// The scores of a model's classes at each position, or what is known of them.
///
/// An adaptor gives a tensor, or one of the other kinds, to
/// [`AdaptorOutput::logits`](crate::AdaptorOutput::logits). All kinds have positions, `[batch]`
/// or `[batch, length]`, in their leading dimensions.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::Logits;
///
/// let tensor = Tensor::zeros([2, 7, 30], (Kind::Float, Device::Cpu));
/// let logits = Logits::from(&tensor);
/// assert_eq!(logits.positions()?, [2, 7]);
/// assert_eq!(logits.whole()?.size(), [2, 7, 30]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Logits {
    /// The scores of all classes, `[.., classes]`.
    Whole(Tensor),
    /// To be made from hidden states and an output matrix.
    FromHidden(FromHidden),
    /// The teacher's most likely classes.
    TopK(TopK),
    /// Classes drawn from the teacher's probabilities.
    Sample(Sample),
}

impl Logits {
    /// The scores of all classes, `[.., classes]`.
    ///
    /// If they are to be made from hidden states, they are computed, each time anew, and have
    /// numbers of at least 32 bits. Those of a tensor are what they are.
    ///
    /// # Errors
    /// When most classes are not known, the tensor is undefined, or there is no memory for all.
    pub fn whole(&self) -> Result<Tensor> {
        let kind = match self {
            Logits::Sample(_) => "Sample",
            _ => "TopK",
        };
        self.whole_or(&format!(
            "use a loss that takes `Logits::{kind}`, such as `forward_kl`"
        ))
    }

    /// As [`whole`](Self::whole), for an option of the configuration that needs all classes.
    pub(crate) fn whole_for(&self, option: &str) -> Result<Tensor> {
        let whole = self.whole_or(&format!("leave `{option}` out, or give whole logits"));
        whole.map_err(|error| error.at(option))
    }

    /// As [`whole`](Self::whole); `remedy` is what to do where most classes are not known.
    pub(crate) fn whole_or(&self, remedy: &str) -> Result<Tensor> {
        let known = match self {
            Logits::Whole(_) => return Ok(self.at_each_position()?.shallow_clone()),
            Logits::FromHidden(logits) => return logits.whole(),
            Logits::TopK(top) => format!("the {} most likely ones alone", top.k()),
            Logits::Sample(_) => "a sample of them".to_owned(),
        };
        Err(Error::shape(
            "logits",
            "scores of all classes",
            format!("{known} ({remedy})"),
        ))
    }

    /// The sizes of the leading dimensions: `[batch]` or `[batch, length]`, or how many
    /// positions a mask has selected.
    ///
    /// # Errors
    /// When the tensor is undefined.
    pub fn positions(&self) -> Result<Vec<i64>> {
        let mut size = self.at_each_position()?.size();
        size.pop();
        Ok(size)
    }

    /// Where they are.
    ///
    /// # Errors
    /// When the tensor is undefined.
    pub fn device(&self) -> Result<Device> {
        Ok(self.at_each_position()?.device())
    }

    /// The same logits in a value of their own; no number is copied.
    pub fn shallow_clone(&self) -> Logits {
        match self {
            Logits::Whole(tensor) => Logits::Whole(tensor.shallow_clone()),
            Logits::FromHidden(logits) => Logits::FromHidden(logits.shallow_clone()),
            Logits::TopK(top) => Logits::TopK(top.shallow_clone()),
            Logits::Sample(sample) => Logits::Sample(sample.shallow_clone()),
        }
    }

    /// All tensors that they are made of; an output matrix, which all positions share, and its bias
    /// come after the hidden states.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let tensors = match self {
            Logits::Whole(tensor) => [Some(tensor), None, None],
            Logits::FromHidden(logits) => logits.tensors(),
            Logits::TopK(top) => [
                Some(top.indices()),
                Some(top.log_probabilities()),
                Some(top.log_tail()),
            ],
            Logits::Sample(sample) => [Some(sample.indices()), Some(sample.weights()), None],
        };
        tensors.into_iter().flatten()
    }

    /// The same kind of logits, of what `f` makes of each tensor. `f` leaves shapes as they are.
    fn try_map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Logits> {
        Ok(match self {
            Logits::Whole(tensor) => Logits::Whole(f(tensor)?),
            Logits::FromHidden(logits) => Logits::FromHidden(logits.try_map(f)?),
            Logits::TopK(top) => Logits::TopK(top.try_map(f)?),
            Logits::Sample(sample) => Logits::Sample(sample.try_map(f)?),
        })
    }

    /// As `try_map`, of the tensors that have numbers for each position, always in the same order:
    /// an output matrix, which all positions share, stays as it is.
    pub(crate) fn try_map_positions(
        &self,
        mut f: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Logits> {
        match self {
            Logits::FromHidden(logits) => {
                let hidden = f(logits.hidden())?;
                Ok(Logits::FromHidden(logits.with_hidden(hidden)))
            }
            other => other.try_map(f),
        }
    }

    /// The same with numbers of at least 32 bits, which losses are computed in.
    ///
    /// Hidden states and output matrix stay as they are: [`whole`](Self::whole) widens what it
    /// computes of them.
    ///
    /// # Errors
    /// When the tensor is undefined, or there is no memory for the copy.
    pub fn at_least_float32(&self) -> Result<Logits> {
        self.at_each_position()?;
        match self {
            // `whole` widens what it computes, and a loss in parts wants both of one kind.
            Logits::FromHidden(_) => Ok(self.shallow_clone()),
            _ => self.try_map_positions(at_least_float32),
        }
    }

    /// The same logits, detached: no gradient reaches the tensors they were made from.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn detached(&self) -> Result<Logits> {
        self.try_map(|tensor| {
            Ok(match tensor.requires_grad() {
                true => tensor.f_detach()?,
                false => tensor.shallow_clone(),
            })
        })
    }

    /// The positions that a mask `[batch, length]` keeps, as `[kept]`, example by example.
    /// Logits without a length are left as they are.
    ///
    /// # Errors
    /// When the mask does not fit.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use textbrewer::Logits;
    ///
    /// let logits = Logits::from(Tensor::zeros([2, 3, 5], (Kind::Float, Device::Cpu)));
    /// let mask = Tensor::from_slice2(&[[1, 1, 1], [1, 0, 0]]);
    /// assert_eq!(logits.select_with_mask(&mask)?.positions()?, [4]);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn select_with_mask(&self, mask: &Tensor) -> Result<Logits> {
        let (positions, mask) = (self.positions()?, mask.shallow_clone());
        let one = std::iter::once((positions.as_slice(), self.device()?));
        let rows = kept_rows(one, &[mask])?.into_iter().next().flatten();
        self.at_rows(rows.as_ref())
    }

    /// These rows of the flattened positions, as `[rows]`. With `None`, all positions.
    pub(crate) fn at_rows(&self, rows: Option<&Tensor>) -> Result<Logits> {
        match rows {
            Some(rows) => {
                let rank = self.positions()?.len();
                self.try_map_positions(|tensor| rows_of(tensor, rank, rows))
            }
            None => Ok(self.shallow_clone()),
        }
    }

    /// A tensor with the positions, and one dimension more.
    fn at_each_position(&self) -> Result<&Tensor> {
        Ok(match self {
            Logits::Whole(tensor) => {
                // The others were checked when they were made.
                defined("logits", tensor)?;
                tensor
            }
            Logits::FromHidden(logits) => logits.hidden(),
            Logits::TopK(top) => top.indices(),
            Logits::Sample(sample) => sample.indices(),
        })
    }
}

impl From<Tensor> for Logits {
    fn from(tensor: Tensor) -> Self {
        Logits::Whole(tensor)
    }
}

impl From<&Tensor> for Logits {
    fn from(tensor: &Tensor) -> Self {
        Logits::Whole(tensor.shallow_clone())
    }
}

impl From<&Logits> for Logits {
    fn from(logits: &Logits) -> Self {
        logits.shallow_clone()
    }
}

impl From<FromHidden> for Logits {
    fn from(logits: FromHidden) -> Self {
        Logits::FromHidden(logits)
    }
}

impl From<&FromHidden> for Logits {
    fn from(logits: &FromHidden) -> Self {
        Logits::FromHidden(logits.shallow_clone())
    }
}

impl From<TopK> for Logits {
    fn from(top: TopK) -> Self {
        Logits::TopK(top)
    }
}

impl From<&TopK> for Logits {
    fn from(top: &TopK) -> Self {
        Logits::TopK(top.shallow_clone())
    }
}

impl From<Sample> for Logits {
    fn from(sample: Sample) -> Self {
        Logits::Sample(sample)
    }
}

impl From<&Sample> for Logits {
    fn from(sample: &Sample) -> Self {
        Logits::Sample(sample.shallow_clone())
    }
}
