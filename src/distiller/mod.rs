//! Distillers: a batch in, a list of weighted losses out.
//!
//! One engine ([`Run`]) drives all of them. A distiller holds the same parts as the
//! others and puts them together in a few lines; one of a user's own does the same from
//! outside the crate, by implementing [`Distiller`].

mod any_core;
mod basic;
mod builder;
mod cache;
mod core;
mod emd;
mod ensemble;
mod general;
mod hard_labels;
mod kept;
mod loss_term;
mod matches;
mod mixed_precision;
mod multi_task;
mod multi_teacher;
mod report;
mod said;
mod soft_labels;
mod state;
mod student;
mod supervised;
mod taid;
mod task_models;
mod teacher;
mod term;
mod terms;
mod trainer;
mod weight_schedule;

pub use any_core::AnyCore;
pub use basic::BasicDistiller;
pub(crate) use builder::check_training;
pub use builder::{DistillerBuilder, Task};
#[doc(hidden)]
pub use builder::{ManyTasks, ManyTeachers, OneModel, OnePair};
use cache::TeacherCache;
pub use core::Core;
pub use emd::EmdDistiller;
pub use ensemble::Ensemble;
pub use general::GeneralDistiller;
#[doc(hidden)]
pub use loss_term::LossTerm;
pub use loss_term::loss_term;
pub(crate) use mixed_precision::MixedPrecision;
pub use multi_task::MultiTaskDistiller;
pub use multi_teacher::MultiTeacherDistiller;
pub use report::{LossReport, WeightedLoss};
pub(crate) use report::{TOTAL_LOSS, without_dimensions};
pub use said::Said;
pub(crate) use teacher::Teacher;
pub use term::Term;
pub use trainer::BasicTrainer;

/// Also in [`config`](crate::config).
pub use crate::config::Needs;

use tch::nn::VarStore;

use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::data::DataLoader;
use crate::engine::Run;
use crate::error::Result;
use crate::step::StepInfo;

/// Turns a batch into losses; the engine does the rest.
///
/// The distillers of this crate differ in the models that their builders take. One of your own
/// holds a [`Core`] as they do, which has an example.
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

    /// What it holds: models, configurations, terms.
    fn core(&self) -> &dyn AnyCore<Self::Student>;

    /// The same, to be changed.
    fn core_mut(&mut self) -> &mut dyn AnyCore<Self::Student>;

    /// How to train.
    fn config(&self) -> &TrainingConfig {
        self.core().config()
    }

    /// The model in training.
    fn student(&self) -> &Self::Student {
        self.core().student()
    }

    /// The variables of the model in training: optimized, clipped, saved.
    fn variables(&self) -> &VarStore {
        self.core().variables()
    }

    /// The parameters of the configured projections, `projection.{index of the match}.weight`
    /// and so on, and `emd_projection.weight`.
    fn projections(&self) -> &VarStore {
        self.core().projections()
    }

    /// Starts to describe a training run.
    fn train<'a>(&'a mut self, loader: &'a mut dyn DataLoader<Batch = Self::Batch>) -> Run<'a, Self>
    where
        Self: Sized,
    {
        Run::new(self, loader)
    }
}
