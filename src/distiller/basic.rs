//! One teacher, one student, logits only.

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, OnePair};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;

/// One teacher, one student, logits only.
///
/// `loss = w_kd · KD(student logits, teacher logits) + w_hl · Σ mean(losses)`
///
/// Both adaptors must return logits. For intermediate features use
/// [`GeneralDistiller`](crate::GeneralDistiller).
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, BasicDistiller, Distiller, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_narrow(-1, 0, 2)?.times(3.0)?));
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
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
pub struct BasicDistiller<'a, B, S: ?Sized>(Core<'a, B, S>);

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> BasicDistiller<'a, B, S> {
    /// Starts with the models and the student's variables.
    pub fn builder<T: Model<B, Output: 'a> + 'a>(
        teacher: T,
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, OnePair<'a, B, T, S>, Self> {
        DistillerBuilder::new(teacher, student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for BasicDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        let config = core.distill_config();
        let has_matches = config.is_some_and(|config| !config.intermediate_matches.is_empty());
        let reason = "BasicDistiller matches logits only; use GeneralDistiller";
        if has_matches {
            return Err(Error::config("intermediate_matches", reason));
        }
        if config.is_some_and(|config| config.emd.is_some()) {
            return Err(Error::config("emd", reason));
        }
        Ok(BasicDistiller(core.without_tasks("BasicDistiller")?))
    }
}

impl<B: Batch, S: ?Sized> Distiller for BasicDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn core(&self) -> &dyn AnyCore<S> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let said = self.0.run_models(batch, step)?;
        said.require_logits()?;
        self.0.losses(&said)
    }
}
