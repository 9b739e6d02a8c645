//! The inputs of a training, which must be the same when it is resumed.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::data::{Bench, Sources};
use crate::task::Task;
use crate::{Error, Result, disk};

/// Everything that the models, batches and evaluations of a training depend on: `inputs.json` in
/// its folder.
#[derive(Debug)]
pub struct Inputs(Map<String, Value>);

impl Inputs {
    /// The inputs of a training by this command that starts from the weights in these folders.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn new<T: Task>(
        command: &str,
        bench: &Bench<'_, T>,
        sources: &Sources,
        models: &[PathBuf],
    ) -> Result<Self> {
        let weights = models.iter().map(|folder| folder.join("model.safetensors"));
        let tokenizer = bench.pieces.sources().filter(|path| path.exists());
        let mut inputs = Map::new();
        inputs.insert("command".to_owned(), command.into());
        for (name, files) in [
            ("models", files(weights)?),
            ("train", files(sources.train.iter().cloned())?),
            ("dev", files(std::iter::once(sources.dev.clone()))?),
            ("tokenizer", files(tokenizer)?),
        ] {
            inputs.insert(name.to_owned(), files);
        }
        let recipe = serde_json::to_value(bench.recipe)
            .map_err(|error| Error::invalid(format!("recipe: {error}")))?;
        let Value::Object(mut recipe) = recipe else {
            return Ok(Inputs(inputs));
        };
        // The library compares these itself.
        for name in ["training", "distillation"] {
            recipe.remove(name);
        }
        if let Some(Value::Object(task)) = recipe.get_mut("task") {
            // The content of files is compared, not their names.
            task.remove("train");
            task.remove("dev");
        }
        inputs.append(&mut recipe);
        Ok(Inputs(inputs))
    }

    /// The path in the folder of a training.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("inputs.json")
    }

    /// Writes them into the folder of a training.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = format!("{:#}\n", Value::from(self.0.clone()));
        disk::write(&Self::file(folder), text.as_bytes())
    }

    /// Compares them with what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// When they differ in more than names of files.
    pub fn compare(&self, folder: &Path) -> Result<()> {
        let path = Self::file(folder);
        let then: Map<String, Value> = serde_json::from_str(&disk::read(&path)?)
            .map_err(|error| Error::file(&path, error.to_string()))?;
        for (name, now) in &self.0 {
            let Some(then) = then.get(name) else {
                let reason = format!("no `{name}` in it: of another version of this program");
                return Err(Error::file(&path, reason));
            };
            if decisive(then) != decisive(now) {
                let reason = format!(
                    "the training to resume had other inputs: `{name}` was {then}, and now is \
                     {now}; give the same inputs, or another --output-dir"
                );
                return Err(Error::file(&path, reason));
            }
        }
        Ok(())
    }
}

/// Files in order, each with a hash of its content.
fn files(paths: impl Iterator<Item = PathBuf>) -> Result<Value> {
    let files = paths.map(|path| {
        let hash = disk::hash(&path)?;
        Ok(json!({"file": path.display().to_string(), "sha256": hash}))
    });
    Ok(Value::Array(files.collect::<Result<_>>()?))
}

/// A value without the names of files: their content decides.
fn decisive(value: &Value) -> Value {
    let mut value = value.clone();
    for file in value.as_array_mut().into_iter().flatten() {
        if let Some(file) = file.as_object_mut() {
            file.remove("file");
        }
    }
    value
}
