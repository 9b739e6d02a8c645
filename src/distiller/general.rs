//! One teacher, one student, logits and intermediate features.

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, OnePair};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;

/// One teacher, one student, logits and intermediate features. The usual choice.
///
/// `loss = w_kd · KD(student logits, teacher logits) + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses)`
///
/// Logits are matched when both adaptors return them; a model without logits is trained on
/// its features alone.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller,
///     IntermediateMatch, ProjectionSpec, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// // Models that return one state `[batch, length, hidden]`; the teacher's is wider.
/// let teacher = from_fn(|batch: &Tensor, _| Ok(Tensor::f_cat(&[batch, batch], -1)?));
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 3, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
///
/// let matched = IntermediateMatch::hidden(0, 0)
///     .loss("hidden_mse")
///     .proj(ProjectionSpec::linear(3, 6));
/// let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
///     .train_config(config)
///     .distill_config(DistillationConfig::default().intermediate_matches([matched]))
///     .adaptor(|_batch, state: &Tensor| {
///         Ok(AdaptorOutput::new().hidden(&[state.shallow_clone()]))
///     })
///     .build()?;
/// assert_eq!(distiller.projections().len(), 2);
/// let mut loader = VecLoader::new(vec![Tensor::randn([4, 5, 3], (Kind::Float, Device::Cpu))])?;
/// let summary = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// assert!(summary.losses.contains_key("unweighted_hidden_hidden_mse_0_0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GeneralDistiller<'a, B, S: ?Sized>(Core<'a, B, S>);

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> GeneralDistiller<'a, B, S> {
    /// Starts with the models and the student's variables.
    pub fn builder<T: Model<B, Output: 'a> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, OnePair<'a, B, T, S>, Self> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for GeneralDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        Ok(GeneralDistiller(core.without_tasks("GeneralDistiller")?))
    }
}

impl<B: Batch, S: ?Sized> Distiller for GeneralDistiller<'_, B, S> {
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
