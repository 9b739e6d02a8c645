//! Several tasks, each with its teachers, and one student of all.

use tch::nn::VarStore;

use super::builder::{DistillerBuilder, ManyTasks};
use super::{AnyCore, Core, Distiller, LossReport};
use crate::batch::Batch;
use crate::data::TaskBatch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::step::StepInfo;

/// Several tasks, each with one teacher or more, and one student of all.
///
/// Each batch is of one task, as a [`TaskLoader`](crate::data::TaskLoader) mixes them, and
/// goes to this task's teachers and adaptors; the losses and their configuration are those
/// of [`GeneralDistiller`](crate::GeneralDistiller), the same for all tasks.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::data::TaskLoader;
/// use textbrewer::distiller::Task;
/// use textbrewer::{from_fn, AdamW, AdaptorOutput, Distiller, MultiTaskDistiller};
/// use textbrewer::{TrainingConfig, VecLoader};
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// // A body that both tasks share, and a head of two logits for each.
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 4, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let sums = from_fn(|batch: &Tensor, _| Ok(batch.f_cumsum(-1, Kind::Float)?.f_narrow(-1, 0, 2)?));
/// let signs = from_fn(|batch: &Tensor, _| Ok(batch.f_sign()?.f_narrow(-1, 0, 2)?));
///
/// let mut distiller = MultiTaskDistiller::builder(&student, &variables)
///     .task("sums", Task::new()
///         .teacher(&sums, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .student_adaptor(|_, both: &Tensor| {
///             Ok(AdaptorOutput::new().logits(both.f_narrow(-1, 0, 2)?))
///         }))
///     .task("signs", Task::new()
///         .teacher(&signs, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .student_adaptor(|_, both: &Tensor| {
///             Ok(AdaptorOutput::new().logits(both.f_narrow(-1, 2, 2)?))
///         }))
///     .train_config(config)
///     .build()?;
///
/// let batches = || VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))]);
/// let mut loader = TaskLoader::new().task("sums", batches()?).task("signs", batches()?).seed(1);
/// distiller.train(&mut loader).steps(6).optimizer(AdamW::new(0.01)).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MultiTaskDistiller<'a, B, S: ?Sized>(Core<'a, B, S>);

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> MultiTaskDistiller<'a, B, S> {
    /// Starts with the student and its variables.
    pub fn builder(
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<'a, B, ManyTasks<'a, B, S>, Self> {
        DistillerBuilder::of_tasks(student, variables)
    }
}

impl<'a, B, S: ?Sized> TryFrom<Core<'a, B, S>> for MultiTaskDistiller<'a, B, S> {
    type Error = Error;

    fn try_from(core: Core<'a, B, S>) -> Result<Self> {
        Ok(MultiTaskDistiller(core))
    }
}

impl<B: Batch, S: ?Sized> Distiller for MultiTaskDistiller<'_, B, S> {
    type Batch = TaskBatch<B>;
    type Student = S;

    fn core(&self) -> &dyn AnyCore<S> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &TaskBatch<B>, step: &StepInfo) -> Result<LossReport> {
        let said = self.0.run_task(&batch.task, &batch.batch, step)?;
        self.0.losses(&said)
    }
}
