//! One teacher, one student, logits and intermediate features.

use std::slice;

use tch::nn::VarStore;

use super::{
    Distiller, DistillerBuilder, LossReport, OnePair, Pair, Parts, SharedLosses, StepInfo,
    TeacherCache,
};
use crate::optim::ParamGroup;
use crate::{Batch, Error, Model, Result, TrainingConfig};

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
    losses: SharedLosses,
}

impl<'a, B, S: Model<B> + ?Sized> GeneralDistiller<'a, B, S> {
    /// Starts with the models and the student's variables.
    pub fn builder<T: Model<B> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<OnePair<'a, B, T, S, Self>> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<B, S: ?Sized> GeneralDistiller<'_, B, S> {
    /// The parameters of the projections, `projection.{index of the match}.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        self.losses.projections()
    }
}

impl<'a, B, S: ?Sized> TryFrom<Parts<'a, B, S>> for GeneralDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
        let device = parts.train_config.device;
        Ok(GeneralDistiller {
            losses: SharedLosses::new(&parts.distill_config, &parts.presets, device, 1)?,
            pair: parts.pair,
            config: parts.train_config,
        })
    }
}

impl<B: Batch, S: ?Sized> Distiller for GeneralDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch, step)?;
        let student = self.pair.run_student(batch)?;
        let each = slice::from_ref(&teacher);
        self.losses.report(&teacher, each, &student, step)
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
        self.losses.matches().param_groups()
    }

    fn teacher_cache(&self) -> Option<&TeacherCache> {
        self.pair.teacher_cache()
    }
}
