//! The loss between the logits of both models.

use std::fmt;

use tch::Tensor;

use super::report::sum;
use super::{LossReport, StepInfo, WeightSchedule};
use crate::losses::Temperature;
use crate::{
    probability_shift, select_logits_with_mask, AdaptorOutput, DistillationConfig, Error, KdLoss,
    Presets, Result, Side, TemperatureSchedule,
};

/// The loss between the logits of both models, at a temperature.
///
/// Several logits per model are matched one with one, and their losses are summed.
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
        let teacher_logits = selected_logits(teacher, Side::Teacher)?;
        let student_logits = selected_logits(student, Side::Student)?;
        let count = student_logits.len();
        if teacher_logits.len() != count {
            return Err(Error::shape(
                "logits",
                format!("as many of the teacher as of the student ({count})"),
                teacher_logits.len().to_string(),
            ));
        }
        let labels = self.labels(student, count)?;

        let pairs = teacher_logits.iter().zip(&student_logits).enumerate();
        let losses = pairs.map(|(index, (teacher, student))| match labels.get(index) {
            Some(labels) => self.loss_of(student, &probability_shift(teacher, labels)?),
            None => self.loss_of(student, teacher),
        });
        if let Some(sum) = sum(losses)? {
            report.add("unweighted_kd_loss", sum, self.weight.at(step));
        }
        Ok(())
    }

    fn loss_of(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let temperature = match &self.temperature_schedule {
            Some(schedule) => schedule(student, teacher, self.temperature)?,
            None => Temperature::Constant(self.temperature),
        };
        (self.loss)(student, teacher, &temperature)
    }

    /// One tensor of labels for each of the logits, or none when they are not needed.
    fn labels(&self, student: &AdaptorOutput, count: usize) -> Result<Vec<Tensor>> {
        if !self.probability_shift {
            return Ok(Vec::new());
        }
        if student.labels.is_empty() {
            return Err(missing(Side::Student, "labels", "probability_shift"));
        }
        if student.labels.len() != count {
            return Err(Error::shape(
                "labels for probability_shift",
                format!("one for each of the {count} logits"),
                student.labels.len().to_string(),
            ));
        }
        select_labels(student)
    }
}

/// Labels follow their logits: where a mask picks positions, it picks the same labels.
fn select_labels(student: &AdaptorOutput) -> Result<Vec<Tensor>> {
    let pairs = student.labels.iter().zip(&student.logits).enumerate();
    pairs
        .map(|(index, (labels, logits))| {
            let mask = match student.logits_mask.as_slice() {
                [only] => Some(only),
                masks => masks.get(index),
            };
            Ok(match mask {
                Some(mask) if logits.dim() == 3 => labels.f_masked_select(&mask.f_ne(0)?)?,
                _ => labels.shallow_clone(),
            })
        })
        .collect()
}

fn selected_logits(output: &AdaptorOutput, side: Side) -> Result<Vec<Tensor>> {
    if output.logits.is_empty() {
        return Err(missing(
            side,
            "logits",
            "the distillation loss (kd_loss_type)",
        ));
    }
    if output.logits_mask.is_empty() {
        return Ok(output.logits.iter().map(Tensor::shallow_clone).collect());
    }
    select_logits_with_mask(&output.logits, &output.logits_mask)
}

fn missing(side: Side, key: &str, needed_by: &str) -> Error {
    Error::MissingOutput {
        side,
        key: key.to_owned(),
        needed_by: needed_by.to_owned(),
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
