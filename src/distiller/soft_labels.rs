//! The loss between the logits of both models.

use std::fmt;

use tch::Tensor;

use super::report::sum;
use super::{LossReport, StepInfo, WeightSchedule};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::{Error, Result, Side};
use crate::logits::{probability_shift, select_logits_with_mask};
use crate::losses::{Temperature, at_least_float32};
use crate::presets::{KdLoss, Presets, TemperatureSchedule};

/// The loss between the logits of both models, at a temperature.
///
/// Several logits per model are matched one with one, and their losses are summed.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::SoftLabels;
/// use textbrewer::{AdaptorOutput, DistillationConfig, LossReport, Presets, StepInfo};
///
/// let config = DistillationConfig::default()
///     .kd_loss_type("mse")
///     .temperature(2.0)
///     .kd_loss_weight(0.5);
/// let soft_labels = SoftLabels::new(&config, &Presets::default())?;
/// let output = |logits| AdaptorOutput::new().logits(&Tensor::from_slice2(&[[logits]]));
/// let (teacher, student) = (output(5.0), output(1.0));
/// let mut report = LossReport::new();
/// soft_labels.add_to(&mut report, &teacher, &student, &StepInfo::new(0, 0, 10, 1))?;
/// let term = &report.terms()[0];
/// assert_eq!(term.loss.double_value(&[]), 4.0); // ((5 − 1) / 2)²
/// assert_eq!(term.weight, 0.5);
/// # textbrewer::Result::Ok(())
/// ```
pub struct SoftLabels {
    loss: KdLoss,
    weight: WeightSchedule,
    temperature: f64,
    temperature_schedule: Option<TemperatureSchedule>,
    probability_shift: bool,
}

impl SoftLabels {
    /// Reads `kd_loss_*`, `temperature*` and `probability_shift`.
    ///
    /// # Errors
    /// When the name of the loss or of a schedule is unknown.
    pub fn new(config: &DistillationConfig, presets: &Presets) -> Result<Self> {
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
        })
    }

    /// Adds the term `unweighted_kd_loss`.
    ///
    /// # Errors
    /// When an adaptor returned no logits, the two returned different numbers of them,
    /// labels that `probability_shift` needs are missing, or shapes do not fit.
    pub fn add_to(
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
