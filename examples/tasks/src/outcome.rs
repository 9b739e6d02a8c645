//! The results of a training.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::metrics::Metrics;
use crate::training::Inputs;
use crate::{Error, Result};

/// The results of a training: `results.json` in the folder of the model.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The metrics at the end, or the best ones if the best weights are kept; none if the training
    /// was interrupted.
    pub metrics: Option<Metrics>,
    /// The optimizer step and the metrics after every epoch.
    pub curve: Vec<(u64, Metrics)>,
    /// If it was resumed: the evaluations before that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve_before: Vec<Value>,
    /// The number of parameters of the model.
    pub parameters: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Seconds of training without evaluation, including those before it was resumed.
    pub seconds: f64,
    /// Optimizer steps per second.
    pub steps_per_second: f64,
    /// Whether it was interrupted and can be resumed.
    pub interrupted: bool,
}

/// The path in the folder of a model.
pub(crate) const RESULTS: &str = "results.json";

/// The content of the file, if it is a results file.
fn results(folder: &Path) -> Value {
    let text = std::fs::read(folder.join(RESULTS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Refuses the folder of an interrupted training, which has no complete model.
pub(crate) fn check_ended(folder: &Path) -> Result<()> {
    let is_begun = Inputs::file(folder).exists() && !folder.join("model.safetensors").exists();
    if is_begun || results(folder).get("interrupted") == Some(&Value::Bool(true)) {
        let reason = "the training of this model has not ended; resume it with --resume";
        return Err(Error::file(folder, reason));
    }
    Ok(())
}

/// The data set of the recipe that a model was trained with, where it had one of its own of this
/// kind.
pub(crate) fn task_of<T: DeserializeOwned>(folder: &Path) -> Option<Value> {
    let results = results(folder);
    let task = results.pointer("/recipe/task")?;
    T::deserialize(task).is_ok().then(|| task.clone())
}

impl Outcome {
    /// Adds the results of an earlier part of the training. If that was complete, nothing is added,
    /// and its speed stays.
    pub(crate) fn go_on_from(&mut self, path: &Path) {
        let text = std::fs::read(path).unwrap_or_default();
        let Ok(earlier) = serde_json::from_slice::<Value>(&text) else {
            return;
        };
        let number = |key: &str| earlier.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let first = self.curve.first().map_or(u64::MAX, |(step, _)| *step);
        for key in ["curve_before", "curve"] {
            let points = earlier.get(key).and_then(Value::as_array);
            let before = |point: &&Value| point.get(0).and_then(Value::as_u64) < Some(first);
            self.curve_before
                .extend(points.into_iter().flatten().filter(before).cloned());
        }
        self.seconds += number("seconds");
        if self.curve.is_empty() {
            self.steps_per_second = number("steps_per_second");
        }
    }
}
