//! The builder of all distillers.

mod model;
mod pair;
mod tasks;
mod teachers;

pub use model::OneModel;
pub use pair::OnePair;
pub use tasks::{ManyTasks, Task};
pub use teachers::ManyTeachers;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use tch::nn::VarStore;

use super::state::by_key;
use super::task_models::TaskModels;
use super::terms::{BoxedTerm, Terms};
use super::{Core, TeacherCache, Term};
use crate::config::{DistillationConfig, Needs, TrainingConfig};
use crate::error::{Error, Result};
use crate::presets::Presets;

/// Describes a distiller `D`: its models `M`, and the settings that all distillers have.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::{
///     from_fn, AdaptorOutput, DistillationConfig, GeneralDistiller, Presets, TrainingConfig,
/// };
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_narrow(-1, 0, 2)?));
///
/// let builder = |loss: &str| {
///     GeneralDistiller::builder(&teacher, &student, &variables)
///         .train_config(TrainingConfig::default().device(Device::Cpu))
///         .distill_config(DistillationConfig::default().kd_loss_type(loss))
///         .presets(Presets::default().kd_loss("mine", textbrewer::losses::kd_ce))
///         .adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
/// };
/// assert!(builder("mine").build().is_ok());
/// let error = builder("yours").build().unwrap_err();
/// assert!(error.to_string().contains("unknown KD loss `yours`"));
/// ```
pub struct DistillerBuilder<'a, B, M, D> {
    models: M,
    train_config: TrainingConfig,
    distill_config: DistillationConfig,
    presets: Presets,
    terms: Vec<BoxedTerm<'a, B>>,
    needs: Needs,
    has_emd: bool,
    distiller: PhantomData<D>,
}

/// The models that a builder was given: one, a pair, several teachers, several tasks.
pub trait Models<'a, B> {
    /// The student, of any kind.
    type Student: ?Sized + 'a;

    /// The student and its variables.
    fn student(&self) -> (&'a Self::Student, &'a VarStore);

    #[doc(hidden)]
    fn tasks(
        self,
        config: &TrainingConfig,
        distill_config: &DistillationConfig,
    ) -> Result<Tasks<'a, B>>;
}

/// The models of each task, by its name, in the order in which they were given.
pub struct Tasks<'a, B>(Vec<(String, TaskModels<'a, B>)>);

impl<B> fmt::Debug for Tasks<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, models)| (name, models)))
            .finish()
    }
}

/// Models with a teacher: `distill_config` and `presets` apply.
pub trait WithTeacher {}

impl<'a, B: 'static, M: Models<'a, B>, D> DistillerBuilder<'a, B, M, D> {
    fn of(models: M) -> Self {
        DistillerBuilder {
            models,
            train_config: TrainingConfig::default(),
            distill_config: DistillationConfig::default(),
            presets: Presets::default(),
            terms: Vec::new(),
            needs: Needs::new(),
            has_emd: false,
            distiller: PhantomData,
        }
    }

    /// Matches all layers by optimal transport, as the configuration says or else by default.
    pub(super) fn with_emd(mut self) -> Self {
        self.has_emd = true;
        self
    }

    /// How to train: steps between checkpoints, folders, device.
    #[must_use]
    pub fn train_config(mut self, config: TrainingConfig) -> Self {
        self.train_config = config;
        self
    }

    /// Adds a term of your own to the loss.
    #[must_use]
    pub fn term(mut self, term: impl Term<B> + 'a) -> Self {
        self.terms.push(Box::new(term));
        self
    }

    /// Adds what a distiller of your own reads itself of what the models said, besides what its
    /// terms need.
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.needs = self.needs.and(needs);
        self
    }

    /// Checks everything that can be checked before a batch is there.
    ///
    /// # Errors
    /// A missing model or adaptor, a configuration that cannot work, an unknown preset, two
    /// terms of one name, a device that is not there or not where the student is.
    pub fn build(mut self) -> Result<D>
    where
        D: TryFrom<Core<'a, B, M::Student>>,
        Error: From<D::Error>,
    {
        let (student, variables) = self.models.student();
        if self.has_emd {
            self.distill_config.emd.get_or_insert_default();
        }
        self.distill_config.validate()?;
        check_training(&self.train_config, variables)?;
        let (config, distill_config) = (&self.train_config, &self.distill_config);
        let Tasks(mut tasks) = self.models.tasks(config, distill_config)?;
        // A match may choose among the teachers that every task has.
        let teachers = tasks.iter().map(|(_, task)| task.teachers.len());
        let teachers = teachers.min().unwrap_or(0);
        let has_teacher = teachers > 0;
        let terms = match has_teacher {
            false => Terms::supervised(self.terms.is_empty()),
            true => Terms::configured(distill_config, &self.presets, config.device, teachers)?,
        };
        let terms = terms.and(self.terms, self.needs, variables, teachers)?;
        for (_, task) in &tasks {
            let matches = distill_config.intermediate_matches.iter().enumerate();
            for (index, matched) in matches.filter(|_| has_teacher) {
                let place = format!("intermediate_matches[{index}]");
                task.teachers.check(&matched.needs(), &place)?;
            }
            terms.each_needs(|term, needs| task.teachers.check(needs, term))?;
        }
        let layers = terms.needs_teacher_layers();
        let needs = Rc::new(terms.needs());
        let cache = TeacherCache::new(distill_config, &needs, layers)?;
        for (number, (_, task)) in tasks.iter_mut().enumerate() {
            task.teachers.hand_on(&needs, cache.as_ref(), number);
            if needs.logits && distill_config.temperature_scheduler.is_none() {
                task.teachers
                    .tell_of_temperature(distill_config.temperature);
            }
        }
        let mut description = match has_teacher {
            true => by_key(distill_config)?,
            false => BTreeMap::new(),
        };
        for (name, task) in &tasks {
            description.extend(task.teachers.description(name));
            description.extend(task.teachers.files(name));
        }
        let made = D::try_from(Core {
            description,
            student,
            variables,
            tasks: tasks.into_iter().collect::<BTreeMap<_, _>>(),
            train_config: self.train_config,
            distill_config: has_teacher.then_some(self.distill_config),
            terms,
            cache,
        });
        Ok(made?)
    }
}

impl<B, M: WithTeacher, D> DistillerBuilder<'_, B, M, D> {
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
}

impl<B, M, D> fmt::Debug for DistillerBuilder<'_, B, M, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.terms.iter().map(|term| term.name());
        f.debug_struct("DistillerBuilder")
            .field("train_config", &self.train_config)
            .field("distill_config", &self.distill_config)
            .field("presets", &self.presets)
            .field("terms", &terms.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

pub(crate) fn check_training(config: &TrainingConfig, variables: &VarStore) -> Result<()> {
    config.validate()?;
    check_device(config, variables)
}

/// Batches go to the configured device; a model elsewhere would fail at its first layer.
fn check_device(config: &TrainingConfig, variables: &VarStore) -> Result<()> {
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
    let reason = "none was given; say what the model's output means";
    Error::config(format!("{side}_adaptor"), reason)
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
