//! The losses that distillers have in common.

use std::any::Any;
use std::collections::BTreeMap;

use tch::Device;
use tch::nn::VarStore;

use super::state::by_key;
use super::{HardLabels, LossReport, Matches, SoftLabels, StepInfo};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::Result;
use crate::presets::Presets;

/// Soft labels, intermediate matches and hard labels, as one configuration asks for them.
///
/// `loss = w_kd · KD(student logits, teacher logits) + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses)`
///
/// ```
/// use tch::{Device, Tensor};
/// use textbrewer::distiller::SharedLosses;
/// use textbrewer::{AdaptorOutput, DistillationConfig, IntermediateMatch, Presets, StepInfo};
///
/// let config = DistillationConfig::default()
///     .kd_loss_type("mse")
///     .temperature(1.0)
///     .intermediate_matches([IntermediateMatch::hidden(0, 0).loss("hidden_mse").weight(0.5)]);
/// let mut losses = SharedLosses::new(&config, &Presets::default(), Device::Cpu, 1)?;
///
/// let output = |value: f64| {
///     let tensor = Tensor::from_slice(&[value]);
///     let state = tensor.view([1, 1, 1]);
///     AdaptorOutput::new().logits(&tensor.view([1, 1])).hidden(&[state])
/// };
/// let (teacher, student) = (output(3.0), output(1.0));
/// let each = std::slice::from_ref(&teacher);
/// let report = losses.report(&teacher, each, &student, &(), &StepInfo::new(0, 0, 10, 1))?;
/// let names: Vec<&str> = report.terms().iter().map(|term| term.name.as_str()).collect();
/// assert_eq!(names, ["unweighted_kd_loss", "unweighted_hidden_hidden_mse_0_0"]);
/// assert_eq!(report.total()?.double_value(&[]), 4.0 + 0.5 * 4.0);
/// // No match has a projection to train.
/// assert!(losses.matches().param_groups().is_empty() && losses.projections().is_empty());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct SharedLosses {
    soft_labels: SoftLabels,
    matches: Matches,
    hard_labels: HardLabels,
    warned_of_logits: bool,
    description: BTreeMap<String, String>,
}

impl SharedLosses {
    /// Looks everything up that the configuration names. Projections are made on `device`;
    /// `teachers` is how many teachers a match may choose from.
    ///
    /// # Errors
    /// When a name is unknown, a loss takes another number of layers, or a match names a
    /// teacher that is not there.
    pub fn new(
        config: &DistillationConfig,
        presets: &Presets,
        device: Device,
        teachers: usize,
    ) -> Result<Self> {
        Ok(SharedLosses {
            soft_labels: SoftLabels::new(config, presets)?,
            matches: Matches::new(config, presets, device, teachers)?,
            hard_labels: HardLabels::new(config, presets)?,
            warned_of_logits: false,
            description: by_key(config),
        })
    }

    /// All terms. `together` has the logits of all teachers in one, `each` what each
    /// returned, for the matches; `batch` is for losses on logits that ask for it.
    ///
    /// Logits are matched when both sides have them; a model without logits is trained on
    /// its features alone.
    ///
    /// # Errors
    /// When an adaptor did not return what a loss needs, or shapes do not fit.
    pub fn report(
        &mut self,
        together: &AdaptorOutput,
        each: &[AdaptorOutput],
        student: &AdaptorOutput,
        batch: &dyn Any,
        step: &StepInfo,
    ) -> Result<LossReport> {
        let mut report = LossReport::new();
        if self.both_have_logits(together, student) {
            self.soft_labels
                .add_to(&mut report, together, student, batch, step)?;
        }
        self.matches.add_to(&mut report, each, student)?;
        self.hard_labels.add_to(&mut report, student, step)?;
        Ok(report)
    }

    /// The intermediate matches, with their projections.
    pub fn matches(&self) -> &Matches {
        &self.matches
    }

    /// The configuration, for [`Distiller::description`](super::Distiller::description).
    pub fn description(&self) -> BTreeMap<String, String> {
        self.description.clone()
    }

    /// The parameters of the projections.
    pub fn projections(&self) -> &VarStore {
        self.matches.projections()
    }

    /// As in the original, logits of one side alone are no error; but they are told of.
    fn both_have_logits(&mut self, teacher: &AdaptorOutput, student: &AdaptorOutput) -> bool {
        let (teacher, student) = (!teacher.logits.is_empty(), !student.logits.is_empty());
        if teacher != student && !self.warned_of_logits {
            self.warned_of_logits = true;
            let (has, lacks) = match teacher {
                true => ("teacher", "student"),
                false => ("student", "teacher"),
            };
            log::warn!(
                "the {has} adaptor returned logits and the {lacks} adaptor none: \
                 there is no distillation loss on logits"
            );
        }
        teacher && student
    }
}
