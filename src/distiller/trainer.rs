//! Supervised training, without a teacher.

use std::fmt;

use tch::nn::VarStore;

use super::builder::check_training;
use super::report::{TOTAL_LOSS, sum_of_means};
use super::{Distiller, LossReport, StepInfo, Student};
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::error::{Error, Result, Side};
use crate::model::Model;

/// Supervised training, for making a teacher or a student to compare with.
///
/// `loss = Σ mean(losses)`, where `losses` is what the adaptor returned.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let model = from_fn(|(input, _label): &(Tensor, Tensor), _| Ok(layer.forward(input)));
///
/// let mut trainer = BasicTrainer::builder(&model, &variables)
///     .train_config(config)
///     .adaptor(|(_input, label), logits: &Tensor| {
///         Ok(AdaptorOutput::new().losses(&logits.cross_entropy_for_logits(label)))
///     })
///     .build()?;
/// let input = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
/// let mut loader = VecLoader::new(vec![(input, Tensor::from_slice(&[0i64, 1, 1, 0]))])?;
/// let summary = trainer.train(&mut loader).epochs(3).optimizer(AdamW::new(0.01)).run()?;
/// assert_eq!(summary.checkpoints.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BasicTrainer<'a, B, S: ?Sized> {
    student: Student<'a, B, S>,
    config: TrainingConfig,
}

impl<'a, B, S: Model<B> + ?Sized> BasicTrainer<'a, B, S> {
    /// Starts with the model and its variables.
    pub fn builder(model: &'a S, variables: &'a VarStore) -> BasicTrainerBuilder<'a, B, S> {
        BasicTrainerBuilder {
            model,
            variables,
            student: None,
            config: TrainingConfig::default(),
        }
    }
}

impl<B: Batch, S: ?Sized> Distiller for BasicTrainer<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, _step: &StepInfo) -> Result<LossReport> {
        let output = self.student.run(batch)?;
        let missing = || Error::missing(Side::Student, "losses", "BasicTrainer");
        let total = sum_of_means(&output.losses)?.ok_or_else(missing)?;
        let mut report = LossReport::new();
        report.add(TOTAL_LOSS, total, 1.0);
        Ok(report)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.student.model()
    }

    fn variables(&self) -> &VarStore {
        self.student.variables()
    }
}

impl<B, S: ?Sized> fmt::Debug for BasicTrainer<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicTrainer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Describes a [`BasicTrainer`].
///
/// ```
/// use tch::{nn, nn::Module, Device, Tensor};
/// use textbrewer::{from_fn, AdaptorOutput, BasicTrainer, TrainingConfig};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 1, Default::default());
/// let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let builder = || {
///     BasicTrainer::builder(&model, &variables)
///         .train_config(TrainingConfig::default().device(Device::Cpu))
/// };
/// assert!(builder().build().is_err()); // no adaptor
/// assert!(builder().adaptor(|_, out| Ok(AdaptorOutput::new().losses(out))).build().is_ok());
/// ```
pub struct BasicTrainerBuilder<'a, B, S: ?Sized> {
    model: &'a S,
    variables: &'a VarStore,
    student: Option<Student<'a, B, S>>,
    config: TrainingConfig,
}

impl<'a, B, S: Model<B> + ?Sized> BasicTrainerBuilder<'a, B, S> {
    /// How to train: steps between checkpoints, folders, device.
    #[must_use]
    pub fn train_config(mut self, config: TrainingConfig) -> Self {
        self.config = config;
        self
    }

    /// What the model's output means; it must return `losses`.
    #[must_use]
    pub fn adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.student = Some(Student::new(self.model, adaptor, self.variables));
        self
    }

    /// Checks everything that can be checked before a batch is there.
    ///
    /// # Errors
    /// A missing adaptor, a configuration that cannot work, a device that is not there or
    /// not where the model is.
    pub fn build(self) -> Result<BasicTrainer<'a, B, S>> {
        check_training(&self.config, self.variables)?;
        let no_adaptor = || Error::config("adaptor", "none was given; call `adaptor`");
        Ok(BasicTrainer {
            student: self.student.ok_or_else(no_adaptor)?.precision(&self.config),
            config: self.config,
        })
    }
}

impl<B, S: ?Sized> fmt::Debug for BasicTrainerBuilder<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicTrainerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
