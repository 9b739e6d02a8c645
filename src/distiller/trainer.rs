//! Supervised training, without a teacher.

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, OneModel};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;

/// Supervised training, for making a teacher or a student to compare with.
///
/// `loss = Σ mean(losses)`, where `losses` is what the adaptor returned.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::losses::cross_entropy;
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let model = from_fn(|(input, _label): &(Tensor, Tensor), _| {
///     Ok(input.f_linear(&layer.ws, layer.bs.as_ref())?)
/// });
///
/// let mut trainer = BasicTrainer::builder(&model, &variables)
///     .train_config(config)
///     .adaptor(|(_input, label), logits: &Tensor| {
///         Ok(AdaptorOutput::new().losses(&cross_entropy(logits, label)?))
///     })
///     .build()?;
/// let input = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
/// let mut loader = VecLoader::new(vec![(input, Tensor::from_slice(&[0i64, 1, 1, 0]))])?;
/// let summary = trainer.train(&mut loader).epochs(3).optimizer(AdamW::new(0.01)).run()?;
/// assert_eq!(summary.checkpoints.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BasicTrainer<'a, B, S: ?Sized>(Core<'a, B, S>);

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> BasicTrainer<'a, B, S> {
    /// Starts with the model and its variables.
    pub fn builder(
        model: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, OneModel<'a, B, S>, Self> {
        DistillerBuilder::without_teacher(model, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for BasicTrainer<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        Ok(BasicTrainer(core.without_tasks("BasicTrainer")?))
    }
}

impl<B: Batch, S: ?Sized> Distiller for BasicTrainer<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn core(&self) -> &dyn AnyCore<S> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        self.0.report(batch, step)
    }
}
