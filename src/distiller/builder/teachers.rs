//! Several teachers and one student.

use std::fmt;

use tch::nn::VarStore;

use super::pair::Adaptor;
use super::{DistillerBuilder, Models, Tasks, WithTeacher, no_adaptor};
use crate::adaptor::AdaptorOutput;
use crate::config::{DistillationConfig, TrainingConfig};
use crate::distiller::Ensemble;
use crate::distiller::core::ONLY_TASK;
use crate::distiller::student::Student;
use crate::distiller::task_models::TaskModels;
use crate::distiller::teacher::{Teacher, Teachers};
use crate::error::Result;
use crate::model::Model;

/// Several teachers and one student.
pub struct ManyTeachers<'a, B, S: Model<B> + ?Sized> {
    teachers: Vec<Teacher<'a, B>>,
    ensemble: Ensemble,
    student: &'a S,
    variables: &'a VarStore,
    student_adaptor: Option<Adaptor<'a, B, S::Output>>,
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized, D>
    DistillerBuilder<'a, B, ManyTeachers<'a, B, S>, D>
{
    /// Starts with the student and its variables; teachers are added one by one.
    pub fn of_teachers(student: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder::of(ManyTeachers {
            teachers: Vec::new(),
            ensemble: Ensemble::default(),
            student,
            variables,
            student_adaptor: None,
        })
    }

    /// Adds a teacher with its adaptor. Teachers may be of different types.
    #[must_use]
    pub fn teacher<T, F>(mut self, teacher: T, adaptor: F) -> Self
    where
        T: Model<B> + 'a,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.models.teachers.push(Teacher::new(teacher, adaptor));
        self
    }

    /// Adds teachers of one type that share an adaptor.
    #[must_use]
    pub fn teachers<T, F>(self, teachers: impl IntoIterator<Item = T>, adaptor: F) -> Self
    where
        T: Model<B> + 'a,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + Clone + 'a,
    {
        let add = |builder: Self, teacher| builder.teacher(teacher, adaptor.clone());
        teachers.into_iter().fold(self, add)
    }

    /// How the logits of the teachers become one.
    #[must_use]
    pub fn ensemble(mut self, ensemble: Ensemble) -> Self {
        self.models.ensemble = ensemble;
        self
    }

    /// What the student's output means.
    #[must_use]
    pub fn student_adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.models.student_adaptor = Some(Box::new(adaptor));
        self
    }
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> Models<'a, B> for ManyTeachers<'a, B, S> {
    type Student = S;

    fn student(&self) -> (&'a S, &'a VarStore) {
        (self.student, self.variables)
    }

    fn tasks(self, config: &TrainingConfig, _: &DistillationConfig) -> Result<Tasks<'a, B>> {
        let teachers = Teachers::new(self.teachers, self.ensemble, config)?;
        let adaptor = self.student_adaptor.ok_or_else(|| no_adaptor("student"))?;
        let student = Student::new(self.student, adaptor, config);
        let models = TaskModels { teachers, student };
        Ok(Tasks(vec![(ONLY_TASK.to_owned(), models)]))
    }
}

impl<B, S: Model<B> + ?Sized> WithTeacher for ManyTeachers<'_, B, S> {}

impl<B, S: Model<B> + ?Sized> fmt::Debug for ManyTeachers<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyTeachers")
            .field("teachers", &self.teachers.len())
            .field("ensemble", &self.ensemble)
            .finish_non_exhaustive()
    }
}
