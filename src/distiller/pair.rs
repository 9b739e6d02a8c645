//! A teacher and a student with their adaptors.

use std::fmt;

use tch::nn::VarStore;

use super::mixed_precision::MixedPrecision;
use super::{CachePlace, StepInfo, Teacher, TeacherCache};
use crate::adaptor::AdaptorOutput;
use crate::config::TrainingConfig;
use crate::error::{Error, Result, Side};
use crate::logits::Logits;
use crate::model::Model;

/// A model and its adaptor in one. Only the model computes in another precision: what an
/// adaptor computes may be a loss.
pub(super) type Adapted<'a, B> = Box<dyn Fn(&B, MixedPrecision) -> Result<AdaptorOutput> + 'a>;

/// A student with its adaptor and its variables.
///
/// It always runs in training mode and with gradients.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::distiller::Student;
/// use textbrewer::{from_fn, AdaptorOutput};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let model = from_fn(|batch: &Tensor, train| {
///     assert!(train);
///     Ok(layer.forward(batch))
/// });
/// let adaptor = |_: &Tensor, logits: &Tensor| Ok(AdaptorOutput::new().logits(logits));
/// let student = Student::new(&model, adaptor, &variables);
/// let output = student.run(&Tensor::ones([4, 3], (Kind::Float, Device::Cpu)))?;
/// assert!(output.logits[0].whole()?.requires_grad());
/// assert_eq!(student.variables().len(), 2);
/// assert!(std::ptr::eq(student.model(), &model));
/// # textbrewer::Result::Ok(())
/// ```
pub struct Student<'a, B, S: ?Sized> {
    adapted: Adapted<'a, B>,
    precision: MixedPrecision,
    model: &'a S,
    variables: &'a VarStore,
}

impl<'a, B, S: Model<B> + ?Sized> Student<'a, B, S> {
    /// Puts a model, its adaptor and its variables together.
    pub fn new<F>(model: &'a S, adaptor: F, variables: &'a VarStore) -> Self
    where
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        Student {
            adapted: Box::new(move |batch, precision| {
                let output = precision.run(|| model.forward(batch, true))?;
                adaptor(batch, &output)
            }),
            precision: MixedPrecision::default(),
            model,
            variables,
        }
    }
}

impl<'a, B, S: ?Sized> Student<'a, B, S> {
    /// Lets the model compute in the precision that the configuration asks of the student.
    #[must_use]
    pub fn precision(mut self, config: &TrainingConfig) -> Self {
        self.precision = MixedPrecision::of(config, Side::Student);
        self
    }

    /// What the student says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub fn run(&self, batch: &B) -> Result<AdaptorOutput> {
        defined((self.adapted)(batch, self.precision)?, Side::Student)
    }

    /// The model itself.
    pub fn model(&self) -> &'a S {
        self.model
    }

    /// Its variables.
    pub fn variables(&self) -> &'a VarStore {
        self.variables
    }
}

impl<B, S: ?Sized> fmt::Debug for Student<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Student").finish_non_exhaustive()
    }
}

/// A teacher and a student with their adaptors.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::distiller::{Pair, Student, Teacher};
/// use textbrewer::{from_fn, AdaptorOutput, StepInfo};
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 2, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch * 10.0));
/// let adaptor = |_: &Tensor, logits: &Tensor| Ok(AdaptorOutput::new().logits(logits));
///
/// let pair = Pair::new(
///     Teacher::new(&teacher, adaptor),
///     Student::new(&student, adaptor, &variables),
///     None, // the teacher's outputs are not kept
/// );
/// let batch = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
/// let said = pair.run_teacher(&batch, &StepInfo::new(0, 0, 1, 1))?;
/// assert_eq!(said.logits[0].whole()?.double_value(&[0, 0]), 10.0);
/// assert_eq!(pair.run_student(&batch)?.logits[0].whole()?.size(), [1, 2]);
/// assert!(std::ptr::eq(pair.student(), &student));
/// assert_eq!(pair.variables().len(), 2);
/// assert!(pair.teacher_cache().is_none());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Pair<'a, B, S: ?Sized> {
    teacher: Teacher<'a, B>,
    student: Student<'a, B, S>,
    cache: Option<TeacherCache>,
}

impl<'a, B, S: ?Sized> Pair<'a, B, S> {
    /// Puts both together; the teacher's outputs are kept in `cache`, if there is one.
    pub fn new(
        teacher: Teacher<'a, B>,
        student: Student<'a, B, S>,
        cache: Option<TeacherCache>,
    ) -> Self {
        Pair {
            teacher: teacher.cached(cache.as_ref(), CachePlace::default()),
            student,
            cache,
        }
    }

    /// What the teacher says of a batch.
    ///
    /// # Errors
    /// Those of the model, of its adaptor, and of the cache.
    pub fn run_teacher(&self, batch: &B, step: &StepInfo) -> Result<AdaptorOutput> {
        self.teacher.run(batch, step)
    }

    /// What the student says of a batch.
    ///
    /// # Errors
    /// Those of the model and of its adaptor.
    pub fn run_student(&self, batch: &B) -> Result<AdaptorOutput> {
        self.student.run(batch)
    }

    /// The student itself.
    pub fn student(&self) -> &'a S {
        self.student.model()
    }

    /// The student's variables.
    pub fn variables(&self) -> &'a VarStore {
        self.student.variables()
    }

    /// Where the teacher's outputs are kept, if they are.
    pub fn teacher_cache(&self) -> Option<&TeacherCache> {
        self.cache.as_ref()
    }
}

/// Refuses tensors that hold nothing: libtorch has no shape to give for them, and tch panics
/// where one is asked for. In features they are layers that were not kept, for the matches
/// to tell of.
pub(super) fn defined(output: AdaptorOutput, side: Side) -> Result<AdaptorOutput> {
    let logits = output.logits.iter().flat_map(Logits::tensors);
    let logits = logits.map(|tensor| ("logits", tensor));
    let lists = [
        ("logits_mask", &output.logits_mask),
        ("logits_weights", &output.logits_weights),
        ("labels", &output.labels),
        ("losses", &output.losses),
    ];
    let of_lists = lists
        .into_iter()
        .flat_map(|(key, tensors)| tensors.iter().map(move |tensor| (key, tensor)));
    let mask = output.inputs_mask.iter().map(|mask| ("inputs_mask", mask));
    for (key, tensor) in logits.chain(of_lists).chain(mask) {
        if !tensor.defined() {
            let what = format!("`{key}` of the {side} adaptor");
            return Err(Error::shape(what, "a tensor", "an undefined one"));
        }
    }
    Ok(output)
}
