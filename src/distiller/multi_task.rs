//! Several tasks, each with its teachers, and one student of all.

use std::collections::BTreeMap;
use std::fmt;

use tch::nn::VarStore;

use super::builder::no_adaptor;
use super::matches::no_teacher;
use super::{
    Distiller, DistillerBuilder, Ensemble, LossReport, SharedLosses, StepInfo, Student, Teacher,
    TeacherCache, Teachers,
};
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::data::TaskBatch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::optim::ParamGroup;

/// Several tasks, each with one teacher or more, and one student of all.
///
/// Each batch is of one task, as a [`TaskLoader`](crate::data::TaskLoader) mixes them, and
/// goes to this task's teachers and adaptors; the losses and their configuration are those
/// of [`GeneralDistiller`](crate::GeneralDistiller), the same for all tasks.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
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
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let sums = from_fn(|batch: &Tensor, _| Ok(batch.cumsum(-1, Kind::Float).narrow(-1, 0, 2)));
/// let signs = from_fn(|batch: &Tensor, _| Ok(batch.sign().narrow(-1, 0, 2)));
///
/// let mut distiller = MultiTaskDistiller::builder(&student, &variables)
///     .task("sums", Task::new()
///         .teacher(&sums, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .student_adaptor(|_, both: &Tensor| Ok(AdaptorOutput::new().logits(both.narrow(-1, 0, 2)))))
///     .task("signs", Task::new()
///         .teacher(&signs, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///         .student_adaptor(|_, both: &Tensor| Ok(AdaptorOutput::new().logits(both.narrow(-1, 2, 2)))))
///     .train_config(config)
///     .build()?;
///
/// let batches = || VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))]);
/// let mut loader = TaskLoader::new().task("sums", batches()?).task("signs", batches()?).seed(1);
/// distiller.train(&mut loader).steps(6).optimizer(AdamW::new(0.01)).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MultiTaskDistiller<'a, B, S: ?Sized> {
    tasks: BTreeMap<String, ReadyTask<'a, B, S>>,
    model: &'a S,
    variables: &'a VarStore,
    config: TrainingConfig,
    losses: SharedLosses,
    cache: Option<TeacherCache>,
}

struct ReadyTask<'a, B, S: ?Sized> {
    teachers: Teachers<'a, B>,
    student: Student<'a, B, S>,
}

impl<'a, B, S: Model<B> + ?Sized> MultiTaskDistiller<'a, B, S> {
    /// Starts with the student and its variables.
    pub fn builder(
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<ManyTasks<'a, B, S>> {
        DistillerBuilder::of(ManyTasks {
            tasks: Vec::new(),
            model: student,
            variables,
        })
    }
}

impl<B, S: ?Sized> MultiTaskDistiller<'_, B, S> {
    /// The parameters of the projections, `projection.{index of the match}.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        self.losses.projections()
    }
}

impl<B: Batch, S: ?Sized> Distiller for MultiTaskDistiller<'_, B, S> {
    type Batch = TaskBatch<B>;
    type Student = S;

    fn train_on_batch(&mut self, batch: &TaskBatch<B>, step: &StepInfo) -> Result<LossReport> {
        let task = self.tasks.get(&batch.task).ok_or_else(|| {
            let known: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
            let reason = format!(
                "a batch is of this task, but the distiller has only {}; \
                 describe it with `task`, or name the batches as there",
                known.join(", ")
            );
            Error::config(format!("task `{}`", batch.task), reason)
        })?;
        let at_task = |error| error_of(&batch.task, error);
        let teachers = task.teachers.run(&batch.batch, step).map_err(at_task)?;
        let student = task.student.run(&batch.batch).map_err(at_task)?;
        self.losses
            .report(
                &teachers.together,
                &teachers.each,
                &student,
                &batch.batch,
                step,
            )
            .map_err(at_task)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.model
    }

    fn variables(&self) -> &VarStore {
        self.variables
    }

    fn extra_groups(&self) -> Vec<ParamGroup> {
        self.losses.matches().param_groups()
    }

    fn description(&self) -> BTreeMap<String, String> {
        self.losses.description()
    }

    fn teacher_cache(&self) -> Option<&TeacherCache> {
        self.cache.as_ref()
    }
}

/// What an adaptor lacks, or which shapes do not fit, is only understood with the task. All
/// tasks share one cache, and its limit is no task's own.
fn error_of(task: &str, error: Error) -> Error {
    match error {
        Error::CacheLimit { .. } => error,
        other => Error::Task {
            task: task.to_owned(),
            source: Box::new(other),
        },
    }
}

impl<B, S: ?Sized> fmt::Debug for MultiTaskDistiller<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiTaskDistiller")
            .field("tasks", &self.tasks.keys())
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}

type StudentAdaptor<'a, B, O> = Box<dyn Fn(&B, &O) -> Result<AdaptorOutput> + 'a>;

/// One task of a [`MultiTaskDistiller`]: its teachers and adaptors.
///
/// Two teachers of one task, and what the student's output means for it:
///
/// ```
/// use tch::{nn, nn::Module, Device, Tensor};
/// use textbrewer::distiller::{Ensemble, Task};
/// use textbrewer::{from_fn, AdaptorOutput, MultiTaskDistiller, TrainingConfig};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 2, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let teacher = |factor: f64| from_fn(move |batch: &Tensor, _| Ok(batch * factor));
/// let task = Task::new()
///     .teacher(teacher(1.0), |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .teacher(teacher(2.0), |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .ensemble(Ensemble::Weighted(vec![1.0, 3.0]))
///     .student_adaptor(|_, logits: &Tensor| Ok(AdaptorOutput::new().logits(logits)));
/// let builder = MultiTaskDistiller::builder(&student, &variables)
///     .train_config(TrainingConfig::default().device(Device::Cpu));
/// assert!(builder.task("scaling", task).build().is_ok());
/// ```
pub struct Task<'a, B, O> {
    teachers: Vec<Teacher<'a, B>>,
    ensemble: Ensemble,
    student_adaptor: Option<StudentAdaptor<'a, B, O>>,
}

impl<'a, B, O> Task<'a, B, O> {
    /// No teacher yet.
    pub fn new() -> Self {
        Task {
            teachers: Vec::new(),
            ensemble: Ensemble::default(),
            student_adaptor: None,
        }
    }

    /// Adds a teacher with its adaptor.
    #[must_use]
    pub fn teacher<T, F>(mut self, teacher: T, adaptor: F) -> Self
    where
        T: Model<B> + 'a,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.teachers.push(Teacher::new(teacher, adaptor));
        self
    }

    /// How the logits of several teachers become one.
    #[must_use]
    pub fn ensemble(mut self, ensemble: Ensemble) -> Self {
        self.ensemble = ensemble;
        self
    }

    /// What the student's output means for this task.
    #[must_use]
    pub fn student_adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &O) -> Result<AdaptorOutput> + 'a,
    {
        self.student_adaptor = Some(Box::new(adaptor));
        self
    }
}

impl<B, O> Default for Task<'_, B, O> {
    fn default() -> Self {
        Task::new()
    }
}

impl<B, O> fmt::Debug for Task<'_, B, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("teachers", &self.teachers)
            .field("ensemble", &self.ensemble)
            .finish_non_exhaustive()
    }
}

/// The models of a [`MultiTaskDistiller`].
///
/// It is seen only as the type of a builder:
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::distiller::{DistillerBuilder, ManyTasks};
/// use textbrewer::{from_fn, MultiTaskDistiller};
///
/// let variables = VarStore::new(Device::Cpu);
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
/// let builder: DistillerBuilder<ManyTasks<'_, Tensor, _>> =
///     MultiTaskDistiller::builder(&student, &variables);
/// // There is no task yet.
/// assert!(builder.build().is_err());
/// ```
pub struct ManyTasks<'a, B, S: Model<B> + ?Sized> {
    tasks: Vec<(String, Task<'a, B, S::Output>)>,
    model: &'a S,
    variables: &'a VarStore,
}

impl<'a, B, S: Model<B> + ?Sized> DistillerBuilder<ManyTasks<'a, B, S>> {
    /// Adds a task under the name that its batches carry.
    #[must_use]
    pub fn task(mut self, name: impl Into<String>, task: Task<'a, B, S::Output>) -> Self {
        self.models.tasks.push((name.into(), task));
        self
    }

    /// Checks everything that can be checked before a batch is there.
    ///
    /// # Errors
    /// No task, two of one name, one without a student adaptor or a teacher that a match
    /// names, a configuration that cannot work, an unknown preset, a device that is not there or not
    /// where the student is.
    pub fn build(self) -> Result<MultiTaskDistiller<'a, B, S>>
    where
        B: 'a,
        S::Output: 'a,
    {
        self.check(self.models.variables)?;
        let ManyTasks {
            tasks: described,
            model,
            variables,
        } = self.models;
        let cache = TeacherCache::new(&self.distill_config)?;
        let mut tasks = BTreeMap::new();
        // A match may choose among the teachers that every task has.
        let mut choice = usize::MAX;
        for (number, (name, task)) in described.into_iter().enumerate() {
            if tasks.contains_key(&name) {
                let reason = "was given twice; give every task a name of its own";
                return Err(Error::config(format!("task `{name}`"), reason));
            }
            let at_task = |error: Error| match error {
                Error::Config { field, reason } => {
                    Error::config(format!("task `{name}`, {field}"), reason)
                }
                other => other,
            };
            let teachers = Teachers::new(task.teachers, task.ensemble, cache.as_ref(), number)
                .map_err(at_task)?
                .precision(&self.train_config);
            let matches = &self.distill_config.intermediate_matches;
            for (index, matched) in matches.iter().enumerate() {
                if matched.teacher >= teachers.len() {
                    let place = format!("intermediate_matches[{index}]");
                    return Err(at_task(no_teacher(&place, matched.teacher, teachers.len())));
                }
            }
            choice = choice.min(teachers.len());
            let adaptor = task
                .student_adaptor
                .ok_or_else(|| at_task(no_adaptor("student")))?;
            let student = Student::new(model, adaptor, variables).precision(&self.train_config);
            tasks.insert(name, ReadyTask { teachers, student });
        }
        if tasks.is_empty() {
            let reason = "none was given; add at least one with `task`";
            return Err(Error::config("tasks", reason));
        }
        let device = self.train_config.device;
        Ok(MultiTaskDistiller {
            losses: SharedLosses::new(&self.distill_config, &self.presets, device, choice)?,
            tasks,
            model,
            variables,
            config: self.train_config,
            cache,
        })
    }
}

impl<B, S: Model<B> + ?Sized> fmt::Debug for ManyTasks<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyTasks")
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}
