//! A teacher and a student with their adaptors.

use std::fmt;

use tch::nn::VarStore;

use crate::{AdaptorOutput, Model, Result};

/// A model and its adaptor in one.
pub(super) type Adapted<'a, B> = Box<dyn Fn(&B) -> Result<AdaptorOutput> + 'a>;

/// A teacher and a student with their adaptors.
///
/// The teacher always runs in evaluation mode and without gradients, the student in
/// training mode and with them.
pub struct Pair<'a, B, S: ?Sized> {
    teacher: Adapted<'a, B>,
    adapted_student: Adapted<'a, B>,
    student: &'a S,
    variables: &'a VarStore,
}

impl<'a, B, S: Model<B> + ?Sized> Pair<'a, B, S> {
    /// Puts models and adaptors together.
    pub fn new<T, FT, FS>(
        teacher: T,
        teacher_adaptor: FT,
        student: &'a S,
        student_adaptor: FS,
        variables: &'a VarStore,
    ) -> Self
    where
        T: Model<B> + 'a,
        FT: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
        FS: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        Pair {
            teacher: Box::new(move |batch| teacher_adaptor(batch, &teacher.forward(batch, false)?)),
            adapted_student: Box::new(move |batch| {
                student_adaptor(batch, &student.forward(batch, true)?)
            }),
            student,
            variables,
        }
    }
}

impl<'a, B, S: ?Sized> Pair<'a, B, S> {
    /// What the teacher says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub fn run_teacher(&self, batch: &B) -> Result<AdaptorOutput> {
        // The guard gives gradients back even when the model panics.
        let _guard = tch::no_grad_guard();
        (self.teacher)(batch)
    }

    /// What the student says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub fn run_student(&self, batch: &B) -> Result<AdaptorOutput> {
        (self.adapted_student)(batch)
    }

    /// The student itself.
    pub fn student(&self) -> &'a S {
        self.student
    }

    /// The student's variables.
    pub fn variables(&self) -> &'a VarStore {
        self.variables
    }
}

impl<B, S: ?Sized> fmt::Debug for Pair<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}
