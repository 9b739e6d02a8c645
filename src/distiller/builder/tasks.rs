//! Several tasks, each with its teachers, and one student.

use std::fmt;

use tch::nn::VarStore;

use super::pair::Adaptor;
use super::{DistillerBuilder, Models, Tasks, WithTeacher, no_adaptor};
use crate::adaptor::AdaptorOutput;
use crate::config::{DistillationConfig, TrainingConfig};
use crate::distiller::Ensemble;
use crate::distiller::said::no_teacher;
use crate::distiller::student::Student;
use crate::distiller::task_models::TaskModels;
use crate::distiller::teacher::{Teacher, Teachers};
use crate::error::{Error, Result};
use crate::model::Model;

/// One task of a [`MultiTaskDistiller`](crate::MultiTaskDistiller): its teachers and adaptors.
///
/// Two teachers of one task, and what the student's output means for it:
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::losses::support::ScalarOps;
/// use textbrewer::distiller::{Ensemble, Task};
/// use textbrewer::{from_fn, AdaptorOutput, MultiTaskDistiller, TrainingConfig};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 2, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let teacher = |factor: f64| from_fn(move |batch: &Tensor, _| Ok(batch.times(factor)?));
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
    student_adaptor: Option<Adaptor<'a, B, O>>,
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

/// Several tasks, each with its teachers, and one student.
pub struct ManyTasks<'a, B, S: Model<B> + ?Sized> {
    tasks: Vec<(String, Task<'a, B, S::Output>)>,
    student: &'a S,
    variables: &'a VarStore,
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized, D>
    DistillerBuilder<'a, B, ManyTasks<'a, B, S>, D>
{
    /// Starts with the student and its variables; tasks are added one by one.
    pub fn of_tasks(student: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder::of(ManyTasks {
            tasks: Vec::new(),
            student,
            variables,
        })
    }

    /// Adds a task under the name that its batches carry.
    #[must_use]
    pub fn task(mut self, name: impl Into<String>, task: Task<'a, B, S::Output>) -> Self {
        self.models.tasks.push((name.into(), task));
        self
    }
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> Models<'a, B> for ManyTasks<'a, B, S> {
    type Student = S;

    fn student(&self) -> (&'a S, &'a VarStore) {
        (self.student, self.variables)
    }

    fn tasks(
        self,
        config: &TrainingConfig,
        distill_config: &DistillationConfig,
    ) -> Result<Tasks<'a, B>> {
        let mut tasks: Vec<(String, TaskModels<'a, B>)> = Vec::with_capacity(self.tasks.len());
        for (name, task) in self.tasks {
            if tasks.iter().any(|(known, _)| *known == name) {
                let reason = "was given twice; give every task a name of its own";
                return Err(Error::config(format!("task `{name}`"), reason));
            }
            let models = task.ready(self.student, config, distill_config);
            let models = models.map_err(|error| match error {
                Error::Config { field, reason } => {
                    Error::config(format!("task `{name}`, {field}"), reason)
                }
                other => other,
            })?;
            tasks.push((name, models));
        }
        if tasks.is_empty() {
            let reason = "none was given; add at least one with `task`";
            return Err(Error::config("tasks", reason));
        }
        Ok(Tasks(tasks))
    }
}

impl<'a, B: 'static, O: 'a> Task<'a, B, O> {
    fn ready<S: Model<B, Output = O> + ?Sized>(
        self,
        student: &'a S,
        config: &TrainingConfig,
        distill_config: &DistillationConfig,
    ) -> Result<TaskModels<'a, B>> {
        let teachers = Teachers::new(self.teachers, self.ensemble, config)?;
        for (index, matched) in distill_config.intermediate_matches.iter().enumerate() {
            if matched.teacher >= teachers.len() {
                let place = format!("intermediate_matches[{index}]");
                return Err(no_teacher(&place, matched.teacher, teachers.len()));
            }
        }
        let adaptor = self.student_adaptor.ok_or_else(|| no_adaptor("student"))?;
        Ok(TaskModels {
            teachers,
            student: Student::new(student, adaptor, config),
        })
    }
}

impl<B, S: Model<B> + ?Sized> WithTeacher for ManyTasks<'_, B, S> {}

impl<B, S: Model<B> + ?Sized> fmt::Debug for ManyTasks<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyTasks")
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}
