//! Logits that are still to be made from hidden states.

use tch::Tensor;

use super::check::{defined, fits};
use crate::error::{Error, Result};
use crate::kind::in_kind;
use crate::scalar::ScalarOps;

/// Logits that are still to be made from hidden states and an output matrix:
/// `cap · tanh(z / cap)` where `z = scale · (W h + b)`.
///
/// With a large vocabulary the logits are the largest tensor of a training step; a loss that is
/// given this can make them a part at a time. Any other gets them from
/// [`Logits::whole`](crate::Logits::whole).
///
/// ```
/// use tch::Tensor;
/// use textbrewer::logits::FromHidden;
/// use textbrewer::{AdaptorOutput, Logits};
///
/// let hidden = Tensor::from_slice2(&[[1.0, 2.0]]); // [batch, size]
/// let weight = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]); // [classes, size]
/// let logits = FromHidden::new(&hidden, &weight)?
///     .bias(&Tensor::from_slice(&[0.0, 0.0, 1.0]))?
///     .scale(0.5)?;
/// let output = AdaptorOutput::new().logits(logits);
/// assert_eq!(output.logits[0].whole()?, Tensor::from_slice2(&[[0.5, 1.0, 2.0]]));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct FromHidden {
    hidden: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    scale: f64,
    soft_cap: Option<f64>,
}

impl FromHidden {
    /// From hidden states `[.., size]` and the output matrix `[classes, size]`.
    ///
    /// # Errors
    /// When these shapes do not fit together.
    pub fn new(hidden: &Tensor, weight: &Tensor) -> Result<Self> {
        defined("hidden states of logits", hidden)?;
        defined("output matrix of logits", weight)?;
        let (size, matrix) = (hidden.size(), weight.size());
        let fit =
            matches!((size.last(), matrix.as_slice()), (Some(size), [_, also]) if size == also);
        if !fit {
            return Err(Error::shape(
                "logits from hidden states",
                "hidden states [.., size] and an output matrix [classes, size]",
                format!("{size:?} and {matrix:?}"),
            ));
        }
        Ok(FromHidden {
            hidden: hidden.shallow_clone(),
            weight: weight.shallow_clone(),
            bias: None,
            scale: 1.0,
            soft_cap: None,
        })
    }

    /// Adds a bias `[classes]`.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn bias(mut self, bias: &Tensor) -> Result<Self> {
        fits("bias of logits", "[classes]", bias, &[self.classes()])?;
        self.bias = Some(bias.shallow_clone());
        Ok(self)
    }

    /// Multiplies the logits, those of the bias included.
    ///
    /// # Errors
    /// When the factor is not finite.
    pub fn scale(mut self, factor: f64) -> Result<Self> {
        if !factor.is_finite() {
            let reason = format!("must be finite, got {factor}");
            return Err(Error::config("scale of logits", reason));
        }
        self.scale = factor;
        Ok(self)
    }

    /// Keeps the scaled logits between `−cap` and `cap`, by `cap · tanh(z / cap)`.
    ///
    /// # Errors
    /// When the cap is not a positive number.
    pub fn soft_cap(mut self, cap: f64) -> Result<Self> {
        if !(cap.is_finite() && cap > 0.0) {
            let reason = format!("must be a positive number, got {cap}");
            return Err(Error::config("soft cap of logits", reason));
        }
        self.soft_cap = Some(cap);
        Ok(self)
    }

    /// The hidden states `[.., size]`.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// The output matrix `[classes, size]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// How many classes there are.
    pub fn classes(&self) -> i64 {
        self.weight.size().first().copied().unwrap_or(0)
    }

    /// The logits `[.., classes]`, in the kind of the output matrix.
    pub(super) fn whole(&self) -> Result<Tensor> {
        let hidden = in_kind(&self.hidden, self.weight.f_kind()?)?;
        let mut logits = hidden.f_linear(&self.weight, self.bias.as_ref())?;
        if self.scale != 1.0 {
            logits = logits.times(self.scale)?;
        }
        Ok(match self.soft_cap {
            Some(cap) => logits.over(cap)?.f_tanh()?.times(cap)?,
            None => logits,
        })
    }

    pub(super) fn tensors(&self) -> [Option<&Tensor>; 3] {
        [Some(&self.hidden), Some(&self.weight), self.bias.as_ref()]
    }

    /// The same with other hidden states; the output matrix is shared.
    pub(super) fn with_hidden(&self, hidden: Tensor) -> Self {
        FromHidden {
            hidden,
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            ..*self
        }
    }

    pub(super) fn try_map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(FromHidden {
            hidden: f(&self.hidden)?,
            weight: f(&self.weight)?,
            bias: self.bias.as_ref().map(f).transpose()?,
            ..*self
        })
    }
}
