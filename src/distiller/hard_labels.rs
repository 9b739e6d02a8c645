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
    /// Whether the configuration counts on losses.
    expects_losses: bool,
    /// Whether it was reported that losses and the configuration do not go together.
    warned: bool,
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
            warned: false,
            weight: WeightSchedule::new(config.hard_label_weight, schedule),
        })
    }
}

const NOT_RETURNED: &str = "hard_label_weight is set, but the student adaptor returned no \
                            `losses`: the labels do not count";
const NOT_WEIGHTED: &str = "the student adaptor returned `losses`, but hard_label_weight is 0: they \
                            are logged and not learned from; set `hard_label_weight`";

impl<B> Term<B> for HardLabels {
    fn name(&self) -> &str {
        "hard_labels"
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    /// Adds `unweighted_hard_label_loss`, if the student's adaptor returned losses.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let sum = sum_of_means(&said.student.losses)?;
        let has_losses = sum.is_some();
        if let Some(sum) = sum {
            report.weigh_by_labels(said)?;
            report.add("unweighted_hard_label_loss", sum, self.weight.at(said.step));
        }
        if has_losses != self.expects_losses && !std::mem::replace(&mut self.warned, true) {
            let message = match has_losses {
                true => NOT_WEIGHTED,
                false => NOT_RETURNED,
            };
            logging::warn(format_args!("{message}"));
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
