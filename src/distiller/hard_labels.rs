//! The loss on the ground truth.

use std::collections::BTreeMap;

use tch::Tensor;

use super::report::sum_of_means;
use super::weight_schedule::WeightSchedule;
use super::{LossReport, Needs, Said, Term};
use crate::config::DistillationConfig;
use crate::error::Result;
use crate::logging;
use crate::optim::ParamGroup;
use crate::presets::Presets;

/// The loss on the ground truth: the sum of the means of the student adaptor's `losses`.
#[derive(Debug)]
pub(super) struct HardLabels {
    weight: WeightSchedule,
    /// Whether the configuration counts on losses, and their lack was not reported yet.
    expects_losses: bool,
}

impl HardLabels {
    /// Reads `hard_label_weight` and its schedule.
    ///
    /// # Errors
    /// When the schedule's name is unknown.
    pub(super) fn new(config: &DistillationConfig, presets: &Presets) -> Result<Self> {
        let schedule = presets.find_weight_scheduler(
            "hard_label_weight_scheduler",
            config.hard_label_weight_scheduler.as_ref(),
        )?;
        let is_weighted = config.hard_label_weight != 0.0 || schedule.is_some();
        Ok(HardLabels {
            expects_losses: is_weighted,
            weight: WeightSchedule::new(config.hard_label_weight, schedule),
        })
    }
}

impl<B> Term<B> for HardLabels {
    fn name(&self) -> &str {
        "hard_labels"
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    /// Adds `unweighted_hard_label_loss`, if the student's adaptor returned losses.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        if let Some(sum) = sum_of_means(&said.student.losses)? {
            report.add("unweighted_hard_label_loss", sum, self.weight.at(said.step));
        } else if std::mem::take(&mut self.expects_losses) {
            logging::warn(format_args!(
                "hard_label_weight is set, but the student adaptor returned no `losses`: \
                 the labels do not count"
            ));
        }
        Ok(())
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    fn description(&self) -> String {
        String::new()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
