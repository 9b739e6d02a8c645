//! A teacher with its adaptor, and several teachers as one.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use super::cache::Place;
use super::core::ONLY_TASK;
use super::mixed_precision::MixedPrecision;
use super::student::{Adapted, defined};
use super::{Ensemble, TeacherCache};
use crate::adaptor::AdaptorOutput;
use crate::config::{Needs, TrainingConfig};
use crate::error::{Result, Side};
use crate::model::Model;
use crate::native::NoHistory;
use crate::step::StepInfo;
use crate::teacher_file::Recorded;

/// A teacher with its adaptor.
///
/// It always runs in evaluation mode and without gradients, which it cannot switch on again:
/// its operations go past the parts of libtorch that would record them.
pub(crate) struct Teacher<'a, B> {
    adapted: Adapted<'a, B>,
    /// What a file has, if it is one.
    recorded: Option<Rc<Recorded>>,
}

impl<'a, B> Teacher<'a, B> {
    /// Puts a model and its adaptor together.
    pub(crate) fn new<T, F>(model: T, adaptor: F) -> Self
    where
        T: Model<B> + 'a,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput> + 'a,
    {
        Teacher {
            recorded: model.recorded(),
            adapted: Box::new(move |batch, precision| {
                let output = precision.run(|| model.forward(batch, false))?;
                precision.adapt(|| adaptor(batch, &output))
            }),
        }
    }

    /// What the teacher says of a batch.
    pub(crate) fn run(&self, batch: &B, precision: MixedPrecision) -> Result<AdaptorOutput> {
        // The guard gives gradients back even when the model panics.
        let _guard = NoHistory::enter()?;
        let said = defined((self.adapted)(batch, precision)?, Side::Teacher)?;
        match self.recorded {
            // What was read is in main memory.
            Some(_) => said.to_device(precision.device()),
            None => Ok(said),
        }
    }
}

impl<B> fmt::Debug for Teacher<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teacher")
            .field("recorded", &self.recorded)
            .finish_non_exhaustive()
    }
}

/// The teachers of one task, whose logits are combined.
pub(super) struct Teachers<'a, B> {
    teachers: Vec<Teacher<'a, B>>,
    ensemble: Ensemble,
    precision: MixedPrecision,
    cache: Option<TeacherCache>,
    /// What is handed on of each teacher's output.
    needs: Rc<Needs>,
    /// The number of the task, by which the cache tells its outputs from those of others.
    task: usize,
}

impl<'a, B> Teachers<'a, B> {
    /// # Errors
    /// When there is no teacher, or the ensemble is for another number of them.
    pub(super) fn new(
        teachers: Vec<Teacher<'a, B>>,
        ensemble: Ensemble,
        config: &TrainingConfig,
    ) -> Result<Self> {
        ensemble.check(teachers.len())?;
        Ok(Teachers {
            teachers,
            ensemble,
            precision: MixedPrecision::of(config, Side::Teacher),
            cache: None,
            needs: Rc::default(),
            task: 0,
        })
    }

    /// For a model that has no teacher.
    pub(super) fn none() -> Self {
        Teachers {
            teachers: Vec::new(),
            ensemble: Ensemble::default(),
            precision: MixedPrecision::default(),
            cache: None,
            needs: Rc::default(),
            task: 0,
        }
    }

    /// Hands on what terms need, and keeps it in `cache`, if there is one, as outputs of a task
    /// that has this number.
    pub(super) fn hand_on(&mut self, needs: &Rc<Needs>, cache: Option<&TeacherCache>, task: usize) {
        self.needs = Rc::clone(needs);
        self.cache = cache.cloned();
        self.task = task;
    }

    /// Refuses files that do not have what a term needs.
    pub(super) fn check(&self, needs: &Needs, term: &str) -> Result<()> {
        let teachers = self.teachers.iter().enumerate();
        for (number, teacher) in teachers {
            if let Some(recorded) = &teacher.recorded {
                recorded.check(needs, number, term)?;
            }
        }
        Ok(())
    }

    /// Warns of files whose numbers are at another temperature than the loss.
    pub(super) fn tell_of_temperature(&self, of_loss: f64) {
        let recorded = self
            .teachers
            .iter()
            .filter_map(|teacher| teacher.recorded.as_ref());
        recorded.for_each(|recorded| recorded.tell_of_temperature(of_loss));
    }

    /// What tells the files of this task from others, for a resume to compare.
    pub(super) fn files(&self, task: &str) -> impl Iterator<Item = (String, String)> {
        let prefix = match task {
            ONLY_TASK => "teacher_file".to_owned(),
            task => format!("task.{task}.teacher_file"),
        };
        let teachers = self.teachers.iter().enumerate();
        teachers.filter_map(move |(number, teacher)| {
            let recorded = teacher.recorded.as_ref()?;
            Some((format!("{prefix}.{number}"), recorded.description()))
        })
    }

    /// What differs from one teacher, for a resume to compare.
    pub(super) fn description(&self, task: &str) -> Option<(String, String)> {
        let is_usual = self.teachers.len() <= 1 && self.ensemble == Ensemble::MeanLogits;
        if task == ONLY_TASK && is_usual {
            return None;
        }
        let teachers = format!("{} teacher(s), {:?}", self.teachers.len(), self.ensemble);
        let key = match task {
            ONLY_TASK => "teachers".to_owned(),
            task => format!("task.{task}"),
        };
        Some((key, teachers))
    }

    pub(super) fn needs(&self) -> Rc<Needs> {
        Rc::clone(&self.needs)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.teachers.len()
    }

    /// What each says of a batch, and the logits of all in one.
    ///
    /// # Errors
    /// Those of the models, their adaptors and the cache; logits that do not fit together.
    pub(super) fn run(
        &self,
        batch: &B,
        step: &StepInfo,
    ) -> Result<(Vec<AdaptorOutput>, AdaptorOutput)> {
        let mut each = Vec::with_capacity(self.teachers.len());
        for (index, teacher) in self.teachers.iter().enumerate() {
            let compute = || {
                let run = || teacher.run(batch, self.precision);
                let output = match &teacher.recorded {
                    Some(recorded) => recorded.limited(&self.needs, index, run),
                    None => run(),
                }?;
                Ok(needed(output, &self.needs, index))
            };
            each.push(match &self.cache {
                Some(cache) => {
                    let place = Place {
                        task: self.task,
                        teacher: index,
                    };
                    cache.get_or_compute(place, step, compute)?
                }
                None => compute()?,
            });
        }
        let together = self.ensemble.combine(&each)?;
        Ok((each, together))
    }
}

impl<B> fmt::Debug for Teachers<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teachers")
            .field("teachers", &self.teachers.len())
            .field("ensemble", &self.ensemble)
            .finish_non_exhaustive()
    }
}

/// Of a teacher's output what terms need, so that a need that was forgotten is an error with a
/// cache and without one.
fn needed(mut output: AdaptorOutput, needs: &Needs, teacher: usize) -> AdaptorOutput {
    if !needs.logits {
        output.logits.clear();
        output.logits_mask.clear();
    }
    output.logits_weights.clear();
    output.labels.clear();
    output.losses.clear();
    output.inputs_mask = None;
    let layers = needs.teachers.get(&teacher);
    output.features.retain(|name, feature| {
        let Some(listed) = layers.and_then(|layers| layers.get(name)) else {
            return false;
        };
        let len = feature.layers.len();
        for (position, layer) in feature.layers.iter_mut().enumerate() {
            if !listed.contains(position, len) {
                *layer = Tensor::new();
            }
        }
        true
    });
    output
}
