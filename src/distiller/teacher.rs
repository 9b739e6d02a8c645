//! A teacher with its adaptor, and several teachers as one.

use std::fmt;

use super::mixed_precision::MixedPrecision;
use super::pair::{Adapted, defined};
use super::{CachePlace, Ensemble, StepInfo, TeacherCache};
use crate::adaptor::AdaptorOutput;
use crate::config::TrainingConfig;
use crate::error::{Result, Side};
use crate::model::Model;
use crate::native::NoHistory;

/// A teacher with its adaptor.
///
/// It always runs in evaluation mode and without gradients, which it cannot switch on again:
/// its operations go past the parts of libtorch that would record them.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::Teacher;
/// use textbrewer::{from_fn, AdaptorOutput, StepInfo};
///
/// let weight = Tensor::from(2.0).set_requires_grad(true);
/// let model = from_fn(|batch: &Tensor, train| {
///     assert!(!train);
///     Ok(batch * &weight)
/// });
/// let teacher = Teacher::new(model, |_batch, logits| Ok(AdaptorOutput::new().logits(logits)));
/// let output = teacher.run(&Tensor::from_slice2(&[[1.0, 3.0]]), &StepInfo::new(0, 0, 1, 1))?;
/// assert_eq!(output.logits[0].whole()?.double_value(&[0, 1]), 6.0);
/// assert!(!output.logits[0].whole()?.requires_grad());
/// # textbrewer::Result::Ok(())
/// ```
pub struct Teacher<'a, B> {
    adapted: Adapted<'a, B>,
    precision: MixedPrecision,
    cache: Option<(TeacherCache, CachePlace)>,
}

impl<'a, B> Teacher<'a, B> {
    /// Puts a model and its adaptor together.
    pub fn new<T, F>(model: T, adaptor: F) -> Self
    where
        T: Model<B> + 'a,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
    {
        Teacher {
            adapted: Box::new(move |batch, precision| {
                let output = precision.run(|| model.forward(batch, false))?;
                adaptor(batch, &output)
            }),
            precision: MixedPrecision::default(),
            cache: None,
        }
    }

    /// Lets the model compute in the precision that the configuration asks of teachers.
    ///
    /// The weights stay what they are, and are converted at every step. To save that and half
    /// their memory, hold them in 16 bits: `teacher_variables.bfloat16()`.
    #[must_use]
    pub fn precision(mut self, config: &TrainingConfig) -> Self {
        self.precision = MixedPrecision::of(config, Side::Teacher);
        self
    }

    /// Keeps outputs in `cache`, at a place that no other teacher of this cache has.
    #[must_use]
    pub fn cached(mut self, cache: Option<&TeacherCache>, place: CachePlace) -> Self {
        self.cache = cache.map(|cache| (cache.clone(), place));
        self
    }

    /// What the teacher says of a batch.
    ///
    /// # Errors
    /// Those of the model, of its adaptor, and of the cache.
    pub fn run(&self, batch: &B, step: &StepInfo) -> Result<AdaptorOutput> {
        // The guard gives gradients back even when the model panics.
        let _guard = NoHistory::enter()?;
        let compute = || defined((self.adapted)(batch, self.precision)?, Side::Teacher);
        match &self.cache {
            Some((cache, place)) => cache.get_or_compute(*place, step, compute),
            None => compute(),
        }
    }
}

impl<B> fmt::Debug for Teacher<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teacher")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Several teachers of one task, who speak with one voice about the logits.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::{Ensemble, Teacher, Teachers};
/// use textbrewer::{from_fn, AdaptorOutput, StepInfo};
///
/// let teacher = |factor: f64| {
///     let model = from_fn(move |batch: &Tensor, _| Ok(batch * factor));
///     Teacher::new(model, |_, logits| Ok(AdaptorOutput::new().logits(logits)))
/// };
/// let teachers = Teachers::new(vec![teacher(1.0), teacher(3.0)], Ensemble::MeanLogits, None, 0)?;
/// assert_eq!(teachers.len(), 2);
/// let output = teachers.run(&Tensor::from_slice2(&[[1.0]]), &StepInfo::new(0, 0, 1, 1))?;
/// assert_eq!(output.together.logits[0].whole()?.double_value(&[0, 0]), 2.0);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Teachers<'a, B> {
    teachers: Vec<Teacher<'a, B>>,
    ensemble: Ensemble,
}

/// What several teachers say of a batch.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::distiller::{Ensemble, Teacher, Teachers, TeachersOutput};
/// use textbrewer::{from_fn, AdaptorOutput, StepInfo};
///
/// // Features are not mixed: a match takes those of the teacher that it names.
/// let model = from_fn(|batch: &Tensor, _| Ok(batch.shallow_clone()));
/// let teacher = Teacher::new(model, |_, state: &Tensor| {
///     Ok(AdaptorOutput::new().logits(state).feature("hidden", &[state.shallow_clone()]))
/// });
/// let teachers = Teachers::new(vec![teacher], Ensemble::MeanLogits, None, 0)?;
/// let output: TeachersOutput =
///     teachers.run(&Tensor::from_slice2(&[[1.0]]), &StepInfo::new(0, 0, 1, 1))?;
/// assert!(output.together.features.is_empty());
/// assert_eq!(output.each[0].features["hidden"].len(), 1);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct TeachersOutput {
    /// The logits of all in one, with the first teacher's mask.
    pub together: AdaptorOutput,
    /// What each says, in order.
    pub each: Vec<AdaptorOutput>,
}

impl<'a, B> Teachers<'a, B> {
    /// Puts teachers together. Their outputs are kept in `cache`, if there is one, as
    /// those of task number `task`.
    ///
    /// # Errors
    /// When there is no teacher, or the ensemble is for another number of them.
    pub fn new(
        teachers: Vec<Teacher<'a, B>>,
        ensemble: Ensemble,
        cache: Option<&TeacherCache>,
        task: usize,
    ) -> Result<Self> {
        ensemble.check(teachers.len())?;
        let cached = |(index, teacher): (usize, Teacher<'a, B>)| {
            teacher.cached(cache, CachePlace::new(task, index))
        };
        Ok(Teachers {
            teachers: teachers.into_iter().enumerate().map(cached).collect(),
            ensemble,
        })
    }

    /// Lets the models compute in the precision that the configuration asks of teachers.
    #[must_use]
    pub fn precision(mut self, config: &TrainingConfig) -> Self {
        let teachers = self.teachers.into_iter();
        self.teachers = teachers.map(|teacher| teacher.precision(config)).collect();
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.teachers.len()
    }

    /// Whether there is none, which [`new`](Self::new) refuses.
    pub fn is_empty(&self) -> bool {
        self.teachers.is_empty()
    }

    /// What they say of a batch.
    ///
    /// # Errors
    /// Those of the models, their adaptors and the cache; logits that do not fit together.
    pub fn run(&self, batch: &B, step: &StepInfo) -> Result<TeachersOutput> {
        let each = self
            .teachers
            .iter()
            .map(|teacher| teacher.run(batch, step))
            .collect::<Result<Vec<_>>>()?;
        let together = self.ensemble.combine(&each)?;
        Ok(TeachersOutput { together, each })
    }
}
