//! A model that learns from labels alone.

use std::fmt;

use tch::nn::VarStore;

use super::pair::Adaptor;
use super::{DistillerBuilder, Models, Tasks};
use crate::adaptor::AdaptorOutput;
use crate::config::{DistillationConfig, TrainingConfig};
use crate::distiller::core::ONLY_TASK;
use crate::distiller::student::Student;
use crate::distiller::task_models::TaskModels;
use crate::distiller::teacher::Teachers;
use crate::error::{Error, Result};
use crate::model::Model;

/// A model that learns from labels alone.
pub struct OneModel<'a, B, S: Model<B> + ?Sized> {
    model: &'a S,
    variables: &'a VarStore,
    adaptor: Option<Adaptor<'a, B, S::Output>>,
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized, D>
    DistillerBuilder<'a, B, OneModel<'a, B, S>, D>
{
    /// Starts with the model and its variables; what it learns, it learns without a teacher.
    pub fn without_teacher(model: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder::of(OneModel {
            model,
            variables,
            adaptor: None,
        })
    }

    /// What the model's output means. It must return `losses`, unless there are terms of your own
    /// to learn from.
    #[must_use]
    pub fn adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.models.adaptor = Some(Box::new(adaptor));
        self
    }
}

impl<'a, B: 'static, S: Model<B, Output: 'a> + ?Sized> Models<'a, B> for OneModel<'a, B, S> {
    type Student = S;

    fn student(&self) -> (&'a S, &'a VarStore) {
        (self.model, self.variables)
    }

    fn tasks(self, config: &TrainingConfig, _: &DistillationConfig) -> Result<Tasks<'a, B>> {
        let no_adaptor = || Error::config("adaptor", "none was given; call `adaptor`");
        let models = TaskModels {
            teachers: Teachers::none(),
            student: Student::new(self.model, self.adaptor.ok_or_else(no_adaptor)?, config),
        };
        Ok(Tasks(vec![(ONLY_TASK.to_owned(), models)]))
    }
}

impl<B, S: Model<B> + ?Sized> fmt::Debug for OneModel<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneModel").finish_non_exhaustive()
    }
}
