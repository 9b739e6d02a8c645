//! Several teachers of one task, one student.

use std::collections::BTreeMap;
use std::fmt;

use tch::nn::VarStore;

use super::builder::no_adaptor;
use super::{
    Distiller, DistillerBuilder, Ensemble, LossReport, SharedLosses, StepInfo, Student, Teacher,
    TeacherCache, Teachers,
};
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::config::TrainingConfig;
use crate::error::Result;
use crate::model::Model;
use crate::optim::ParamGroup;

/// Several teachers of one task, of any types and widths, and one student.
///
/// `loss = w_kd · KD(student logits, ensemble of teacher logits) + Σ wᵢ · matchᵢ + w_hl · Σ mean(losses)`
///
/// The [`Ensemble`] is the mean of the logits by default. A match takes its features from
/// the teacher that its `teacher` names, the first by default.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::distiller::Ensemble;
/// use textbrewer::{from_fn, AdamW, AdaptorOutput, Distiller, MultiTeacherDistiller};
/// use textbrewer::{TrainingConfig, VecLoader};
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// let sure = from_fn(|batch: &Tensor, _| Ok(batch * 9.0));
/// let unsure = from_fn(|batch: &Tensor, _| Ok((batch * 0.1, "a type of its own")));
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 3, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
///
/// let mut distiller = MultiTeacherDistiller::builder(&student, &variables)
///     .teacher(&sure, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .teacher(&unsure, |_, (logits, _)| Ok(AdaptorOutput::new().logits(logits)))
///     .ensemble(Ensemble::Confidence)
///     .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .train_config(config)
///     .build()?;
/// let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MultiTeacherDistiller<'a, B, S: ?Sized> {
    teachers: Teachers<'a, B>,
    student: Student<'a, B, S>,
    config: TrainingConfig,
    losses: SharedLosses,
    cache: Option<TeacherCache>,
}

impl<'a, B, S: Model<B> + ?Sized> MultiTeacherDistiller<'a, B, S> {
    /// Starts with the student and its variables.
    pub fn builder(
        student: &'a S,
        variables: &'a VarStore,
    ) -> DistillerBuilder<ManyTeachers<'a, B, S>> {
        DistillerBuilder::of(ManyTeachers {
            teachers: Vec::new(),
            ensemble: Ensemble::default(),
            model: student,
            variables,
            student: None,
        })
    }
}

impl<B, S: ?Sized> MultiTeacherDistiller<'_, B, S> {
    /// The parameters of the projections, `projection.{index of the match}.weight` and so on.
    pub fn projections(&self) -> &VarStore {
        self.losses.projections()
    }
}

impl<B: Batch, S: ?Sized> Distiller for MultiTeacherDistiller<'_, B, S> {
    type Batch = B;
    type Student = S;

    fn train_on_batch(&mut self, batch: &B, step: &StepInfo) -> Result<LossReport> {
        let teachers = self.teachers.run(batch, step)?;
        let student = self.student.run(batch)?;
        self.losses
            .report(&teachers.together, &teachers.each, &student, batch, step)
    }

    fn config(&self) -> &TrainingConfig {
        &self.config
    }

    fn student(&self) -> &S {
        self.student.model()
    }

    fn variables(&self) -> &VarStore {
        self.student.variables()
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

/// The models of a [`MultiTeacherDistiller`].
///
/// It is seen only as the type of a builder:
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::distiller::{DistillerBuilder, ManyTeachers};
/// use textbrewer::{from_fn, MultiTeacherDistiller};
///
/// let variables = VarStore::new(Device::Cpu);
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
/// let builder: DistillerBuilder<ManyTeachers<'_, Tensor, _>> =
///     MultiTeacherDistiller::builder(&student, &variables);
/// // There is no teacher yet.
/// assert!(builder.build().is_err());
/// ```
pub struct ManyTeachers<'a, B, S: ?Sized> {
    teachers: Vec<Teacher<'a, B>>,
    ensemble: Ensemble,
    model: &'a S,
    variables: &'a VarStore,
    student: Option<Student<'a, B, S>>,
}

impl<'a, B, S: Model<B> + ?Sized> DistillerBuilder<ManyTeachers<'a, B, S>> {
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
        let models = &mut self.models;
        models.student = Some(Student::new(models.model, adaptor, models.variables));
        self
    }

    /// Checks everything that can be checked before a batch is there.
    ///
    /// # Errors
    /// No teacher or no student adaptor, a configuration that cannot work, an unknown
    /// preset, a device that is not there or not where the student is.
    pub fn build(self) -> Result<MultiTeacherDistiller<'a, B, S>> {
        self.check(self.models.variables)?;
        let cache = TeacherCache::new(&self.distill_config)?;
        let models = self.models;
        let teachers = Teachers::new(models.teachers, models.ensemble, cache.as_ref(), 0)?;
        let student = models.student.ok_or_else(|| no_adaptor("student"))?;
        let device = self.train_config.device;
        let count = teachers.len();
        Ok(MultiTeacherDistiller {
            losses: SharedLosses::new(&self.distill_config, &self.presets, device, count)?,
            teachers: teachers.precision(&self.train_config),
            student: student.precision(&self.train_config),
            config: self.train_config,
            cache,
        })
    }
}

impl<B, S: ?Sized> fmt::Debug for ManyTeachers<'_, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyTeachers")
            .field("teachers", &self.teachers.len())
            .field("ensemble", &self.ensemble)
            .finish_non_exhaustive()
    }
}
