//! The loss between the logits of both models.

use std::fmt;

use tch::Tensor;

use super::report::sum;
use super::step::WeightSchedule;
use super::{LossReport, Needs, Said, StepInfo, Term};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::{Error, Result, Side};
use crate::logits::{probability_shift, select_logits_with_mask};
use crate::losses::{Temperature, at_least_float32};
use crate::optim::ParamGroup;
use crate::presets::{KdLoss, Presets, TemperatureSchedule};

/// The loss between the logits of both models, at a temperature.
///
/// Several logits per model are matched one with one, and their losses are summed.
pub(super) struct SoftLabels {
    loss: KdLoss,
    weight: WeightSchedule,
    temperature: f64,
    temperature_schedule: Option<TemperatureSchedule>,
    probability_shift: bool,
    /// Whether it was reported that only one side has logits.
    warned: bool,
}

impl SoftLabels {
    /// Reads `kd_loss_*`, `temperature*` and `probability_shift`.
    ///
    /// # Errors
    /// When the name of the loss or of a schedule is unknown.
    pub(super) fn new(config: &DistillationConfig, presets: &Presets) -> Result<Self> {
        let weight_schedule = presets.weight_schedule(
            "kd_loss_weight_scheduler",
            config.kd_loss_weight_scheduler.as_ref(),
        )?;
        let temperature_schedule = presets.temperature_schedule(
            "temperature_scheduler",
            config.temperature_scheduler.as_ref(),
        )?;
        Ok(SoftLabels {
            loss: presets.kd_loss_named("kd_loss_type", &config.kd_loss_type)?,
            weight: WeightSchedule::new(config.kd_loss_weight, weight_schedule),
            temperature: config.temperature,
            temperature_schedule,
            probability_shift: config.probability_shift,
            warned: false,
        })
    }

    /// Adds the term `unweighted_kd_loss`.
    ///
    /// # Errors
    /// When an adaptor returned no logits, the two returned different numbers of them,
    /// labels that `probability_shift` needs are missing, or shapes do not fit.
    fn add_loss(
        &self,
        report: &mut LossReport,
        teacher: &AdaptorOutput,
        student: &AdaptorOutput,
        step: &StepInfo,
    ) -> Result<()> {
        let student_logits = selected(&logits_of(student, Side::Student)?, student)?;
        let teacher_logits = self.teacher_logits(teacher, student)?;
        let count = student_logits.len();
        if teacher_logits.len() != count {
            return Err(Error::shape(
                "logits",
                format!("as many of the teacher as of the student ({count})"),
                teacher_logits.len().to_string(),
            ));
        }
        let pairs = student_logits.iter().zip(&teacher_logits);
        if pairs
            .clone()
            .any(|(student, teacher)| student.dim() != teacher.dim())
        {
            both_masked(teacher, student)?;
        }
        let losses = pairs.map(|(student, teacher)| self.loss_between(student, teacher));
        if let Some(sum) = sum(losses)? {
            report.add("unweighted_kd_loss", sum, self.weight.at(step));
        }
        Ok(())
    }

    fn loss_between(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let temperature = match &self.temperature_schedule {
            Some(schedule) => schedule(student, teacher, self.temperature)?,
            None => Temperature::Constant(self.temperature),
        };
        (self.loss)(student, teacher, &temperature)
    }

    /// The teacher's logits, shifted if the configuration says so. They are shifted before a
    /// mask selects positions: labels have the shape of the logits only until then.
    fn teacher_logits(
        &self,
        teacher: &AdaptorOutput,
        student: &AdaptorOutput,
    ) -> Result<Vec<Tensor>> {
        let logits = &logits_of(teacher, Side::Teacher)?;
        if !self.probability_shift {
            return selected(logits, teacher);
        }
        if student.labels.is_empty() {
            return Err(Error::missing(
                Side::Student,
                "labels",
                "`probability_shift`",
            ));
        }
        if student.labels.len() != logits.len() {
            return Err(Error::shape(
                "labels for `probability_shift`",
                format!("one for each of the {} logits", logits.len()),
                student.labels.len().to_string(),
            ));
        }
        let pairs = logits.iter().zip(&student.labels);
        let shifted = pairs.map(|(logits, labels)| probability_shift(logits, labels));
        selected(&shifted.collect::<Result<Vec<_>>>()?, teacher)
    }
}

fn logits_of(output: &AdaptorOutput, side: Side) -> Result<Vec<Tensor>> {
    if output.logits.is_empty() {
        let needed_by = "the distillation loss (`kd_loss_type`)";
        return Err(Error::missing(side, "logits", needed_by));
    }
    output.logits.iter().map(at_least_float32).collect()
}

/// The positions of `logits` that the mask of `output` selects.
fn selected(logits: &[Tensor], output: &AdaptorOutput) -> Result<Vec<Tensor>> {
    if output.logits_mask.is_empty() {
        return Ok(logits.iter().map(Tensor::shallow_clone).collect());
    }
    select_logits_with_mask(logits, &output.logits_mask)
}

/// A mask of one side alone leaves that side with fewer dimensions than the other.
fn both_masked(teacher: &AdaptorOutput, student: &AdaptorOutput) -> Result<()> {
    let (lacks, has) = match (
        teacher.logits_mask.is_empty(),
        student.logits_mask.is_empty(),
    ) {
        (true, false) => (Side::Teacher, Side::Student),
        (false, true) => (Side::Student, Side::Teacher),
        _ => return Ok(()),
    };
    let needed_by = format!("the match with the {has}'s masked logits");
    Err(Error::missing(lacks, "logits_mask", needed_by))
}

impl<B> Term<B> for SoftLabels {
    fn name(&self) -> &str {
        "soft_labels"
    }

    fn needs(&self) -> Needs {
        Needs::new().logits()
    }

    /// Logits are matched when both sides have them; a model without logits is trained on its
    /// features alone.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        let (teacher, student) = (&said.ensemble, &said.student);
        match (teacher.logits.is_empty(), student.logits.is_empty()) {
            (false, false) => self.add_loss(report, teacher, student, said.step),
            (true, true) => Ok(()),
            (teacher_lacks, _) => {
                self.warn_of_logits(teacher_lacks);
                Ok(())
            }
        }
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    fn description(&self) -> String {
        String::new()
    }
}

impl SoftLabels {
    /// As in the original, logits of one side alone are no error; but there is a warning.
    fn warn_of_logits(&mut self, teacher_lacks: bool) {
        let (has, lacks) = match teacher_lacks {
            true => ("student", "teacher"),
            false => ("teacher", "student"),
        };
        if !std::mem::replace(&mut self.warned, true) {
            log::warn!(
                "the {has} adaptor returned logits and the {lacks} adaptor none: \
                 there is no distillation loss on logits"
            );
        }
    }
}

impl fmt::Debug for SoftLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftLabels")
            .field("weight", &self.weight)
            .field("temperature", &self.temperature)
            .field("scheduled", &self.temperature_schedule.is_some())
            .field("probability_shift", &self.probability_shift)
            .finish_non_exhaustive()
    }
}
