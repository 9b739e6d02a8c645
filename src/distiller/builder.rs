//! What the builders of all distillers share.

use tch::nn::VarStore;

use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::{Error, Result};
use crate::presets::Presets;

/// Describes a distiller: its models `M`, and the settings that all distillers have.
///
/// ```
/// use tch::{nn, nn::Module, Device, Tensor};
/// use textbrewer::{
///     from_fn, AdaptorOutput, DistillationConfig, GeneralDistiller, Presets, TrainingConfig,
/// };
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// let student = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// let teacher = from_fn(|batch: &Tensor, _| Ok(batch.narrow(-1, 0, 2)));
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
#[derive(Debug)]
pub struct DistillerBuilder<M> {
    pub(super) models: M,
    pub(super) train_config: TrainingConfig,
    pub(super) distill_config: DistillationConfig,
    pub(super) presets: Presets,
}

impl<M> DistillerBuilder<M> {
    pub(super) fn of(models: M) -> Self {
        DistillerBuilder {
            models,
            train_config: TrainingConfig::default(),
            distill_config: DistillationConfig::default(),
            presets: Presets::default(),
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

    pub(super) fn check(&self, student: &VarStore) -> Result<()> {
        self.distill_config.validate()?;
        check_training(&self.train_config, student)
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

pub(super) fn no_adaptor(side: &str) -> Error {
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
