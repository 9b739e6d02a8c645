//! `evaluate` and `predict`.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Example;
use super::learn::{self, cache, check};
use super::options::{ApplyOptions, EvaluateOptions, PredictOptions};
use crate::data::{Bench, Data};
use crate::features::features;
use crate::models::Model;
use crate::outcome::{RESULTS, check_ended, task_of};
use crate::recipe::Recipe;
use crate::terminal::{print, tell};
use crate::{Error, Result, Task, disk, evaluate as of_models, pieces, sound};

/// Scores a model or a file of predictions.
pub(super) fn evaluate<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &EvaluateOptions,
) -> Result<()> {
    let (file, apply) = (&options.file, &options.apply);
    check_outputs(apply, options.model.as_deref(), Some(file))?;
    if let Some(folder) = &options.model {
        check_ended(folder)?;
    }
    let model = options.model.as_deref();
    let recipe = recipe(example, model, apply)?;
    let task = example.task(&recipe, recipe_name(model, apply))?;
    let metrics = match &options.predictions {
        Some(predictions) => {
            let records = task.read(file)?;
            sound::to_measure(&task, file, &records)?;
            let predictions = task.read_predictions(predictions, &records)?;
            task.measure(&records, &predictions)?
        }
        None => {
            let folder = options.model.as_deref();
            let folder = folder.ok_or_else(|| Error::invalid("give a model: --model FOLDER"))?;
            let asked = Given::Truth(file);
            let (data, predictions) = answers(&task, &recipe, folder, apply, asked)?;
            write(&task, apply, &data, &predictions)?;
            task.measure(&data.records, &predictions)?
        }
    };
    for (name, value) in metrics.iter() {
        print(format_args!("{name:<24}{value:>10.3}"))?;
    }
    Ok(())
}

/// Predicts with a model.
pub(super) fn predict<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &PredictOptions,
) -> Result<()> {
    let (folder, apply) = (&options.model, &options.apply);
    check_outputs(apply, Some(folder), options.file.as_deref())?;
    check_ended(folder)?;
    let recipe = recipe(example, Some(folder), apply)?;
    let task = example.task(&recipe, recipe_name(Some(folder), apply))?;
    let given = match &options.file {
        Some(file) => Given::File(file),
        None => Given::Texts(&options.texts),
    };
    let (data, predictions) = answers(&task, &recipe, folder, apply, given)?;
    write(&task, apply, &data, &predictions)?;
    match &apply.output {
        Some(output) => {
            tell(format_args!(
                "{} predictions in {}",
                predictions.len(),
                output.display()
            ));
        }
        None => {
            for (record, prediction) in data.records.iter().zip(&predictions) {
                print(task.show(record, prediction))?;
            }
        }
    }
    Ok(())
}

/// The inputs of a prediction.
enum Given<'a> {
    /// The records of a file.
    File(&'a Path),
    /// The records of a file with the truth.
    Truth(&'a Path),
    /// Texts from the command line.
    Texts(&'a [String]),
}

/// Outputs must not overwrite inputs or each other.
fn check_outputs(options: &ApplyOptions, model: Option<&Path>, file: Option<&Path>) -> Result<()> {
    // A file that does not exist yet is compared by its folder.
    let whole = |path: &Path| {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize();
        let of_folder = folder.ok().zip(path.file_name());
        let of_folder = of_folder.map(|(folder, name)| folder.join(name));
        path.canonicalize()
            .ok()
            .or(of_folder)
            .unwrap_or_else(|| path.to_path_buf())
    };
    let outputs: Vec<_> = [&options.output, &options.n_best]
        .into_iter()
        .flatten()
        .collect();
    for (number, output) in outputs.iter().enumerate() {
        // Other names in a model's folder are allowed.
        let of_model = ["config.json", "model.safetensors", "inputs.json", RESULTS];
        let mut of_model = of_model.into_iter().chain(pieces::FILES);
        if let Some(folder) = model
            && of_model.any(|name| whole(&folder.join(name)) == whole(output))
        {
            let reason = "it would overwrite a file of the model; give another name";
            return Err(Error::file(output, reason));
        }
        let others = outputs.iter().take(number).map(|other| other.as_path());
        if others
            .chain(file)
            .any(|other| whole(other) == whole(output))
        {
            let reason = "it would overwrite another file of this command; give another name";
            return Err(Error::file(output, reason));
        }
    }
    Ok(())
}

/// Writes the requested files.
fn write<T: Task>(
    task: &T,
    options: &ApplyOptions,
    data: &Data<T>,
    predictions: &[T::Prediction],
) -> Result<()> {
    if let Some(path) = &options.output {
        disk::write(path, task.write(&data.records, predictions)?.as_bytes())?;
    }
    if let Some(path) = &options.n_best {
        let text = task.write_candidates(&data.records, predictions)?;
        disk::write(path, text.as_bytes())?;
    }
    Ok(())
}

/// The predictions of a model.
fn answers<T: Task>(
    task: &T,
    recipe: &Recipe,
    folder: &Path,
    options: &ApplyOptions,
    given: Given<'_>,
) -> Result<(Data<T>, Vec<T::Prediction>)> {
    if options.n_best.is_some() && !task.has_candidates() {
        return Err(Error::invalid(
            "--n-best: this task has one answer for each record",
        ));
    }
    let device = recipe.training.device;
    let pieces = learn::pieces(task, recipe, folder)?;
    let model = Model::trained(folder, task.labels(), task.outputs(), device)?;
    check(&model, &pieces, recipe, folder)?;
    let bench = Bench {
        task,
        pieces: &pieces,
        recipe,
        cache: cache(&options.cache_dir),
    };
    let data = match given {
        Given::File(file) => bench.read(file)?,
        Given::Truth(file) => bench.read_truth(file)?,
        Given::Texts(texts) => {
            let records = texts.iter().enumerate();
            let records = records.map(|(number, text)| task.record_of(number + 1, text));
            let records = records.collect::<Result<Vec<_>>>()?;
            Data {
                file: "the command line".into(),
                features: features(task, &records, &pieces, None)?,
                records,
            }
        }
    };
    let predictions = of_models::predict(&bench, &model.network, device, &data)?;
    Ok((data, predictions))
}

/// The recipe that decides the features: the one in the model's folder, with which it was
/// trained.
fn recipe<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    model: Option<&Path>,
    options: &ApplyOptions,
) -> Result<Recipe> {
    // The device is chosen below.
    let named = |name| example.recipe(name, true);
    let mut recipe = match (&options.recipe, model) {
        (Some(name), _) => {
            let mut recipe = named(name)?;
            if recipe.task.is_none() {
                recipe.task = model.and_then(task_of::<T>);
            }
            recipe
        }
        (None, Some(folder)) => match trained_with(folder)? {
            Some(recipe) => recipe,
            None => named("distill")?,
        },
        (None, None) => named("distill")?,
    };
    recipe.batch_size = options.batch_size;
    if let Some(length) = options.max_length {
        recipe.cut_at(length);
    }
    recipe.training.device = options
        .device
        .unwrap_or_else(tch::Device::cuda_if_available);
    recipe.validate()?;
    Ok(recipe)
}

/// What errors about the data set's description name.
fn recipe_name<'a>(model: Option<&'a Path>, options: &'a ApplyOptions) -> &'a Path {
    let given = options.recipe.as_deref().map(Path::new);
    given.or(model).unwrap_or(Path::new("distill"))
}

/// The recipe in `results.json` of a model's folder.
fn trained_with(folder: &Path) -> Result<Option<Recipe>> {
    let path = folder.join(RESULTS);
    if !path.exists() {
        return Ok(None);
    }
    let results: Value = serde_json::from_str(&disk::read(&path)?)
        .map_err(|error| Error::file(&path, error.to_string()))?;
    let Some(recipe) = results.get("recipe") else {
        return Ok(None);
    };
    // It may have been trained on a device that this machine does not have.
    Recipe::from_value(&path, recipe.clone()).map(Some)
}
