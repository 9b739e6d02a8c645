//! One teacher and one student.

use std::fmt;
use std::rc::Rc;

use tch::nn::VarStore;

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

pub(super) type Adaptor<'a, B, O> = Box<dyn Fn(&B, &O) -> Result<AdaptorOutput> + 'a>;

/// One teacher and one student.
pub struct OnePair<'a, B, T: Model<B>, S: Model<B> + ?Sized> {
    teacher: T,
    student: &'a S,
    variables: &'a VarStore,
    teacher_adaptor: Option<Adaptor<'a, B, T::Output>>,
    student_adaptor: Option<Adaptor<'a, B, S::Output>>,
}

/// `D` is anything that can be made of a [`Core`](crate::distiller::Core): a distiller of your
/// own implements `TryFrom<Core>` and gets this builder with it.
impl<'a, B, T, S, D> DistillerBuilder<'a, B, OnePair<'a, B, T, S>, D>
where
    B: 'static,
    T: Model<B, Output: 'a> + 'a,
    S: Model<B, Output: 'a> + ?Sized,
{
    /// Starts with the models and the student's variables.
    pub fn new(teacher: T, student: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder::of(OnePair {
            teacher,
            student,
            variables,
            teacher_adaptor: None,
            student_adaptor: None,
        })
    }

    /// One adaptor for both models, whose outputs are of one type.
    #[must_use]
    pub fn adaptor<F>(self, adaptor: F) -> Self
    where
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
        S: Model<B, Output = T::Output>,
    {
        let shared = Rc::new(adaptor);
        let adaptor = Rc::clone(&shared);
        self.teacher_adaptor(move |batch, output| shared(batch, output))
            .student_adaptor(move |batch, output| adaptor(batch, output))
    }

    /// What the teacher's output means.
    #[must_use]
    pub fn teacher_adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.models.teacher_adaptor = Some(Box::new(adaptor));
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

impl<'a, B, T, S> Models<'a, B> for OnePair<'a, B, T, S>
where
    B: 'static,
    T: Model<B, Output: 'a> + 'a,
    S: Model<B, Output: 'a> + ?Sized,
{
    type Student = S;

    fn student(&self) -> (&'a S, &'a VarStore) {
        (self.student, self.variables)
    }

    fn tasks(self, config: &TrainingConfig, _: &DistillationConfig) -> Result<Tasks<'a, B>> {
        let teacher_adaptor = self.teacher_adaptor.ok_or_else(|| no_adaptor("teacher"))?;
        let student_adaptor = self.student_adaptor.ok_or_else(|| no_adaptor("student"))?;
        let teachers = vec![Teacher::new(self.teacher, teacher_adaptor)];
        let models = TaskModels {
            teachers: Teachers::new(teachers, Ensemble::default(), config)?,
            student: Student::new(self.student, student_adaptor, config),
        };
        Ok(Tasks(vec![(ONLY_TASK.to_owned(), models)]))
    }
}

impl<B, T: Model<B>, S: Model<B> + ?Sized> WithTeacher for OnePair<'_, B, T, S> {}

impl<B, T: Model<B>, S: Model<B> + ?Sized> fmt::Debug for OnePair<'_, B, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnePair").finish_non_exhaustive()
    }
}
