//! Logits that are still to be made from hidden states.

use tch::{Device, Kind, Tensor};

use super::check::{fits, floating, on_device};
use crate::error::{Error, Result};
use crate::kind::{at_least_float32, defined, holding_both, holds, in_kind};
use crate::scalar::{Beside, ScalarOps};

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
    /// What the product is computed in. It stays when the hidden states are widened.
    kind: Kind,
    scale: f64,
    soft_cap: Option<f64>,
    bytes_at_once: i64,
}

/// 256 MiB.
const BYTES_AT_ONCE: i64 = 256 << 20;
/// 512 MiB on a device, whose products are quick where they are large.
const BYTES_ON_A_DEVICE: i64 = 512 << 20;

impl FromHidden {
    /// From hidden states `[.., size]` and the output matrix `[classes, size]`.
    ///
    /// The product is computed in the kind of both; of two kinds, in the smallest that holds both
    /// exactly, for which the matrix may be copied each time.
    ///
    /// # Errors
    /// When these shapes do not fit together, one holds no floating-point numbers, or they are on
    /// two devices.
    pub fn new(hidden: &Tensor, weight: &Tensor) -> Result<Self> {
        let (of_hidden, of_weight) = ("hidden states of logits", "output matrix of logits");
        defined(of_hidden, hidden)?;
        defined(of_weight, weight)?;
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
        let kind = holding_both(floating(of_hidden, hidden)?, floating(of_weight, weight)?);
        let (device, those) = (hidden.device(), "the hidden states are");
        on_device(of_weight, those, device, weight.device())?;
        Ok(FromHidden {
            hidden: hidden.shallow_clone(),
            weight: weight.shallow_clone(),
            bias: None,
            kind,
            scale: 1.0,
            soft_cap: None,
            bytes_at_once: match device {
                Device::Cpu => BYTES_AT_ONCE,
                _ => BYTES_ON_A_DEVICE,
            },
        })
    }

    /// Adds a bias `[classes]`.
    ///
    /// # Errors
    /// When it has another shape, holds no floating-point numbers, holds some that the logits'
    /// kind does not, or is on another device.
    pub fn bias(mut self, bias: &Tensor) -> Result<Self> {
        let what = "bias of logits";
        fits(what, "[classes]", bias, &[self.classes()])?;
        let (given, logits) = (floating(what, bias)?, holding_both(self.kind, Kind::Float));
        if !holds(logits, given) {
            return Err(Error::shape(
                what,
                format!("numbers that fit into logits of {logits:?} (convert with `to_kind`)"),
                format!("{given:?}"),
            ));
        }
        let (device, those) = (self.hidden.device(), "the hidden states are");
        on_device(what, those, device, bias.device())?;
        self.bias = Some(bias.shallow_clone());
        Ok(self)
    }

    /// Multiplies the logits, bias included.
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

    /// The logits `[.., classes]`, of at least 32 bits. They are computed each time anew.
    ///
    /// # Errors
    /// When there is no memory for all.
    pub fn whole(&self) -> Result<Tensor> {
        // Hidden states that were widened get their own kind back, and lose no number by it.
        let hidden = in_kind(&self.hidden, self.kind)?;
        let weight = in_kind(&self.weight, self.kind)?;
        let (fused, added) = match &self.bias {
            Some(bias) if holds(self.kind, bias.f_kind()?) => {
                (Some(in_kind(bias, self.kind)?), None)
            }
            bias => (None, bias.as_ref()),
        };
        let mut logits = at_least_float32(&hidden.f_linear(&weight, fused)?)?;
        if let Some(bias) = added {
            logits = logits.f_add(&at_least_float32(bias)?)?;
        }
        if self.scale != 1.0 {
            logits = logits.times(self.scale)?;
        }
        let Some(cap) = self.soft_cap else {
            return Ok(logits);
        };
        if logits.requires_grad() {
            return Ok(logits.over(cap)?.f_tanh()?.times(cap)?);
        }
        // Without a history no other tensor of this size is needed.
        logits.over_(cap)?;
        let _ = logits.f_tanh_()?;
        let _ = logits.f_mul_(&cap.beside(logits.f_kind()?)?)?;
        Ok(logits)
    }

    /// About how many bytes a loss may use for logits and what it computes of them: 256 MiB unless said
    /// otherwise, on a CUDA device 512 MiB. A loss that has a value at each position makes the logits of
    /// as many positions at a time as this allows, at least of one; fewer bytes mean less memory and
    /// more, smaller products.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use textbrewer::logits::FromHidden;
    ///
    /// let numbers = |shape: [i64; 2]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu));
    /// let logits = FromHidden::new(&numbers([1024, 16])?, &numbers([5000, 16])?)?.bytes_at_once(16 << 20);
    /// # let _ = logits;
    /// # textbrewer::Result::Ok(())
    /// ```
    #[must_use]
    pub fn bytes_at_once(mut self, bytes: u64) -> Self {
        self.bytes_at_once = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// The same in a value of its own; no number is copied.
    pub fn shallow_clone(&self) -> Self {
        self.with_hidden(self.hidden.shallow_clone())
    }

    /// With the product computed in this kind, as autocast does it: hidden states and output matrix
    /// may be of a wider one, and are rounded each time.
    pub(crate) fn computed_in(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// How many positions are computed at a time, where as many tensors of the size of the logits are
    /// held for each.
    pub(crate) fn positions_at_once(&self, tensors: i64) -> i64 {
        let of_one = tensors * 4 * self.classes().max(1);
        (self.bytes_at_once / of_one).max(1)
    }

    /// The kind of the logits, and of what is added up over positions.
    pub(crate) fn kind_of_sums(&self) -> Kind {
        holding_both(self.kind, Kind::Float)
    }

    /// What the logits are multiplied by.
    pub(crate) fn factor(&self) -> f64 {
        self.scale
    }

    /// What the logits are kept below, if they are.
    pub(crate) fn cap(&self) -> Option<f64> {
        self.soft_cap
    }

    pub(crate) fn output_bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The gradient of what the output matrix gives, before scale and cap, for that of the logits
    /// `[rows, classes]`, which it may overwrite.
    pub(crate) fn gradient_before_head(
        &self,
        logits: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let mut gradient = gradient.shallow_clone();
        if let Some(cap) = self.soft_cap {
            // Of cap · tanh(x / cap): 1 − tanh².
            let slope = logits.over(cap)?.f_square()?.f_neg_()?.plus(1.0)?;
            let _ = gradient.f_mul_(&slope)?;
        }
        Ok(match self.scale == 1.0 {
            true => gradient,
            false => gradient.times(self.scale)?,
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
