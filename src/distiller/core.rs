//! What every distiller holds.

use std::collections::BTreeMap;
use std::fmt;

use tch::nn::VarStore;

#[cfg(doc)]
use super::DistillerBuilder;
use super::emd::Observed;
use super::task_models::TaskModels;
use super::terms::Terms;
use super::{LossReport, Said, TeacherCache};
use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::step::StepInfo;

/// What every distiller holds: student and variables, teachers, configurations, terms, and the
/// teacher outputs that are kept.
///
/// A distiller of your own holds one too. The engine trains, saves, compares and restores what the
/// core knows. What the distiller has besides, it does not know: keep settings that a resume has to
/// compare, parameters and memory in a [`Term`](super::Term).
///
/// The builders make any `D: TryFrom<Core>` (`From<Core>` will do): [`DistillerBuilder::new`] for a
/// teacher and a student, [`DistillerBuilder::of_teachers`], [`DistillerBuilder::of_tasks`] and
/// [`DistillerBuilder::without_teacher`].
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::distiller::{AnyCore, Core, DistillerBuilder};
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, Batch, Distiller, LossReport, Result, StepInfo,
///     TrainingConfig, VecLoader,
/// };
///
/// /// Learns nothing in the first epoch but to keep its logits small.
/// #[derive(Debug)]
/// struct Late<'a, B, S>(Core<'a, B, S>);
///
/// impl<'a, B, S> From<Core<'a, B, S>> for Late<'a, B, S> {
///     fn from(core: Core<'a, B, S>) -> Self {
///         Late(core)
///     }
/// }
///
/// impl<B: Batch, S> Distiller for Late<'_, B, S> {
///     type Batch = B;
///     type Student = S;
///
///     fn core(&self) -> &dyn AnyCore<S> {
///         &self.0
///     }
///
///     fn core_mut(&mut self) -> &mut dyn AnyCore<S> {
///         &mut self.0
///     }
///
///     fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
///         let said = self.0.run_models(batch, step)?;
///         if step.epoch > 1 {
///             return self.0.losses(&said);
///         }
///         let mut report = LossReport::new();
///         for logits in &said.student.logits {
///             report.add("size", logits.whole()?.f_square()?.f_mean(Kind::Float)?, 1.0);
///         }
///         Ok(report)
///     }
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_narrow(-1, 0, 2)?));
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let mut late: Late<Tensor, _> = DistillerBuilder::new(&teacher, &student, &variables)
///     .train_config(config)
///     .adaptor(|_batch, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// let summary = late.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// assert!(summary.losses.contains_key("unweighted_kd_loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Core<'a, B, S: ?Sized> {
    pub(super) student: &'a S,
    pub(super) variables: &'a VarStore,
    /// By task name; a distiller without tasks has one entry, `ONLY_TASK`.
    pub(super) tasks: BTreeMap<String, TaskModels<'a, B>>,
    pub(super) train_config: TrainingConfig,
    /// None where there is no teacher.
    pub(super) distill_config: Option<DistillationConfig>,
    pub(super) terms: Terms<'a, B>,
    pub(super) cache: Option<TeacherCache>,
    /// What a resume compares, without the terms.
    pub(super) description: BTreeMap<String, String>,
}

/// The name of the only task of a distiller that has not several.
pub(super) const ONLY_TASK: &str = "";

impl<'a, B, S: ?Sized> Core<'a, B, S> {
    /// Runs the models, then all terms. Most distillers' `train_on_batch` is this call.
    ///
    /// # Errors
    /// Those of [`run_models`](Self::run_models) and [`losses`](Self::losses).
    pub fn report(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let said = self.run_models(batch, step)?;
        self.losses(&said)
    }

    /// Runs the teachers, or takes what was kept of them, and the student.
    ///
    /// # Errors
    /// Those of the models, their adaptors and the cache; logits of teachers that do not fit
    /// together.
    pub fn run_models<'b>(&self, batch: &'b B, step: &'b StepInfo) -> Result<Said<'b, B>> {
        let models = self.tasks.get(ONLY_TASK).ok_or_else(|| {
            let reason = "the distiller has several; say which one a batch is of with `run_task`";
            Error::protocol("tasks", reason)
        })?;
        models.run(ONLY_TASK, batch, step)
    }

    /// [`run_models`](Self::run_models) for a batch of one of several tasks.
    ///
    /// # Errors
    /// As there, with the name of the task; when there is no such task.
    pub fn run_task<'b>(
        &self,
        task: &'b str,
        batch: &'b B,
        step: &'b StepInfo,
    ) -> Result<Said<'b, B>> {
        let models = self.tasks.get(task).ok_or_else(|| {
            let known: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
            let has = match known.as_slice() {
                [ONLY_TASK] => "no tasks".to_owned(),
                known => format!("only {}", known.join(", ")),
            };
            let reason = format!(
                "a batch is of this task, but the distiller has {has}; \
                 describe it with `task`, or name the batches as there"
            );
            Error::protocol(format!("task `{task}`"), reason)
        })?;
        let said = models.run(task, batch, step);
        said.map_err(|error| error_of(task, error))
    }

    /// What the terms make of what the models said.
    ///
    /// # Errors
    /// When an adaptor did not return what a term needs, or shapes do not fit.
    pub fn losses(&mut self, said: &Said<'_, B>) -> Result<LossReport> {
        let mut report = LossReport::new();
        let added = self.terms.add_to(&mut report, said, |_| true);
        added.map_err(|error| error_of(said.task, error))?;
        Ok(report)
    }

    /// [`losses`](Self::losses) of the terms of these names alone. The crate's terms are
    /// `soft_labels`, `intermediate_matches`, `hard_labels` and `emd`, and `losses` without a teacher.
    ///
    /// # Errors
    /// As there; when there is no term of such a name.
    pub fn losses_of(&mut self, terms: &[&str], said: &Said<'_, B>) -> Result<LossReport> {
        self.terms.check_names(terms)?;
        let mut report = LossReport::new();
        let added = self
            .terms
            .add_to(&mut report, said, |name| terms.contains(&name));
        added.map_err(|error| error_of(said.task, error))?;
        Ok(report)
    }

    /// Refuses tasks, for a distiller that has no way to tell them apart.
    pub(super) fn without_tasks(self, distiller: &str) -> Result<Self> {
        match self.tasks.contains_key(ONLY_TASK) {
            true => Ok(self),
            false => Err(Error::config(
                "tasks",
                format!("{distiller} has none; use MultiTaskDistiller"),
            )),
        }
    }

    /// What to learn from the teachers; none where there is no teacher.
    pub fn distill_config(&self) -> Option<&DistillationConfig> {
        self.distill_config.as_ref()
    }

    pub(super) fn emd(&self) -> Option<&Observed> {
        self.terms.emd()
    }
}

/// What an adaptor lacks, or which shapes do not fit, is only understood with the task. All
/// tasks share one cache, and its limit is no task's own.
fn error_of(task: &str, error: Error) -> Error {
    match error {
        error if task == ONLY_TASK => error,
        Error::CacheLimit { .. } => error,
        other => Error::Task {
            task: task.to_owned(),
            source: Box::new(other),
        },
    }
}

impl<B, S: ?Sized> fmt::Debug for Core<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("tasks", &self.tasks)
            .field("terms", &self.terms)
            .field("train_config", &self.train_config)
            .field("distill_config", &self.distill_config)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
