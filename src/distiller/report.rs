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
    observations: Vec<(String, Tensor)>,
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

    /// Adds a number that is looked at and not learned from, under a name that neither a loss nor
    /// another number has.
    ///
    /// It stays on its device and is then logged and given to callbacks as losses are: in
    /// TensorBoard as `scalar/NAME`, in [`CheckpointInfo::losses`](crate::CheckpointInfo), their
    /// means and [`TrainSummary::losses`](crate::TrainSummary); of several processes it is the mean
    /// over those that have it. One that is NaN or infinite is logged as it is and left out of
    /// [`mean_losses`](crate::CheckpointInfo::mean_losses); it does not end a run.
    ///
    /// ```
    /// use tch::{Kind, Tensor};
    /// use textbrewer::LossReport;
    /// use textbrewer::losses::{Temperature, agreement, forward_kl};
    ///
    /// let student = Tensor::from_slice2(&[[2.0, 0.0], [1.0, 0.0]]);
    /// let teacher = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]);
    /// let loss = forward_kl(&student, &teacher, &Temperature::Constant(1.0))?;
    /// let best = agreement(&student, &teacher, 1)?.best;
    /// let mut report = LossReport::new();
    /// report.add("mine", loss, 1.0).observe("agreement", best.f_mean(Kind::Double)?);
    /// let (name, value) = report.observations().next().expect("one");
    /// assert_eq!((name, value.double_value(&[])), ("agreement", 0.5));
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn observe(&mut self, name: impl Into<String>, value: Tensor) -> &mut Self {
        self.observations.push((name.into(), value));
        self
    }

    /// What is looked at and not learned from: names and values, in the order in which they were
    /// added.
    pub fn observations(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        let observations = self.observations.iter();
        observations.map(|(name, value)| (name.as_str(), value))
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
            Some(name) => Err(Error::protocol(format!("loss `{name}`"), NAME_IS_TAKEN)),
        }
    }

    /// Observations are curves beside those of the losses. Those before `first` are known to be
    /// right.
    pub(super) fn check_observations(&self, first: usize) -> Result<()> {
        for (index, (name, value)) in self.observations.iter().enumerate().skip(first) {
            let what = || format!("observation `{name}`");
            if name.is_empty() {
                return Err(Error::protocol(what(), NO_NAME));
            }
            let mut earlier = self.observations.iter().take(index);
            let mut losses = self.losses.iter();
            if name == TOTAL_LOSS
                || losses.any(|loss| loss.name == *name)
                || earlier.any(|(other, _)| other == name)
            {
                return Err(Error::protocol(what(), NAME_IS_TAKEN));
            }
            check_number(what, value)?;
        }
        Ok(())
    }

    /// The weighted sum.
    ///
    /// # Errors
    /// When there is no loss, one is not a single number, or two have one name; the same of
    /// [observations](Self::observe).
    pub fn total(&self) -> Result<Tensor> {
        self.check_names()?;
        self.check_observations(0)?;
        let weighted = self.losses.iter().map(|part| {
            check_number(|| format!("loss `{}`", part.name), &part.loss)?;
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

/// What is wrong with a second loss of one name.
pub(super) const NAME_IS_TAKEN: &str =
    "there is one of this name already; give it a name of its own";

/// What is wrong with a loss without a name.
pub(super) const NO_NAME: &str = "give it a name, under which it is logged";

/// `what` is asked only where something is wrong.
fn check_number(what: impl Fn() -> String, value: &Tensor) -> Result<()> {
    if !value.defined() {
        return Err(Error::shape(
            what(),
            "a single number",
            "an undefined tensor",
        ));
    }
    if value.numel() != 1 {
        return Err(Error::shape(
            what(),
            "a single number (take the mean or the sum)",
            format!("shape {:?}", value.size()),
        ));
    }
    Ok(())
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
    fn an_observation_has_a_name_and_is_one_number() {
        let number = || Tensor::from(0.5);
        let refused = |names: &[&str], value: Tensor| {
            let mut report = LossReport::new();
            report
                .add("mine", number(), 1.0)
                .add("other", number(), 1.0);
            for name in names {
                report.observe(*name, number());
            }
            report.observe("seen", value);
            report.total().unwrap_err().to_string()
        };
        for name in ["mine", "other", "total_loss", "seen"] {
            assert_eq!(
                refused(&["first", name], number()),
                format!("observation `{name}`: {NAME_IS_TAKEN}")
            );
        }
        assert_eq!(
            refused(&[""], number()),
            format!("observation ``: {NO_NAME}")
        );
        let two = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        assert_eq!(
            refused(&[], two),
            "observation `seen`: expected a single number (take the mean or the sum), got shape [2]"
        );
        assert_eq!(
            refused(&[], Tensor::new()),
            "observation `seen`: expected a single number, got an undefined tensor"
        );
    }

    #[test]
    fn no_loss_is_an_error() {
        let message = LossReport::new().total().unwrap_err().to_string();
        assert!(message.contains("nothing to optimize"), "{message}");
    }
}
