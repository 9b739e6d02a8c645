//! The models of one task.

use std::cell::RefCell;
use std::fmt;

use super::Said;
use super::student::Student;
use super::teacher::Teachers;
use crate::error::Result;
use crate::step::StepInfo;

/// The teachers of one task, and the student with its adaptor for it.
pub(super) struct TaskModels<'a, B> {
    pub(super) teachers: Teachers<'a, B>,
    pub(super) student: Student<'a, B>,
}

impl<B> TaskModels<'_, B> {
    /// Runs them on a batch.
    ///
    /// # Errors
    /// Those of the models, their adaptors and the cache; logits of teachers that do not fit
    /// together.
    pub(super) fn run<'b>(
        &self,
        task: &'b str,
        batch: &'b B,
        step: &'b StepInfo,
    ) -> Result<Said<'b, B>> {
        let (teachers, ensemble) = self.teachers.run(batch, step)?;
        Ok(Said {
            student: self.student.run(batch)?,
            needs: RefCell::new(self.teachers.needs()),
            batch,
            task,
            step,
            teachers,
            ensemble,
        })
    }
}

impl<B> fmt::Debug for TaskModels<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskModels")
            .field("teachers", &self.teachers)
            .finish_non_exhaustive()
    }
}
