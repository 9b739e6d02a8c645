//! The loss on the ground truth.

use std::collections::BTreeMap;

use tch::Tensor;

use super::report::{sum, sum_of_means};
use super::weight_schedule::WeightSchedule;
use super::{LossReport, Needs, Said, Term, WeightedLoss};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::Result;
use crate::logging;
use crate::logits::Logits;
use crate::optim::ParamGroup;
use crate::presets::{Presets, cross_entropy_in_parts};

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
        let weight = HardLabels::weight(config, presets)?;
        Ok(HardLabels {
            expects_losses: weight.is_some(),
            warned: false,
            weight: weight.unwrap_or(WeightSchedule::new(config.hard_label_weight, None)),
        })
    }

    /// Their weight, if they are to be learned.
    pub(super) fn weight(
        config: &DistillationConfig,
        presets: &Presets,
    ) -> Result<Option<WeightSchedule>> {
        let schedule = presets.find_weight_scheduler(
            "hard_label_weight_scheduler",
            config.hard_label_weight_scheduler.as_ref(),
        )?;
        let is_weighted = config.hard_label_weight != 0.0 || schedule.is_some();
        Ok(is_weighted.then(|| WeightSchedule::new(config.hard_label_weight, schedule)))
    }
}

/// The cross entropy of the labels, where an adaptor gives hidden states in place of logits and no losses
/// of the model's own; of several logits the sum.
fn of_hidden_states(student: &AdaptorOutput) -> Result<Option<Tensor>> {
    if student.labels.len() != student.logits.len() {
        return Ok(None);
    }
    let pairs = student.logits.iter().zip(&student.labels);
    let from_hidden = pairs.filter_map(|(logits, labels)| match logits {
        Logits::FromHidden(logits) => Some(cross_entropy_in_parts(logits, labels)),
        _ => None,
    });
    sum(from_hidden)
}

/// The name of the loss.
pub(super) const HARD_LABEL_LOSS: &str = "unweighted_hard_label_loss";

const NOT_RETURNED: &str = "hard_label_weight is set, but the student adaptor returned no \
                            `losses`, nor hidden states (`FromHidden`) with `labels`: the labels do \
                            not count";
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
        // With hidden states in place of logits the soft labels compute it in their pass.
        let is_there = |loss: &WeightedLoss| loss.name == HARD_LABEL_LOSS;
        let is_learned = report.losses().iter().any(is_there);
        let sum = match (sum, self.expects_losses && !is_learned) {
            (None, true) => of_hidden_states(&said.student)?,
            (sum, _) => sum,
        };
        let has_losses = is_learned || sum.is_some();
        if let Some(sum) = sum {
            report.weigh_by_labels(said)?;
            report.add(HARD_LABEL_LOSS, sum, self.weight.at(said.step));
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
