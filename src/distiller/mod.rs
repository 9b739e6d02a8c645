//! Distillers: a batch in, a list of weighted losses out.
//!
//! One engine ([`Run`]) drives all of them. A distiller holds the same parts as the
//! others and puts them together in a few lines; one of a user's own does the same from
//! outside the crate, by implementing [`Distiller`].

mod basic;
mod builder;
mod cache;
mod emd;
mod ensemble;
mod general;
mod hard_labels;
mod matches;
mod mixed_precision;
mod multi_task;
mod multi_teacher;
mod one_pair;
mod pair;
mod report;
mod shared_losses;
mod soft_labels;
mod state;
mod step;
mod teacher;
mod trainer;

pub use basic::BasicDistiller;
pub use builder::DistillerBuilder;
pub(crate) use builder::check_training;
pub use cache::{CachePlace, TeacherCache};
pub use emd::{EmdConfig, EmdDistiller, LayerWeights};
pub use ensemble::Ensemble;
pub use general::GeneralDistiller;
pub use hard_labels::HardLabels;
pub use matches::Matches;
pub use multi_task::{ManyTasks, MultiTaskDistiller, Task};
pub use multi_teacher::{ManyTeachers, MultiTeacherDistiller};
pub use one_pair::{OnePair, Parts};
pub use pair::{Pair, Student};
pub use report::{LossReport, LossTerm};
pub(crate) use report::{TOTAL_LOSS, without_dimensions};
pub use shared_losses::SharedLosses;
pub use soft_labels::SoftLabels;
pub use state::{group_state, load_group_state};
pub use step::{StepInfo, WeightSchedule};
pub use teacher::{Teacher, Teachers, TeachersOutput};
pub use trainer::{BasicTrainer, BasicTrainerBuilder};

use std::collections::BTreeMap;

use tch::Tensor;
use tch::nn::VarStore;

use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::data::DataLoader;
use crate::engine::Run;
use crate::error::Result;
use crate::optim::ParamGroup;

/// Turns a batch into losses; the engine does the rest.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::{
///     AdamW, Distiller, LossReport, Result, StepInfo, TrainingConfig, VecLoader,
/// };
///
/// /// Makes the student's output small, whatever the teacher says.
/// struct Shrinker<'a> {
///     student: &'a nn::Linear,
///     variables: &'a nn::VarStore,
///     config: TrainingConfig,
/// }
///
/// impl Distiller for Shrinker<'_> {
///     type Batch = Tensor;
///     type Student = nn::Linear;
///
///     fn train_on_batch(&mut self, batch: &Tensor, _step: &StepInfo) -> Result<LossReport> {
///         let output = self.student.forward(batch);
///         let mut report = LossReport::new();
///         report.add("size", output.square().mean(Kind::Float), 1.0);
///         Ok(report)
///     }
///     fn config(&self) -> &TrainingConfig { &self.config }
///     fn student(&self) -> &nn::Linear { self.student }
///     fn variables(&self) -> &nn::VarStore { self.variables }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let variables = nn::VarStore::new(Device::Cpu);
/// let student = nn::linear(variables.root(), 3, 2, Default::default());
/// let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
///
/// let mut distiller = Shrinker { student: &student, variables: &variables, config };
/// let summary = distiller.train(&mut loader).epochs(3).optimizer(AdamW::new(0.01)).run()?;
/// assert_eq!(summary.global_steps, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Distiller {
    /// What the data loader gives.
    type Batch: Batch;
    /// What callbacks are given.
    type Student: ?Sized;

    /// The losses of one batch, which is on the configured device already.
    ///
    /// # Errors
    /// Whatever goes wrong in the models, adaptors and losses.
    fn train_on_batch(&mut self, batch: &Self::Batch, step: &StepInfo) -> Result<LossReport>;

    /// How to train.
    fn config(&self) -> &TrainingConfig;

    /// The model in training.
    fn student(&self) -> &Self::Student;

    /// The variables of the model in training: optimized, clipped, saved.
    fn variables(&self) -> &VarStore;

    /// Parameters to optimize besides the student's, such as projections. They are saved
    /// in no checkpoint and, unless the configuration says so, not clipped.
    fn extra_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }

    /// Called after every optimizer step, without gradients, before hooks and checkpoint. The
    /// `global_step` and `forward_step` of `step` are the steps and batches done.
    ///
    /// # Errors
    /// Whatever goes wrong; the run ends with it.
    fn after_step(&mut self, _step: &StepInfo) -> Result<()> {
        Ok(())
    }

    /// The tensors that a run needs to go on, besides the student's variables and what the
    /// optimizer remembers: those of [`extra_groups`](Self::extra_groups) by themselves. A
    /// distiller that learns something else adds it, under names of its own.
    ///
    /// # Errors
    /// When there is no memory for them.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(group_state(&self.extra_groups()))
    }

    /// Puts back a copy of what [`state`](Self::state) gave. A run that is resumed calls it
    /// before it touches optimizer and student: when it fails, they are as they were.
    ///
    /// # Errors
    /// When a name, shape or kind does not fit; then nothing is changed.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        load_group_state(&self.extra_groups(), state)
    }

    /// What has to be the same when a run is resumed, besides the training configuration:
    /// any keys and values. The distillers of this crate give their `DistillationConfig`.
    fn description(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Where teacher outputs are kept, if they are. The engine then gives every batch a
    /// number, and empties the cache at the start of a run.
    fn teacher_cache(&self) -> Option<&TeacherCache> {
        None
    }

    /// Starts to describe a training run.
    fn train<'a>(&'a mut self, loader: &'a mut dyn DataLoader<Batch = Self::Batch>) -> Run<'a, Self>
    where
        Self: Sized,
    {
        Run::new(self, loader)
    }
}
