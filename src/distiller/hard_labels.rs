//! The loss on the ground truth.

use std::cell::Cell;

use super::report::sum_of_means;
use super::{LossReport, StepInfo, WeightSchedule};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::Result;
use crate::presets::Presets;

/// The loss on the ground truth: the sum of the means of the student adaptor's `losses`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::HardLabels;
/// use textbrewer::{AdaptorOutput, DistillationConfig, LossReport, Presets, StepInfo};
///
/// let config = DistillationConfig::default().hard_label_weight(0.25);
/// let hard_labels = HardLabels::new(&config, &Presets::default())?;
/// let student = AdaptorOutput::new()
///     .losses(&Tensor::from_slice(&[1.0, 3.0])) // one for each example: the mean is taken
///     .losses(&Tensor::from(5.0));
/// let mut report = LossReport::new();
/// hard_labels.add_to(&mut report, &student, &StepInfo::new(0, 0, 10, 1))?;
/// assert_eq!(report.terms()[0].loss.double_value(&[]), 7.0);
/// assert_eq!(report.total()?.double_value(&[]), 1.75);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct HardLabels {
    weight: WeightSchedule,
    /// Whether the configuration counts on losses, and nobody was told that there are none.
    expects_losses: Cell<bool>,
}

impl HardLabels {
    /// Reads `hard_label_weight` and its schedule.
    ///
    /// # Errors
    /// When the schedule's name is unknown.
    pub fn new(config: &DistillationConfig, presets: &Presets) -> Result<Self> {
        let schedule = presets.find_weight_scheduler(
            "hard_label_weight_scheduler",
            config.hard_label_weight_scheduler.as_ref(),
        )?;
        let is_weighted = config.hard_label_weight != 0.0 || schedule.is_some();
        Ok(HardLabels {
            expects_losses: Cell::new(is_weighted),
            weight: WeightSchedule::new(config.hard_label_weight, schedule),
        })
    }

    /// Adds the term `unweighted_hard_label_loss`, if the student's adaptor returned losses.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn add_to(
        &self,
        report: &mut LossReport,
        student: &AdaptorOutput,
        step: &StepInfo,
    ) -> Result<()> {
        if let Some(sum) = sum_of_means(&student.losses)? {
            report.add("unweighted_hard_label_loss", sum, self.weight.at(step));
        } else if self.expects_losses.replace(false) {
            log::warn!(
                "hard_label_weight is set, but the student adaptor returned no `losses`: \
                 the labels do not count"
            );
        }
        Ok(())
    }
}
