//! The total loss of a batch, as a list of named, weighted losses.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::Said;
use crate::error::{Error, Result};
use crate::kind::is_floating;
use crate::losses::at_least_float32;
use crate::losses::mean::mean;
use crate::scalar::ScalarOps;

/// The name under which the weighted sum is logged.
pub(crate) const TOTAL_LOSS: &str = "total_loss";

/// One part of the total loss.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::LossReport;
///
/// let mut report = LossReport::new();
/// report.add("size", Tensor::from(3.0), 0.5);
/// let part = &report.losses()[0];
/// assert_eq!((part.name.as_str(), part.weight), ("size", 0.5));
/// assert_eq!(part.loss.double_value(&[]), 3.0); // not weighted yet
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct WeightedLoss {
    /// Under which name it is logged, unweighted, after `scalar/`.
    pub name: String,
    /// The loss: one number.
    pub loss: Tensor,
    /// Its weight in the total.
    pub weight: f64,
}

/// The total loss of a batch, as a list of named, weighted losses: `total = Σ weightᵢ · lossᵢ`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::LossReport;
///
/// let mut report = LossReport::new();
/// report
///     .add("unweighted_kd_loss", Tensor::from(2.0), 0.5)
///     .add("unweighted_hard_label_loss", Tensor::from(3.0), 1.0);
/// assert_eq!(report.total()?.double_value(&[]), 4.0);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct LossReport {
    losses: Vec<WeightedLoss>,
    positions: Option<Tensor>,
}

impl LossReport {
    /// No loss yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss, under a name that no other has; `total_loss` is the sum of all.
    pub fn add(&mut self, name: impl Into<String>, loss: Tensor, weight: f64) -> &mut Self {
        self.losses.push(WeightedLoss {
            name: name.into(),
            loss,
            weight,
        });
        self
    }

    /// Says how many positions the losses are means over: tokens, or examples. With
    /// [`weigh_by_positions`](crate::TrainingConfig#structfield.weigh_by_positions) the batch weighs by
    /// this number in its optimizer step. The soft labels say it where there are any; the first to
    /// say it decides.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::LossReport;
    ///
    /// let mut report = LossReport::new();
    /// let mask = Tensor::from_slice2(&[[1.0, 1.0, 0.0]]);
    /// report.add("mine", Tensor::from(0.3), 1.0).weigh(mask.f_sum(None)?);
    /// assert_eq!(report.positions().map(|count| count.double_value(&[])), Some(2.0));
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn weigh(&mut self, positions: Tensor) -> &mut Self {
        self.positions.get_or_insert(positions);
        self
    }

    /// How many positions the losses are means over, if a term has said so.
    pub fn positions(&self) -> Option<&Tensor> {
        self.positions.as_ref()
    }

    /// Says that the losses are means over the labelled positions, where they are asked for and known.
    pub(super) fn weigh_by_labels(&mut self, said: &Said<'_, impl Sized>) -> Result<()> {
        if said.step.wants_positions()
            && self.positions.is_none()
            && let Some(labels) = said.student.labels.first()
        {
            // A number that is to be predicted may be negative.
            let has_label = match is_floating(labels.f_kind()?) {
                true => labels.f_ones_like()?,
                false => labels.is_below(0)?.f_logical_not()?,
            };
            self.positions = Some(has_label.f_sum(Kind::Double)?);
        }
        Ok(())
    }

    /// The losses, in the order in which they were added.
    pub fn losses(&self) -> &[WeightedLoss] {
        &self.losses
    }

    /// Losses of one name would be one curve, and the total has its own.
    fn check_names(&self) -> Result<()> {
        let names = || self.losses.iter().map(|loss| loss.name.as_str());
        let twice = match self.losses.len() {
            0 | 1 => None,
            // Without an allocation in every step.
            2..=64 => {
                let mut numbered = names().enumerate();
                let twice = numbered.find(|(index, name)| names().take(*index).any(|n| n == *name));
                twice.map(|(_, name)| name)
            }
            _ => {
                let mut known = BTreeSet::new();
                names().find(|name| !known.insert(*name))
            }
        };
        let is_alone = self.losses.len() <= 1;
        match twice.or_else(|| names().find(|name| *name == TOTAL_LOSS && !is_alone)) {
            None => Ok(()),
            Some(name) => {
                let reason = "there is one of this name already; give it a name of its own";
                Err(Error::protocol(format!("loss `{name}`"), reason))
            }
        }
    }

    /// The weighted sum.
    ///
    /// # Errors
    /// When there is no loss, one is not a single number, or two have one name.
    pub fn total(&self) -> Result<Tensor> {
        self.check_names()?;
        let weighted = self.losses.iter().map(|part| {
            if !part.loss.defined() {
                let what = format!("loss `{}`", part.name);
                return Err(Error::shape(what, "a single number", "an undefined tensor"));
            }
            if part.loss.numel() != 1 {
                return Err(Error::shape(
                    format!("loss `{}`", part.name),
                    "a single number (take the mean or the sum)",
                    format!("shape {:?}", part.loss.size()),
                ));
            }
            let loss = without_dimensions(&part.loss)?;
            Ok(match part.weight {
                1.0 => loss,
                weight => loss.times(weight)?,
            })
        });
        sum(weighted)?.ok_or_else(|| {
            Error::protocol(
                "losses",
                "nothing to optimize: the adaptors returned neither logits of both models \
                 nor `losses`, and no intermediate match is configured",
            )
        })
    }
}

/// A single number without dimensions, which most losses are already.
pub(crate) fn without_dimensions(loss: &Tensor) -> Result<Tensor> {
    Ok(match loss.dim() {
        0 => loss.shallow_clone(),
        _ => loss.f_reshape([0i64; 0])?,
    })
}

/// The sum of losses, in their order; none for none.
pub(super) fn sum(losses: impl Iterator<Item = Result<Tensor>>) -> Result<Option<Tensor>> {
    let mut total: Option<Tensor> = None;
    for loss in losses {
        let loss = loss?;
        total = Some(match total {
            Some(total) => total.f_add(&loss)?,
            None => loss,
        });
    }
    Ok(total)
}

/// The sum of the means of `losses`; none for none.
pub(super) fn sum_of_means(losses: &[Tensor]) -> Result<Option<Tensor>> {
    sum(losses.iter().map(|loss| mean(&at_least_float32(loss)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_loss_that_is_not_one_number_is_refused_by_name() {
        let mut report = LossReport::new();
        report.add("mine", Tensor::zeros([3], (Kind::Float, Device::Cpu)), 1.0);
        let message = report.total().unwrap_err().to_string();
        assert!(
            message.contains("`mine`") && message.contains("[3]"),
            "{message}"
        );
    }

    #[test]
    fn no_loss_is_an_error() {
        let message = LossReport::new().total().unwrap_err().to_string();
        assert!(message.contains("nothing to optimize"), "{message}");
    }
}
