//! `evaluate` and `predict`.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::learn::{cache, check, pieces};
use super::options::{device, ApplyOptions};
use super::Example;
use crate::data::{Bench, Data};
use crate::features::features;
use crate::models::Model;
use crate::recipe::Recipe;
use crate::{disk, evaluate as of_models, Error, Result, Task};

/// Says how good a model, or a file of predictions, is.
pub(super) fn evaluate<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &ApplyOptions,
) -> Result<()> {
    let file = options.file.as_deref();
    let file = file.ok_or_else(|| Error::invalid("give the file with the truth: --file FILE"))?;
    if !options.texts.is_empty() {
        return Err(Error::invalid("`evaluate` takes no texts; `predict` does"));
    }
    let recipe = recipe(example, options)?;
    let task = example.task(&recipe)?;
    let metrics = match &options.predictions {
        Some(predictions) => {
            let records = task.read(file)?;
            let predictions = task.read_predictions(predictions, &records)?;
            task.measure(&records, &predictions)?
        }
        None => {
            let (data, predictions) = answers(&task, &recipe, options, Some(file))?;
            write(&task, options, &data, &predictions)?;
            task.measure(&data.records, &predictions)?
        }
    };
    for (name, value) in metrics.iter() {
        println!("{name:<24}{value:>10.3}");
    }
    Ok(())
}

/// Says what a model answers.
pub(super) fn predict<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &ApplyOptions,
) -> Result<()> {
    let recipe = recipe(example, options)?;
    let task = example.task(&recipe)?;
    let file = options.file.as_deref();
    if file.is_some() != options.texts.is_empty() {
        return Err(Error::invalid("give either --file or texts to predict"));
    }
    let (data, predictions) = answers(&task, &recipe, options, file)?;
    write(&task, options, &data, &predictions)?;
    match &options.output {
        Some(output) => {
            println!("{} predictions in {}", predictions.len(), output.display());
        }
        None => {
            for (record, prediction) in data.records.iter().zip(&predictions) {
                println!("{}", task.show(record, prediction));
            }
        }
    }
    Ok(())
}

/// Writes the files that were asked for.
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

/// What a model answers to the records of a file, or else to texts of the command line.
fn answers<T: Task>(
    task: &T,
    recipe: &Recipe,
    options: &ApplyOptions,
    file: Option<&Path>,
) -> Result<(Data<T>, Vec<T::Prediction>)> {
    let folder = options.model.as_deref();
    let folder = folder.ok_or_else(|| Error::invalid("give a model: --model FOLDER"))?;
    let device = recipe.training.device;
    let pieces = pieces(task, recipe, folder)?;
    let model = Model::trained(folder, task.labels(), task.outputs(), device)?;
    check(&model, &pieces, recipe, folder)?;
    let bench = Bench {
        task,
        pieces: &pieces,
        recipe,
        cache: cache(&options.cache_dir),
    };
    let data = match file {
        Some(file) => bench.read(file, None)?,
        None => {
            let texts = options.texts.iter();
            let records: Vec<_> = texts
                .map(|text| task.record_of(text))
                .collect::<Result<_>>()?;
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

/// What decides features: the recipe that the model was trained with lies in its folder.
fn recipe<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &ApplyOptions,
) -> Result<Recipe> {
    let mut recipe = match (&options.recipe, &options.model) {
        (Some(name), _) => example.recipe(name)?,
        (None, Some(folder)) => trained_with(folder)?.unwrap_or(example.recipe("distill")?),
        (None, None) => example.recipe("distill")?,
    };
    recipe.batch_size = options.batch_size;
    if let Some(length) = options.max_length {
        recipe.cut_at(length);
    }
    recipe.training.device = match &options.device {
        Some(name) => device(name)?,
        None => tch::Device::cuda_if_available(),
    };
    recipe.validate()?;
    Ok(recipe)
}

/// The recipe in `results.json` of a model's folder.
fn trained_with(folder: &Path) -> Result<Option<Recipe>> {
    let path = folder.join("results.json");
    if !path.exists() {
        return Ok(None);
    }
    let mut results: serde_json::Value = serde_json::from_str(&disk::read(&path)?)
        .map_err(|error| Error::file(&path, error.to_string()))?;
    // It may have been trained on a device that is not here.
    if let Some(device) = results.pointer_mut("/recipe/training/device") {
        *device = "cpu".into();
    }
    let recipe = results.get("recipe").map(|recipe| recipe.to_string());
    recipe
        .map(|text| Recipe::from_json_str(&path, &text))
        .transpose()
}
