//! One teacher, one student, logits only.

use std::collections::BTreeMap;

use tch::nn::VarStore;

use super::state::by_key;
use super::{
    Distiller, DistillerBuilder, HardLabels, LossReport, OnePair, Pair, Parts, SoftLabels,
    StepInfo, TeacherCache,
};
use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::error::{Error, Result};
use crate::model::Model;

/// One teacher, one student, logits only.
///
/// `loss = w_kd · KD(student logits, teacher logits) + w_hl · Σ mean(losses)`
///
/// Both adaptors must return logits. For intermediate features use
/// [`GeneralDistiller`](crate::GeneralDistiller).
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, BasicDistiller, Distiller, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch.narrow(-1, 0, 2) * 3.0));
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
///
/// let mut distiller = BasicDistiller::builder(&teacher, &student, &variables)
///     .train_config(config)
///     .adaptor(|_batch, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .build()?;
/// let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// let summary = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// assert!(summary.losses.contains_key("unweighted_kd_loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BasicDistiller<'a, B, S: ?Sized> {
    pair: Pair<'a, B, S>,
    config: TrainingConfig,
    soft_labels: SoftLabels,
    hard_labels: HardLabels,
    description: BTreeMap<String, String>,
}

impl<'a, B, S: Model<B> + ?Sized> BasicDistiller<'a, B, S> {
    /// Starts with the models and the student's variables.
    pub fn builder<T: Model<B> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<OnePair<'a, B, T, S, Self>> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Parts<'a, B, S>> for BasicDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
        if !parts.distill_config.intermediate_matches.is_empty() {
            return Err(Error::config(
                "intermediate_matches",
                "BasicDistiller matches logits only; use GeneralDistiller",
            ));
        }
        Ok(BasicDistiller {
            soft_labels: SoftLabels::new(&parts.distill_config, &parts.presets)?,
            hard_labels: HardLabels::new(&parts.distill_config, &parts.presets)?,
            description: by_key(&parts.distill_config),
            pair: parts.pair,
            config: parts.train_config,
        })
    }
}

impl<B: Batch, S: ?Sized> Distiller for BasicDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teacher = self.pair.run_teacher(batch, step)?;
        let student = self.pair.run_student(batch)?;
        let mut report = LossReport::new();
        self.soft_labels
            .add_to(&mut report, &teacher, &student, batch, step)?;
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

    fn description(&self) -> BTreeMap<String, String> {
        self.description.clone()
    }

    fn teacher_cache(&self) -> Option<&TeacherCache> {
        self.pair.teacher_cache()
    }
}
