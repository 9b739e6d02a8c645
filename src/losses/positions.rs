//! How losses at the positions of logits become one number.

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::kind::in_kind;
use crate::logits::Logits;
use crate::scalar::ScalarOps;

/// The positions of one tensor of logits: which of them count, what each weighs, and what else
/// is known of each.
///
/// A loss on logits is a function per position. This is the one place that knows how such losses
/// become a number: `Σ w · l / Σ w` over the positions that a mask has left, where `w` is 1
/// without weights. The sum is divided by what is left of this batch; a step of several batches
/// is the mean of theirs.
#[derive(Debug)]
pub(crate) struct Positions {
    /// `[batch]` or `[batch, length]`, before a mask selects.
    shape: Vec<i64>,
    device: Device,
    /// What a mask has left of the flattened positions.
    rows: Option<Tensor>,
    labels: Option<Tensor>,
    weights: Option<Tensor>,
}

impl Positions {
    /// Those of `logits` that `rows` leaves; all without any.
    pub(crate) fn of(logits: &Logits, rows: Option<&Tensor>) -> Self {
        Positions {
            shape: logits.positions(),
            device: logits.device(),
            rows: rows.map(Tensor::shallow_clone),
            labels: None,
            weights: None,
        }
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

    pub(crate) fn are_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// The logits at the positions that are left.
    pub(crate) fn select(&self, logits: &Logits) -> Result<Logits> {
        logits.at_rows(self.rows.as_ref())
    }

    /// The labels at the positions that are left, if there are labels.
    pub(crate) fn labels(&self) -> Result<Option<Tensor>> {
        let Some(labels) = &self.labels else {
            return Ok(None);
        };
        let (size, count) = (labels.size(), self.shape.iter().product::<i64>());
        if size != self.shape && size != [count] {
            return Err(Error::shape(
                "labels of logits",
                format!("{:?}, one for each position", self.shape),
                format!("{size:?}"),
            ));
        }
        Ok(Some(self.left_of(&labels.f_reshape(&self.shape)?)?))
    }

    /// The weighted mean of the losses at the positions that are left; 0, with a gradient of 0,
    /// where all weights are 0.
    pub(crate) fn mean(&self, losses: &Tensor) -> Result<Tensor> {
        let (left, size) = (self.left(), losses.size());
        if size != left {
            return Err(Error::shape(
                "losses at the positions of logits",
                format!("{left:?}, one for each position (a mean or sum over the classes)"),
                format!("{size:?}"),
            ));
        }
        let Some(weights) = &self.weights else {
            return Ok(losses.f_mean(None)?);
        };
        let weights = in_kind(&self.weights_of_each(weights)?, losses.f_kind()?)?;
        let total = weights.f_sum(None)?;
        let total = total.filled(&total.f_logical_not()?, 1.0)?;
        Ok(losses.f_mul(&weights)?.f_sum(None)?.f_div(&total)?)
    }

    fn weights_of_each(&self, weights: &Tensor) -> Result<Tensor> {
        let size = weights.size();
        if size == self.shape {
            return self.left_of(weights);
        }
        match (size.as_slice(), self.shape.as_slice()) {
            (&[one], &[batch, length]) if one == batch => {
                let of_each = weights.f_unsqueeze(1)?.f_expand([batch, length], false)?;
                self.left_of(&of_each)
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

    /// What is left of a tensor with a number for each position.
    fn left_of(&self, values: &Tensor) -> Result<Tensor> {
        let values = match values.device() == self.device {
            true => values.shallow_clone(),
            false => values.f_to_device(self.device)?,
        };
        Ok(match &self.rows {
            Some(rows) => values.f_reshape([-1i64])?.f_index_select(0, rows)?,
            None => values,
        })
    }

    fn left(&self) -> Vec<i64> {
        match &self.rows {
            Some(rows) => rows.size(),
            None => self.shape.clone(),
        }
    }
}
