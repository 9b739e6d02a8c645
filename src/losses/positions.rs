//! How losses at the positions of logits become one number.

use tch::{Device, Kind, Tensor};

use super::mean::{mean, per_count};
use crate::error::{Error, Result};
use crate::kind::{defined, in_kind};
use crate::logits::Logits;
use crate::scalar::ScalarOps;

/// What errors call what a loss per position returned.
pub(crate) const LOSSES: &str = "losses at the positions of logits";

/// The positions of one tensor of logits: which of them count, what each weighs, and what else
/// is known of each.
///
/// A loss on logits is a function per position. This is the one place that knows how such losses
/// become a number: `Σ w · l / Σ w` over the selected positions, where `w` is 1 without weights.
/// The sum is divided by what is selected of this batch. A step of several batches is the mean of
/// theirs, or has them weigh by what was divided by ([`Positions::total`]), and is so a mean over
/// all positions of the step.
#[derive(Debug)]
pub(crate) struct Positions {
    /// `[batch]` or `[batch, length]`, before the selection.
    shape: Vec<i64>,
    device: Device,
    /// Which of the flattened positions are selected, by a mask or by their labels.
    rows: Option<Tensor>,
    labels: Option<Tensor>,
    weights: Option<Tensor>,
}

impl Positions {
    /// Those of `logits` that `rows` selects. With `None`, all positions.
    pub(crate) fn of(logits: &Logits, rows: Option<&Tensor>) -> Result<Self> {
        Ok(Positions {
            shape: logits.positions()?,
            device: logits.device()?,
            rows: rows.map(Tensor::shallow_clone),
            labels: None,
            weights: None,
        })
    }

    /// With labels of the positions that were there before the selection.
    pub(crate) fn with_labels(mut self, labels: Option<&Tensor>) -> Self {
        self.labels = labels.map(Tensor::shallow_clone);
        self
    }

    /// With weights of these positions, or of the examples.
    pub(crate) fn with_weights(mut self, weights: Option<&Tensor>) -> Self {
        self.weights = weights.map(Tensor::shallow_clone);
        self
    }

    /// Those of the selected positions that are at these rows.
    pub(crate) fn at_rows(&self, rows: &Tensor) -> Result<Self> {
        let clone = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Ok(Positions {
            shape: self.shape.clone(),
            device: self.device,
            rows: Some(match &self.rows {
                Some(selected) => selected.f_index_select(0, rows)?,
                None => rows.shallow_clone(),
            }),
            labels: clone(&self.labels),
            weights: clone(&self.weights),
        })
    }

    pub(crate) fn shallow_clone(&self) -> Self {
        let clone = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Positions {
            shape: self.shape.clone(),
            device: self.device,
            rows: clone(&self.rows),
            labels: clone(&self.labels),
            weights: clone(&self.weights),
        }
    }

    pub(crate) fn are_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// The logits at the selected positions.
    pub(crate) fn select(&self, logits: &Logits) -> Result<Logits> {
        logits.at_rows(self.rows.as_ref())
    }

    /// The labels at the selected positions, if there are labels.
    pub(crate) fn labels(&self) -> Result<Option<Tensor>> {
        let Some(labels) = &self.labels else {
            return Ok(None);
        };
        defined("labels of logits", labels)?;
        let (size, count) = (labels.size(), self.shape.iter().product::<i64>());
        if size != self.shape && size != [count] {
            return Err(Error::shape(
                "labels of logits",
                format!("{:?}, one for each position", self.shape),
                format!("{size:?}"),
            ));
        }
        Ok(Some(self.selected_of(&labels.f_reshape(&self.shape)?)?))
    }

    /// The weighted mean of the losses at the selected positions; 0, with a gradient of 0, where
    /// there are none or all weights are 0.
    pub(crate) fn mean(&self, losses: &Tensor) -> Result<Tensor> {
        defined(LOSSES, losses)?;
        let (selected, size) = (self.selected(), losses.size());
        if size != selected {
            return Err(Error::shape(
                LOSSES,
                format!("{selected:?}, one for each position (a mean or sum over the classes)"),
                format!("{size:?}"),
            ));
        }
        let Some(weights) = &self.weights else {
            return mean(losses);
        };
        let weights = in_kind(&self.weights_of_each(weights)?, losses.f_kind()?)?;
        per_count(&losses.f_mul(&weights)?.f_sum(None)?, &total_of(&weights)?)
    }

    /// What each of the selected positions has in the mean, flattened: `w / Σ w`, where all weights
    /// are 0 too.
    pub(crate) fn shares(&self, kind: Kind) -> Result<Tensor> {
        let count = self.selected().iter().product::<i64>();
        let Some(weights) = &self.weights else {
            let one = Tensor::f_ones([count], (kind, self.device))?;
            return Ok(one.over(count.max(1) as f64)?);
        };
        let weights = in_kind(&self.weights_of_each(weights)?, kind)?.f_reshape([-1i64])?;
        per_count(&weights, &total_of(&weights)?)
    }

    /// How many positions are selected, or what they weigh together: what their mean is divided by.
    /// Where `at_labels`, those alone that have a label.
    pub(crate) fn total(&self, at_labels: bool) -> Result<Tensor> {
        let options = (Kind::Double, self.device);
        let weights = match &self.weights {
            Some(weights) => Some(in_kind(&self.weights_of_each(weights)?, Kind::Double)?),
            None => None,
        };
        let labels = match at_labels {
            true => self.labels()?,
            false => None,
        };
        let Some(labels) = labels else {
            let count = self.selected().iter().product::<i64>() as f64;
            return match weights {
                Some(weights) => total_of(&weights),
                None => Ok(Tensor::f_zeros([0i64; 0], options)?.plus(count)?),
            };
        };
        let has_label = labels.is_below(0)?.f_logical_not()?;
        let has_label = has_label.f_to_kind(Kind::Double)?;
        match weights {
            Some(weights) => total_of(&weights.f_mul(&has_label)?),
            None => Ok(has_label.f_sum(None)?),
        }
    }

    fn weights_of_each(&self, weights: &Tensor) -> Result<Tensor> {
        defined("logits_weights", weights)?;
        let size = weights.size();
        if size == self.shape || size.as_slice() == self.shape.get(..1).unwrap_or_default() {
            check_sign(weights)?;
        }
        if size == self.shape {
            return self.selected_of(weights);
        }
        match (size.as_slice(), self.shape.as_slice()) {
            (&[one], &[batch, length]) if one == batch => {
                let of_each = weights.f_unsqueeze(1)?.f_expand([batch, length], false)?;
                self.selected_of(&of_each)
            }
            _ => Err(Error::shape(
                "logits_weights",
                format!(
                    "one for each position, {:?}, or for each example",
                    self.shape
                ),
                format!("{size:?}"),
            )),
        }
    }

    /// The numbers at the selected positions, of a tensor with one for each position.
    fn selected_of(&self, values: &Tensor) -> Result<Tensor> {
        let values = match values.device() == self.device {
            true => values.shallow_clone(),
            false => values.f_to_device(self.device)?,
        };
        Ok(match &self.rows {
            Some(rows) => values.f_reshape([-1i64])?.f_index_select(0, rows)?,
            None => values,
        })
    }

    /// Whether there is no position at all.
    pub(crate) fn are_none(&self) -> bool {
        self.selected().contains(&0)
    }

    /// `[selected]`, or the shape of all positions.
    pub(crate) fn selected(&self) -> Vec<i64> {
        match &self.rows {
            Some(rows) => rows.size(),
            None => self.shape.clone(),
        }
    }
}

/// The sum of weights. On the CPU none is negative by now.
fn total_of(weights: &Tensor) -> Result<Tensor> {
    let total = weights.f_sum(None)?;
    Ok(match weights.device() {
        Device::Cpu => total,
        // Not waited for: the loss is NaN, and that is reported.
        _ => total.filled(&weights.is_below(0.0)?.f_any()?, f64::NAN)?,
    })
}

/// Looked at on the CPU alone: elsewhere the host would wait for the device.
fn check_sign(weights: &Tensor) -> Result<()> {
    if weights.device() != Device::Cpu || weights.numel() == 0 {
        return Ok(());
    }
    let least = weights.f_min()?.f_to_kind(Kind::Double)?;
    let least = f64::try_from(&least)?;
    match least >= 0.0 {
        true => Ok(()),
        false => Err(Error::shape(
            "logits_weights",
            "numbers of at least 0",
            format!("{least}"),
        )),
    }
}
