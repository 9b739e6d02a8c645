//! Recipes: trainings described in JSON.

use std::path::Path;

use serde::{Deserialize, Serialize};
use textbrewer::{DistillationConfig, TrainingConfig};

use crate::models::Shape;
use crate::{Error, Result};

/// The learning rate of projections, which start from random values.
pub(crate) const PROJECTION_RATE: f64 = 1e-3;

/// A training of a teacher, of a student on labels, or of a student on the outputs of teachers.
///
/// Every key has a default, and unknown keys are errors. When a file given to an example leaves out
/// `max_length` or `stride`, they are those of the example's own recipes, except that the stride is
/// at most a quarter of a smaller length. `training` and `distillation` are TextBrewer's
/// configurations. The recipes of the examples have a `kd_loss_weight` of 64, the square of their
/// temperature: Hinton et al. multiply by it, since the gradients of softened logits are smaller by
/// that factor, and without it the losses on hidden states would dominate at first.
///
/// ```json
/// {
///   "student": "T3", "epochs": 10, "batch_size": 32, "learning_rate": 1e-4,
///   "hidden_matches": ["hidden_mse", "nst"],
///   "distillation": {"temperature": 8, "hard_label_weight": 1},
///   "training": {"precision": "bf16"}
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Recipe {
    /// A data set instead of the example's own, or of that of the model to start from:
    /// [`Classification`](crate::classification::Classification), [`Tagging`](crate::Tagging) or
    /// [`Reading`](crate::reading::Reading) in JSON.
    pub task: Option<serde_json::Value>,
    /// The student; by default `train` trains a whole model, and `distill` a `T3`.
    pub student: Option<Shape>,
    /// The layers of the teacher that the student starts from, counted from 0; by default evenly
    /// spaced layers.
    pub layers: Option<Vec<usize>>,
    /// Number of epochs.
    pub epochs: u64,
    /// Examples in a batch. An incomplete last batch of an epoch is dropped, unless it is the
    /// only one.
    pub batch_size: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The fraction of all steps in which the rate grows linearly; after that it falls linearly
    /// to 0.
    pub warmup: f64,
    /// AdamW's weight decay, except for biases and norms.
    pub weight_decay: f64,
    /// The maximum norm of gradients.
    pub max_grad_norm: f64,
    /// The most pieces of a feature.
    pub max_length: usize,
    /// By how many pieces windows of a long text overlap.
    pub stride: usize,
    /// The number of examples used of the training file, the same ones for each seed; all by
    /// default.
    pub train_size: Option<usize>,
    /// Seed of the order of the examples, initial weights and dropout.
    pub seed: u64,
    /// Whether batches are made of examples of similar length: less padding, more speed.
    pub group_by_length: bool,
    /// How a student learns from its teachers.
    pub distiller: DistillerKind,
    /// Losses between evenly spaced hidden states, including the output of the embeddings, each
    /// with weight 1: `hidden_mse` and others on one layer, `nst` on the similarities in a layer,
    /// `fsp` on neighbouring layers. If the widths differ, linear projections are trained too.
    /// The matches are added to those of `distillation`.
    pub hidden_matches: Vec<String>,
    /// Which weights are kept at the end: those of the last step, or of the best evaluation.
    pub keep: Kept,
    /// TextBrewer's training configuration. Its `output_dir` is replaced by that of the command;
    /// its `log_dir` is inside that by default.
    pub training: TrainingConfig,
    /// TextBrewer's distillation configuration.
    pub distillation: DistillationConfig,
}

/// A distiller by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DistillerKind {
    /// One teacher: `GeneralDistiller`; several: `MultiTeacherDistiller`.
    #[default]
    General,
    /// One teacher, layers matched by earth mover's distance: `EmdDistiller`.
    Emd,
}

/// Which weights are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kept {
    /// Those of the last step.
    #[default]
    Last,
    /// Those of the best evaluation.
    Best,
}

/// What the text of a recipe has under a key.
fn value_of(text: &str, key: &str) -> Option<serde_json::Value> {
    let mut values: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
    values.remove(key)
}

fn has_device(recipe: &serde_json::Value) -> bool {
    recipe.pointer("/training/device").is_some()
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            task: None,
            student: None,
            layers: None,
            epochs: 3,
            batch_size: 32,
            learning_rate: 1e-4,
            warmup: 0.1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            max_length: 128,
            stride: 64,
            train_size: None,
            seed: 0,
            group_by_length: true,
            distiller: DistillerKind::General,
            hidden_matches: Vec::new(),
            keep: Kept::Last,
            training: TrainingConfig::default(),
            distillation: DistillationConfig::default(),
        }
    }
}

impl Recipe {
    /// Reads a recipe; `name` is what errors call it.
    ///
    /// # Errors
    /// When a key is unknown or a value is invalid.
    pub fn from_json_str(name: &Path, text: &str) -> Result<Self> {
        let reader = &mut serde_json::Deserializer::from_str(text);
        let recipe: Self = serde_path_to_error::deserialize(reader)
            .map_err(|error| Error::file(name, error.to_string()))?;
        recipe.checked(name, value_of(text, "training"))
    }

    /// The same without its device: it must be possible to read a recipe where that device is
    /// missing.
    ///
    /// # Errors
    /// Those of [`from_json_str`](Self::from_json_str).
    pub fn on_any_device(name: &Path, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(value) if has_device(&value) => Self::from_value(name, value),
            _ => Self::from_json_str(name, text),
        }
    }

    /// The recipe in a part of a file, without its device. Errors name no line, which would be that
    /// of another text.
    ///
    /// # Errors
    /// Those of [`from_json_str`](Self::from_json_str).
    pub fn from_value(name: &Path, mut value: serde_json::Value) -> Result<Self> {
        let training = value.pointer_mut("/training");
        if let Some(training) = training.and_then(|training| training.as_object_mut()) {
            training.remove("device");
        }
        let training = value.get("training").cloned();
        let recipe: Self = serde_path_to_error::deserialize(value)
            .map_err(|error| Error::file(name, error.to_string()))?;
        recipe.checked(name, training)
    }

    /// Checks what was read; `training` is its configuration as it was written.
    fn checked(self, name: &Path, training: Option<serde_json::Value>) -> Result<Self> {
        // It says what in a text contradicts itself.
        if let Some(training) = training {
            TrainingConfig::from_json_str(&training.to_string())
                .map_err(|error| Error::file(name, error.to_string()))?;
        }
        self.validate()
            .map_err(|error| Error::file(name, error.to_string()))?;
        Ok(self)
    }

    /// Takes lengths that its text leaves out from another recipe.
    pub fn take_lengths(&mut self, text: &str, other: &Recipe) {
        let (length, stride) = (self.max_length, self.stride);
        (self.max_length, self.stride) = (other.max_length, other.stride);
        if value_of(text, "max_length").is_some() {
            self.cut_at(length);
        }
        if value_of(text, "stride").is_some() {
            self.stride = stride;
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid value.
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::invalid(reason));
        if self.epochs == 0 || self.batch_size == 0 {
            return refuse("epochs and batch_size: at least 1".to_owned());
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return refuse(format!(
                "learning_rate: expected a number above 0, got {}",
                self.learning_rate
            ));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let decay = self.weight_decay;
            return refuse(format!("weight_decay: expected 0 or more, got {decay}"));
        }
        if !self.max_grad_norm.is_finite() {
            let norm = self.max_grad_norm;
            return refuse(format!("max_grad_norm: expected a number, got {norm}"));
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse(format!("warmup: expected 0 to 1, got {}", self.warmup));
        }
        if self.max_length < 8 {
            return refuse(format!("max_length: at least 8, got {}", self.max_length));
        }
        if self.train_size == Some(0) {
            return refuse("train_size: at least 1".to_owned());
        }
        self.training.validate()?;
        self.distillation.validate()?;
        Ok(())
    }

    /// Sets the most pieces of a feature, and reduces a stride that was meant for longer windows.
    pub fn cut_at(&mut self, length: usize) {
        if length < self.max_length {
            self.stride = self.stride.min(length / 4);
        }
        self.max_length = length;
    }

    /// Whether a student also learns from labels, from the start or by its schedule.
    pub fn learns_labels(&self) -> bool {
        let config = &self.distillation;
        config.hard_label_weight > 0.0 || config.hard_label_weight_scheduler.is_some()
    }
}
