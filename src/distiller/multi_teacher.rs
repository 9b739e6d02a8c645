//! Several teachers of one task, one student.

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, ManyTeachers};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;

/// Several teachers of one task, of any types and widths, and one student.
///
/// `loss = w_kd · KD(student logits, ensemble of teacher logits) + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses)`
///
/// The [`Ensemble`](super::Ensemble) is the mean of the logits by default. A match takes its features from
/// the teacher that its `teacher` names, the first by default.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::distiller::Ensemble;
/// use textbrewer::{from_fn, AdamW, AdaptorOutput, Distiller, MultiTeacherDistiller};
/// use textbrewer::{TrainingConfig, VecLoader};
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let sure = from_fn(|batch: &Tensor, _| Ok(batch.times(9.0)?));
/// let unsure = from_fn(|batch: &Tensor, _| Ok((batch.times(0.1)?, "a type of its own")));
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 3, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
///
/// let mut distiller = MultiTeacherDistiller::builder(&student, &variables)
///     .teacher(&sure, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .teacher(&unsure, |_, (logits, _)| Ok(AdaptorOutput::new().logits(logits)))
///     .ensemble(Ensemble::Confidence)
///     .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .train_config(config)
///     .build()?;
/// let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MultiTeacherDistiller<'a, B, S: ?Sized>(Core<'a, B, S>);

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> MultiTeacherDistiller<'a, B, S> {
    /// Starts with the student and its variables.
    pub fn builder(
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, ManyTeachers<'a, B, S>, Self> {
        DistillerBuilder::of_teachers(student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for MultiTeacherDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        Ok(MultiTeacherDistiller(
            core.without_tasks("MultiTeacherDistiller")?,
        ))
    }
}

impl<B: Batch, S: ?Sized> Distiller for MultiTeacherDistiller<'_, B, S> {
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
