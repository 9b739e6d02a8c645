//! What every distiller of one teacher and one student is made of.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use tch::nn::VarStore;

use super::Pair;
use crate::{AdaptorOutput, DistillationConfig, Error, Model, Presets, Result, TrainingConfig};

/// What a distiller of one teacher and one student is made of, checked.
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

/// Describes a distiller `D` of one teacher and one student.
///
/// `D` is anything that can be made of [`Parts`]; a distiller of a user's own implements
/// `TryFrom<Parts>` and gets this builder with it.
pub struct DistillerBuilder<'a, B, T: Model<B>, S: Model<B> + ?Sized, D> {
    teacher: T,
    student: &'a S,
    variables: &'a VarStore,
    teacher_adaptor: Option<Adaptor<'a, B, T::Output>>,
    student_adaptor: Option<Adaptor<'a, B, S::Output>>,
    train_config: TrainingConfig,
    distill_config: DistillationConfig,
    presets: Presets,
    distiller: PhantomData<D>,
}

impl<'a, B, T, S, D> DistillerBuilder<'a, B, T, S, D>
where
    T: Model<B> + 'a,
    S: Model<B> + ?Sized,
{
    /// Starts with the models and the student's variables.
    pub fn new(teacher: T, student: &'a S, variables: &'a VarStore) -> Self {
        DistillerBuilder {
            teacher,
            student,
            variables,
            teacher_adaptor: None,
            student_adaptor: None,
            train_config: TrainingConfig::default(),
            distill_config: DistillationConfig::default(),
            presets: Presets::default(),
            distiller: PhantomData,
        }
    }

    /// How to train: steps between checkpoints, folders, device.
    #[must_use]
    pub fn train_config(mut self, config: TrainingConfig) -> Self {
        self.train_config = config;
        self
    }

    /// What to learn from the teacher: losses, weights, matches.
    #[must_use]
    pub fn distill_config(mut self, config: DistillationConfig) -> Self {
        self.distill_config = config;
        self
    }

    /// Losses, projections and schedules of the user's own, by name.
    #[must_use]
    pub fn presets(mut self, presets: Presets) -> Self {
        self.presets = presets;
        self
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
        self.teacher_adaptor = Some(Box::new(adaptor));
        self
    }

    /// What the student's output means.
    #[must_use]
    pub fn student_adaptor<F>(mut self, adaptor: F) -> Self
    where
        F: Fn(&B, &S::Output) -> Result<AdaptorOutput> + 'a,
    {
        self.student_adaptor = Some(Box::new(adaptor));
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
        self.train_config.validate()?;
        self.distill_config.validate()?;
        check_device(&self.train_config, self.variables)?;
        let pair = Pair::new(
            self.teacher,
            self.teacher_adaptor.ok_or_else(|| no_adaptor("teacher"))?,
            self.student,
            self.student_adaptor.ok_or_else(|| no_adaptor("student"))?,
            self.variables,
        );
        D::try_from(Parts {
            pair,
            train_config: self.train_config,
            distill_config: self.distill_config,
            presets: self.presets,
        })
    }
}

/// Batches go to the configured device; a model elsewhere would fail at its first layer.
pub(super) fn check_device(config: &TrainingConfig, variables: &VarStore) -> Result<()> {
    let (configured, actual) = (config.device, variables.device());
    if configured == actual {
        return Ok(());
    }
    let reason = format!(
        "the batches go to {configured:?}, but the student's variables are on {actual:?}; \
         set `device`, or make the VarStore there"
    );
    Err(Error::config("device", reason))
}

fn no_adaptor(side: &str) -> Error {
    let reason = "none was given; call `adaptor` (one for both models) or this method";
    Error::config(format!("{side}_adaptor"), reason)
}

impl<B, T: Model<B>, S: Model<B> + ?Sized, D> fmt::Debug for DistillerBuilder<'_, B, T, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistillerBuilder")
            .field("train_config", &self.train_config)
            .field("distill_config", &self.distill_config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn variables_on_another_device_than_the_batches_are_refused() {
        let variables = VarStore::new(Device::Cpu);
        let config = TrainingConfig::default().device(Device::Cuda(0));
        let message = check_device(&config, &variables).unwrap_err().to_string();
        assert_eq!(
            message,
            "device: the batches go to Cuda(0), but the student's variables are on Cpu; \
             set `device`, or make the VarStore there"
        );
    }
}
