//! The loss between the logits of both models.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

mod logits;

use tch::{Device, Kind, Tensor};

use self::logits::{both_masked, logits_of, positions_of, selected};
use super::hard_labels::{HARD_LABEL_LOSS, HardLabels};
use super::report::sum;
use super::taid::Taid;
use super::weight_schedule::WeightSchedule;
use super::{LossReport, Needs, Said, Term};
use crate::adaptor::AdaptorOutput;
use crate::config::DistillationConfig;
use crate::error::{Error, Result, Side};
use crate::logging;
use crate::logits::{Logits, probability_shift};
use crate::losses::positions::LOSSES;
use crate::losses::{Agreement, agreement};
use crate::optim::ParamGroup;
use crate::presets::{Besides, KdInput, KdLoss, Learned, Presets, TemperatureSchedule};
use crate::scalar::ScalarOps;
use crate::step::StepInfo;

/// The loss between the logits of both models, at a temperature.
///
/// Several logits per model are matched one with one, and their losses are summed.
pub(super) struct SoftLabels {
    loss: KdLoss,
    /// What moves the schedule of a loss that has one.
    taid: Option<Taid>,
    /// What errors of the loss are of.
    place: String,
    weight: WeightSchedule,
    /// That of the labels, if they are to be learned.
    hard_labels: Option<WeightSchedule>,
    temperature: f64,
    temperature_schedule: Option<TemperatureSchedule>,
    probability_shift: bool,
    /// For how many of the likeliest classes the models' agreement is told, if it is.
    diagnostics: Option<u64>,
    /// Whether it was reported that only one side has logits.
    warned: bool,
    /// Whether it was reported that the logits of all positions are made.
    warned_of_size: bool,
}

impl SoftLabels {
    /// Reads `kd_loss_*`, `temperature*` and `probability_shift`. What the loss remembers is kept on
    /// `device`.
    ///
    /// # Errors
    /// When the name of the loss or of a schedule is unknown.
    pub(super) fn new(
        config: &DistillationConfig,
        presets: &Presets,
        device: Device,
    ) -> Result<Self> {
        let weight_schedule = presets.find_weight_scheduler(
            "kd_loss_weight_scheduler",
            config.kd_loss_weight_scheduler.as_ref(),
        )?;
        let temperature_schedule = presets.find_temperature_scheduler(
            "temperature_scheduler",
            config.temperature_scheduler.as_ref(),
        )?;
        let mut loss = presets.find_kd_loss("kd_loss_type", &config.kd_loss_type)?;
        if config.tau_squared {
            loss = loss.times_tau_squared()?;
        }
        if config.standardize_logits {
            loss = loss.on_standardized_logits();
        }
        let loss = loss.with_tail(config.tail);
        let taid = loss.schedule();
        let taid = taid.map(|schedule| Taid::new(schedule, device));
        Ok(SoftLabels {
            loss,
            taid: taid.transpose()?,
            place: format!("kd_loss_type `{}`", config.kd_loss_type),
            weight: WeightSchedule::new(config.kd_loss_weight, weight_schedule),
            hard_labels: HardLabels::weight(config, presets)?,
            temperature: config.temperature,
            temperature_schedule,
            probability_shift: config.probability_shift,
            diagnostics: config.diagnostics,
            warned: false,
            warned_of_size: false,
        })
    }

    /// Where it sums what has to be known of the batches of all processes after an optimizer step.
    pub(super) fn step_sums(&self) -> Option<Tensor> {
        self.taid.as_ref().map(Taid::sums)
    }

    /// Adds the term `unweighted_kd_loss`. `batch` is what a loss finds under
    /// [`KdInput::batch`].
    ///
    /// Labels and weights of positions are the student's. No gradient goes to the teacher.
    ///
    /// # Errors
    /// When an adaptor returned no logits, the two returned different numbers of them,
    /// labels that `probability_shift` or the loss needs are missing, the loss needs more of the
    /// teacher's logits than are known or cannot be weighted, or shapes do not fit.
    fn add_loss(
        &mut self,
        report: &mut LossReport,
        teacher: &AdaptorOutput,
        student: &AdaptorOutput,
        batch: &dyn Any,
        step: &StepInfo,
    ) -> Result<()> {
        let student_logits = logits_of(student, Side::Student)?;
        let positions = positions_of(&student_logits, student)?;
        let teacher_logits = self.teacher_logits(teacher, student)?;
        let count = student_logits.len();
        if teacher_logits.len() != count {
            return Err(Error::shape(
                "logits",
                format!("as many of the teacher as of the student ({count})"),
                teacher_logits.len().to_string(),
            ));
        }
        let mut inputs = Vec::with_capacity(count);
        let sides = student_logits.into_iter().zip(teacher_logits);
        for ((student_logits, teacher_logits), positions) in sides.zip(positions) {
            let student_logits = positions.select(&student_logits)?;
            if student_logits.positions()?.len() != teacher_logits.positions()?.len() {
                both_masked(teacher, student)?;
            }
            let input = KdInput::new(student_logits, teacher_logits, self.temperature)?;
            inputs.push(input.at(positions).of_batch(batch, *step));
        }
        // Where a model has several logits, the positions of the first count.
        if step.wants_positions()
            && let Some(input) = inputs.first()
        {
            report.weigh(self.loss.positions(input)?);
        }
        let weight = self.weight.at(step);
        let label_weight = self.label_weight(student, &inputs, step)?;
        let mut losses = Vec::with_capacity(count);
        let mut label_losses = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            self.warn_of_size(&input)?;
            let besides = Besides {
                label_weight,
                // Of several logits the first: their names are alike.
                agreement: self.diagnostics.filter(|_| index == 0),
            };
            let learned = self.apply(input, besides)?;
            if let (Some(means), Some(k)) = (learned.agreement, besides.agreement) {
                for (index, name) in (0..).zip(Agreement::names(k)) {
                    report.observe(name, means.f_select(0, index)?);
                }
            }
            losses.push(Ok(learned.loss));
            label_losses.extend(learned.label_loss.map(Ok));
        }
        if let (Some(label_weight), Some(sum)) = (label_weight, sum(label_losses.into_iter())?) {
            report.add(HARD_LABEL_LOSS, sum, label_weight * weight);
        }
        if let Some(sum) = sum(losses.into_iter())? {
            if let Some(taid) = &mut self.taid {
                taid.add(&sum, report.positions())?;
                report.observe("taid_t", taid.t());
            }
            report.add("unweighted_kd_loss", sum, weight);
        }
        Ok(())
    }

    /// Whether the loss is a mean over all positions of an optimizer step by itself.
    pub(super) fn is_over_the_step(&self) -> bool {
        self.loss.is_over_the_step()
    }

    /// The weight of the labels' cross entropy relative to the loss, if it can be learned in the same
    /// pass: the adaptor gave labels and hidden states and no losses of the model's own, and the mask
    /// keeps all positions that have a label. Else it is for the hard labels to compute.
    fn label_weight(
        &self,
        student: &AdaptorOutput,
        inputs: &[KdInput<'_>],
        step: &StepInfo,
    ) -> Result<Option<f64>> {
        let Some(hard_labels) = &self.hard_labels else {
            return Ok(None);
        };
        let goes_in_parts = self.temperature_schedule.is_none()
            && inputs.iter().all(|input| self.loss.is_made_in_parts(input));
        let is_asked_for =
            student.losses.is_empty() && student.labels.len() == student.logits.len();
        if !goes_in_parts || !is_asked_for {
            return Ok(None);
        }
        let (weight, of_labels) = (self.weight.at(step), hard_labels.at(step));
        // As a part of almost nothing it would be rounded away, or be infinite.
        if weight.abs() < 1e-6 * of_labels.abs() || weight == 0.0 {
            return Ok(None);
        }
        if !student.logits_mask.is_empty() {
            for (input, labels) in inputs.iter().zip(&student.labels) {
                let count = |labels: &Tensor| -> Result<i64> {
                    let is_class = labels.is_below(0)?.f_logical_not()?;
                    Ok(i64::try_from(&is_class.f_sum(Kind::Int64)?)?)
                };
                if count(labels)? != count(&input.labels()?)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(of_labels / weight))
    }

    fn apply(&self, mut input: KdInput<'_>, besides: Besides) -> Result<Learned> {
        let schedule = self.temperature_schedule.as_ref();
        // A schedule takes means too.
        if let Some(schedule) = schedule.filter(|_| !input.is_empty()) {
            // Made once: the schedule and the loss look at the same logits.
            let student = input.student.whole()?;
            let teacher = input.teacher.whole_for("temperature_scheduler")?;
            input.temperature = schedule(&student, &teacher, self.temperature)?;
            (input.student, input.teacher) = (student.into(), teacher.into());
        }
        let learned = self.loss.apply_and(&input, besides);
        let learned = learned.and_then(|learned| self.with_agreement(learned, &input, besides));
        learned.map_err(|error| match error {
            // Others name the loss themselves.
            Error::Other(_) | Error::Torch { .. } => error.at(&self.place),
            Error::Shape { ref what, .. } if what == LOSSES || what == "logits" => {
                error.at(&self.place)
            }
            error => error,
        })
    }

    /// With the agreement of whole logits, where it was not measured in a pass that makes them in parts.
    fn with_agreement(
        &self,
        mut learned: Learned,
        input: &KdInput<'_>,
        besides: Besides,
    ) -> Result<Learned> {
        let is_known = |logits: &Logits| matches!(logits, Logits::Whole(_) | Logits::FromHidden(_));
        let Some(k) = besides.agreement.filter(|_| learned.agreement.is_none()) else {
            return Ok(learned);
        };
        let at_its_positions = self.loss.at_its_positions(input)?;
        let input = at_its_positions.as_ref().unwrap_or(input);
        if input.is_empty() || !is_known(&input.teacher) {
            return Ok(learned);
        }
        let _no_history = tch::no_grad_guard();
        let (student, teacher) = (input.student.whole()?, input.teacher.whole()?);
        let shares = input.shares(student.f_kind()?)?;
        let k = i64::try_from(k).unwrap_or(i64::MAX);
        learned.agreement = Some(agreement(&student, &teacher, k)?.sums(&shares)?);
        Ok(learned)
    }

    /// The teacher's logits, shifted if the configuration says so. They are shifted before a
    /// mask selects positions: labels have the shape of the logits only until then.
    fn teacher_logits(
        &self,
        teacher: &AdaptorOutput,
        student: &AdaptorOutput,
    ) -> Result<Vec<Logits>> {
        let logits = logits_of(teacher, Side::Teacher)?;
        let logits: Vec<Logits> = logits.iter().map(Logits::detached).collect::<Result<_>>()?;
        if !self.probability_shift {
            return selected(&logits, teacher);
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
        let shifted = pairs.map(|(logits, labels)| {
            let logits = logits.whole_for("probability_shift")?;
            Ok(probability_shift(&logits, labels)?.into())
        });
        selected(&shifted.collect::<Result<Vec<_>>>()?, teacher)
    }
}

impl<B: 'static> Term<B> for SoftLabels {
    fn name(&self) -> &str {
        "soft_labels"
    }

    fn needs(&self) -> Needs {
        Needs::new().logits()
    }

    /// Logits are matched when both sides have them; a model without logits is trained on its
    /// features alone.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        if let Some(taid) = &mut self.taid {
            taid.before_batch(said.step)?;
        }
        let (teacher, student) = (&said.ensemble, &said.student);
        match (teacher.logits.is_empty(), student.logits.is_empty()) {
            (false, false) => self.add_loss(report, teacher, student, said.batch, said.step),
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

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(self.taid.as_ref().map(Taid::state).unwrap_or_default())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        match &mut self.taid {
            Some(taid) => taid.load_state(state),
            None => Ok(()),
        }
    }

    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        match &mut self.taid {
            Some(taid) => taid.after_step(step),
            None => Ok(()),
        }
    }
}

impl SoftLabels {
    /// Hidden states in place of logits are to save memory, which not every loss can.
    fn warn_of_size(&mut self, input: &KdInput<'_>) -> Result<()> {
        let Logits::FromHidden(logits) = &input.student else {
            return Ok(());
        };
        let reason = match (
            self.loss.needs_all_positions(),
            self.temperature_schedule.is_some(),
        ) {
            (true, _) => &self.place,
            (false, true) => "temperature_scheduler",
            (false, false) => return Ok(()),
        };
        let positions: i64 = input.student.positions()?.iter().product();
        let classes = logits.classes();
        if !std::mem::replace(&mut self.warned_of_size, true) {
            logging::warn(format_args!(
                "{reason} has to see all positions together: the student's logits are made whole, \
                 {positions} × {classes} numbers at a time; other losses make them in parts"
            ));
        }
        Ok(())
    }

    /// As in the original, logits of one side alone are no error; but there is a warning.
    fn warn_of_logits(&mut self, teacher_lacks: bool) {
        let (has, lacks) = match teacher_lacks {
            true => ("student", "teacher"),
            false => ("teacher", "student"),
        };
        if !std::mem::replace(&mut self.warned, true) {
            logging::warn(format_args!(
                "the {has} adaptor returned logits and the {lacks} adaptor none: \
                 there is no distillation loss on logits"
            ));
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
