//! One teacher, one student, logits and intermediate features.

use tch::nn::VarStore;

use super::{
    Distiller, DistillerBuilder, HardLabels, LossReport, Matches, Pair, Parts, SoftLabels, StepInfo,
};
use crate::optim::ParamGroup;
use crate::{AdaptorOutput, Batch, Error, Model, Result, TrainingConfig};

/// One teacher, one student, logits and intermediate features. The usual choice.
///
/// `loss = w_kd · KD(student logits, teacher logits) + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses)`
///
/// Logits are matched when both adaptors return them; a model without logits is trained on
/// its features alone.
#[derive(Debug)]
pub struct GeneralDistiller<'a, B, S: ?Sized> {
    pair: Pair<'a, B, S>,
    config: TrainingConfig,
    soft_labels: SoftLabels,
    matches: Matches,
    hard_labels: HardLabels,
    warned_of_logits: bool,
}

impl<'a, B, S: Model<B> + ?Sized> GeneralDistiller<'a, B, S> {
    /// Starts with the models and the student's variables.
    pub fn builder<T: Model<B> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, T, S, Self> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<B, S: ?Sized> GeneralDistiller<'_, B, S> {
    /// The parameters of the projections, `projection.{index of the match}.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        self.matches.projections()
    }

    /// As in the original, logits of one model alone are no error; but they are told of.
    fn both_have_logits(&mut self, teacher: &AdaptorOutput, student: &AdaptorOutput) -> bool {
        let (teacher, student) = (!teacher.logits.is_empty(), !student.logits.is_empty());
        if teacher != student && !self.warned_of_logits {
            self.warned_of_logits = true;
            let (has, lacks) = if teacher {
                ("teacher", "student")
            } else {
                ("student", "teacher")
            };
            log::warn!("the {has} adaptor returned logits, the {lacks} adaptor none: no distillation loss on logits");
        }
        teacher && student
    }
}

impl<'a, B, S: ?Sized> TryFrom<Parts<'a, B, S>> for GeneralDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
        let (config, presets) = (&parts.distill_config, &parts.presets);
        Ok(GeneralDistiller {
            soft_labels: SoftLabels::new(config, presets)?,
            matches: Matches::new(config, presets, parts.train_config.device)?,
            hard_labels: HardLabels::new(config, presets)?,
            pair: parts.pair,
            config: parts.train_config,
            warned_of_logits: false,
        })
    }
}

impl<B: Batch, S: ?Sized> Distiller for GeneralDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch)?;
        let student = self.pair.run_student(batch)?;
        let mut report = LossReport::new();
        if self.both_have_logits(&teacher, &student) {
            self.soft_labels
                .add_to(&mut report, &teacher, &student, step)?;
        }
        self.matches.add_to(&mut report, &teacher, &student)?;
        self.hard_labels.add_to(&mut report, &student, step)?;
        Ok(report)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.pair.student()
    }

    fn variables(&self) -> &VarStore {
        self.pair.variables()
    }

    fn extra_groups(&self) -> Vec<ParamGroup> {
        self.matches.param_groups()
    }
}
