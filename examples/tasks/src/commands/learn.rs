//! `train` and `distill`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use textbrewer::models::Head;

use super::options::{DistillOptions, LearnOptions, TrainOptions};
use super::Example;
use crate::data::{Bench, Sources};
use crate::models::{Model, Shape};
use crate::outcome::Outcome;
use crate::pieces::Pieces;
use crate::recipe::{DistillerKind, Recipe};
use crate::training::{no_teacher, Training};
use crate::{disk, Error, Result, Task};

/// Trains a model on the labels.
pub(super) fn train<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &TrainOptions,
) -> Result<()> {
    let mut recipe = recipe(example, &options.learn, "teacher")?;
    let shape = *recipe.student.get_or_insert(Shape::Full);
    let task = example.task(&recipe)?;
    let pieces = pieces(&task, &recipe, &options.encoder)?;
    tch::manual_seed(recipe.seed as i64);
    let (labels, outputs) = (task.labels(), task.outputs());
    let model = Model::from_encoder(&options.encoder, labels, outputs, recipe.training.device)?;
    let model = match shape {
        Shape::Full if recipe.layers.is_none() => model,
        shape => model.student(shape, recipe.layers.as_deref(), labels, outputs)?,
    };
    check(&model, &pieces, &recipe, &options.encoder)?;
    println!("{shape}: {} parameters, on labels", model.parameters());
    let models = std::slice::from_ref(&options.encoder);
    let training = training(&task, &pieces, &recipe, &options.learn, models)?;
    told(&training.on_labels(&model)?, &options.learn.output_dir)
}

/// Trains a student on what teachers say.
pub(super) fn distill<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &DistillOptions,
) -> Result<()> {
    let recipe = distill_recipe(example, options)?;
    let shape = recipe.student.unwrap_or(Shape::T3);
    let task = example.task(&recipe)?;
    let pieces = pieces(&task, &recipe, first(&options.teachers)?)?;
    let (teachers, student) = models(&task, &pieces, &recipe, &options.teachers)?;
    println!(
        "{shape}: {} parameters, from {} teacher(s) of {}",
        student.parameters(),
        teachers.len(),
        teachers.first().map_or(0, Model::parameters)
    );
    let training = training(&task, &pieces, &recipe, &options.learn, &options.teachers)?;
    let outcome = training.distill(teachers, student)?;
    told(&outcome, &options.learn.output_dir)
}

/// Teachers and a student of them, and all that a distillation begins with.
pub(super) type Models<T> = (Vec<Model<<T as Task>::Head>>, Model<<T as Task>::Head>);

pub(super) fn models<T: Task>(
    task: &T,
    pieces: &Pieces,
    recipe: &Recipe,
    folders: &[PathBuf],
) -> Result<Models<T>> {
    let (labels, outputs) = (task.labels(), task.outputs());
    let device = recipe.training.device;
    let mut teachers = Vec::new();
    for folder in folders {
        let mut teacher = Model::trained(folder, labels, outputs, device)?;
        check(&teacher, pieces, recipe, folder)?;
        teacher.variables.freeze();
        teachers.push(teacher);
    }
    tch::manual_seed(recipe.seed as i64);
    let source = teachers.first().ok_or_else(no_teacher)?;
    let shape = recipe.student.unwrap_or(Shape::T3);
    let student = source.student(shape, recipe.layers.as_deref(), labels, outputs)?;
    Ok((teachers, student))
}

pub(super) fn distill_recipe<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &DistillOptions,
) -> Result<Recipe> {
    let mut recipe = recipe(example, &options.learn, "distill")?;
    recipe.student.get_or_insert(Shape::T3);
    if let Some(distiller) = options.distiller {
        recipe.distiller = distiller;
        if distiller == DistillerKind::Emd {
            recipe.hidden_matches.clear();
        }
    }
    Ok(recipe)
}

/// The recipe of a command, with what its options change.
fn recipe<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &LearnOptions,
    default: &str,
) -> Result<Recipe> {
    let name = options.recipe.as_deref().unwrap_or(default);
    options.change(example.recipe(name)?)
}

pub(super) fn pieces<T: Task>(task: &T, recipe: &Recipe, folder: &Path) -> Result<Pieces> {
    let truncation = task.truncation(recipe.max_length, recipe.stride);
    Pieces::from_folder(folder, truncation)
}

/// A training that is about to begin.
pub(super) fn training<'a, T: Task>(
    task: &'a T,
    pieces: &'a Pieces,
    recipe: &'a Recipe,
    options: &'a LearnOptions,
    models: &[PathBuf],
) -> Result<Training<'a, T>> {
    let bench = Bench {
        task,
        pieces,
        recipe,
        cache: cache(&options.cache_dir),
    };
    let files = task.files();
    let place = |given: &Option<PathBuf>, own: &str| match given {
        Some(file) if file.exists() => file.clone(),
        Some(file) => options.data_dir.join(file),
        None => options.data_dir.join(own),
    };
    let sources = Sources {
        train: place(&options.train_file, &files.train),
        more: options.augment.clone(),
        dev: place(&options.dev_file, &files.dev),
    };
    Ok(Training {
        bench,
        inputs: inputs(models, &sources)?,
        sources,
        folder: &options.output_dir,
        resume: options.resume,
        overwrite: options.overwrite,
    })
}

/// Hashes of what is trained on and of the models that it begins with.
fn inputs(models: &[PathBuf], sources: &Sources) -> Result<Map<String, Value>> {
    let mut inputs = Map::new();
    let weights = models.iter().map(|folder| folder.join("model.safetensors"));
    let files = std::iter::once(&sources.train).chain(&sources.more);
    for path in weights.chain(files.cloned()) {
        let hash = disk::hash(&path)?;
        inputs.insert(path.display().to_string(), hash.into());
    }
    Ok(inputs)
}

/// `none` is no folder.
pub(super) fn cache(folder: &Path) -> Option<&Path> {
    (folder != Path::new("none")).then_some(folder)
}

/// The tokenizer must be the model's.
pub(super) fn check<H: Head>(
    model: &Model<H>,
    pieces: &Pieces,
    recipe: &Recipe,
    folder: &Path,
) -> Result<()> {
    let (known, pieces) = (model.vocabulary(), pieces.vocabulary());
    if pieces as i64 > known {
        let reason = format!(
            "its vocabulary has {known} pieces, the tokenizer in use has {pieces}: teachers and \
             students share one tokenizer"
        );
        return Err(Error::file(folder, reason));
    }
    match model.longest() {
        Some(longest) if recipe.max_length as i64 > longest => {
            let length = recipe.max_length;
            let reason = format!("it takes {longest} pieces at most, max_length is {length}");
            Err(Error::file(folder, reason))
        }
        _ => Ok(()),
    }
}

pub(super) fn first(folders: &[PathBuf]) -> Result<&Path> {
    let first = folders.first().map(PathBuf::as_path);
    first.ok_or_else(no_teacher)
}

fn told(outcome: &Outcome, folder: &Path) -> Result<()> {
    if outcome.interrupted {
        let reason = "interrupted; the same command with --resume goes on";
        return Err(Error::file(folder, reason));
    }
    let metrics = outcome.metrics.as_ref().map(ToString::to_string);
    println!(
        "{}  ({} steps, {:.0} s, {:.2} steps/s)",
        metrics.unwrap_or_default(),
        outcome.steps,
        outcome.seconds,
        outcome.steps_per_second
    );
    println!("saved in {}", folder.display());
    Ok(())
}
