//! The builder of distillers of one teacher and one student.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use tch::nn::VarStore;

use super::builder::no_adaptor;
use super::{DistillerBuilder, Pair, Student, Teacher, TeacherCache};
use crate::adaptor::AdaptorOutput;
use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::presets::Presets;

/// What a distiller of one teacher and one student is made of, checked.
///
/// ```
/// use tch::{nn, nn::Module, Device, Tensor};
/// use textbrewer::distiller::{DistillerBuilder, Parts};
/// use textbrewer::{from_fn, AdaptorOutput, Error, Result, TrainingConfig};
///
/// /// The beginning of a distiller of one's own; see [`Distiller`](textbrewer::Distiller).
/// #[derive(Debug)]
/// struct Mine<'a, B, S>(Parts<'a, B, S>);
///
/// impl<'a, B, S> TryFrom<Parts<'a, B, S>> for Mine<'a, B, S> {
///     type Error = Error;
///
///     fn try_from(parts: Parts<'a, B, S>) -> Result<Self> {
///         Ok(Mine(parts))
///     }
/// }
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 2, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
/// let mine: Mine<Tensor, _> = DistillerBuilder::new(&teacher, &student, &variables)
///     .train_config(TrainingConfig::default().device(Device::Cpu))
///     .adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .build()?;
/// assert_eq!(mine.0.pair.variables().len(), 2);
/// # Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<'a, B, S: ?Sized> {
    /// The models and their adaptors.
    pub pair: Pair<'a, B, S>,
    /// How to train.
    pub train_config: TrainingConfig,
    /// What to learn from the teacher.
    pub distill_config: DistillationConfig,
    /// The losses, projections and schedules by name.
    pub presets: Presets,
}

type Adaptor<'a, B, O> = Box<dyn Fn(&B, &O) -> Result<AdaptorOutput> + 'a>;

/// The models of a distiller `D` of one teacher and one student.
///
/// It is seen only as the type of a builder:
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::distiller::{DistillerBuilder, OnePair};
/// use textbrewer::{from_fn, GeneralDistiller};
///
/// let variables = VarStore::new(Device::Cpu);
/// let model = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
/// let builder: DistillerBuilder<OnePair<'_, Tensor, _, _, GeneralDistiller<'_, Tensor, _>>> =
///     GeneralDistiller::builder(&model, &model, &variables);
/// // Neither model has an adaptor yet.
/// assert!(builder.build().is_err());
/// ```
pub struct OnePair<'a, B, T: Model<B>, S: Model<B> + ?Sized, D> {
    teacher: T,
    student: &'a S,
    variables: &'a VarStore,
    teacher_adaptor: Option<Adaptor<'a, B, T::Output>>,
    student_adaptor: Option<Adaptor<'a, B, S::Output>>,
    distiller: PhantomData<D>,
}

/// `D` is anything that can be made of [`Parts`]: a distiller of a user's own implements
/// `TryFrom<Parts>` and gets this builder with it.
impl<'a, B, T, S, D> DistillerBuilder<OnePair<'a, B, T, S, D>>
where
    T: Model<B> + 'a,
    S: Model<B> + ?Sized,
{
    /// Starts with the models and the student's variables.
    pub fn new(teacher: T, student: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder::of(OnePair {
            teacher,
            student,
            variables,
            teacher_adaptor: None,
            student_adaptor: None,
            distiller: PhantomData,
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

    /// Checks everything that can be checked before a batch is there.
    ///
    /// # Errors
    /// A missing adaptor, a configuration that cannot work, an unknown preset, a device
    /// that is not there or not where the student is.
    pub fn build(self) -> Result<D>
    where
        B: 'a,
        T::Output: 'a,
        S::Output: 'a,
        D: TryFrom<Parts<'a, B, S>, Error = Error>,
    {
        self.check(self.models.variables)?;
        let models = self.models;
        let teacher_adaptor = models
            .teacher_adaptor
            .ok_or_else(|| no_adaptor("teacher"))?;
        let student_adaptor = models
            .student_adaptor
            .ok_or_else(|| no_adaptor("student"))?;
        let pair = Pair::new(
            Teacher::new(models.teacher, teacher_adaptor).precision(&self.train_config),
            Student::new(models.student, student_adaptor, models.variables)
                .precision(&self.train_config),
            TeacherCache::new(&self.distill_config)?,
        );
        D::try_from(Parts {
            pair,
            train_config: self.train_config,
            distill_config: self.distill_config,
            presets: self.presets,
        })
    }
}

impl<B, T: Model<B>, S: Model<B> + ?Sized, D> fmt::Debug for OnePair<'_, B, T, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnePair").finish_non_exhaustive()
    }
}
