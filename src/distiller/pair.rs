//! A teacher and a student with their adaptors.

use std::fmt;

use tch::nn::VarStore;

use crate::{AdaptorOutput, Error, Model, Result, Side};

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
        defined((self.teacher)(batch)?, Side::Teacher)
    }

    /// What the student says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub fn run_student(&self, batch: &B) -> Result<AdaptorOutput> {
        defined((self.adapted_student)(batch)?, Side::Student)
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

/// Refuses tensors that hold nothing: libtorch has no shape to give for them, and tch panics
/// where one is asked for.
pub(super) fn defined(output: AdaptorOutput, side: Side) -> Result<AdaptorOutput> {
    let lists = [
        ("logits", &output.logits),
        ("logits_mask", &output.logits_mask),
        ("labels", &output.labels),
        ("losses", &output.losses),
    ];
    let features = output.features.iter();
    let of_lists = lists
        .into_iter()
        .chain(features.map(|(name, layers)| (name.as_str(), layers)))
        .flat_map(|(key, tensors)| tensors.iter().map(move |tensor| (key, tensor)));
    let mask = output.inputs_mask.iter().map(|mask| ("inputs_mask", mask));
    for (key, tensor) in of_lists.chain(mask) {
        if !tensor.defined() {
            let what = format!("`{key}` of the {side} adaptor");
            return Err(Error::shape(what, "a tensor", "an undefined one"));
        }
    }
    Ok(output)
}

impl<B, S: ?Sized> fmt::Debug for Pair<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}
