//! `train` and `distill`.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use tch::Device;
use textbrewer::distributed::{ProcessGroup, Rendezvous};
use textbrewer::models::Head;
use textbrewer::{DistillationConfig, TeacherFile};

use super::Example;
use super::options::{DistillCommand, DistillOptions, EarlierOptions, LearnOptions, TrainOptions};
use crate::data::{Bench, Sources};
use crate::models::{Model, Shape};
use crate::outcome::{Outcome, check_ended, task_of};
use crate::pieces::Pieces;
use crate::recipe::{DistillerKind, Recipe};
use crate::terminal::{be_silent, tell};
use crate::training::{Facts, Inputs, SoftLabels, Teachers, Training, no_teacher};
use crate::{Error, Result, Task};

/// Trains a model on the labels.
pub(super) fn train<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &TrainOptions,
) -> Result<()> {
    check_ended(&options.encoder)?;
    let mut recipe = recipe(example, &options.learn, "teacher", &options.encoder)?;
    let shape = *recipe.student.get_or_insert(Shape::Full);
    let group = join(&mut recipe)?;
    let task = example.task(&recipe, recipe_name(&options.learn, "teacher"))?;
    if !recipe.hidden_matches.is_empty() || recipe.distillation != DistillationConfig::default() {
        log::warn!(
            "`train` learns from labels only; the recipe's keys for distillation are ignored"
        );
    }
    let pieces = pieces(&task, &recipe, &options.encoder)?;
    tch::manual_seed(recipe.seed as i64);
    let (labels, outputs) = (task.labels(), task.outputs());
    let model = Model::from_encoder(&options.encoder, labels, outputs, recipe.training.device)?;
    let model = match shape {
        Shape::Full if recipe.layers.is_none() => model,
        shape => model.student(shape, recipe.layers.as_deref(), labels, outputs)?,
    };
    check(&model, &pieces, &recipe, &options.encoder)?;
    tell(format_args!(
        "{shape}: {} parameters, on labels",
        model.parameters()
    ));
    let models = std::slice::from_ref(&options.encoder);
    let bench = bench(&task, &pieces, &recipe, &options.learn);
    let (learn, earlier) = (&options.learn, options.earlier);
    let training = training("train", bench, learn, earlier, models, &group)?;
    told(&training.on_labels(&model)?, &options.learn.output_dir)
}

/// Trains a student on the outputs of teachers.
pub(super) fn distill<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    command: &DistillCommand,
) -> Result<()> {
    let options = &command.distill;
    // What the student starts from, and with it the tokenizer.
    let folders = match &command.encoder {
        Some(encoder) => std::slice::from_ref(encoder),
        None => &command.teachers,
    };
    let mut recipe = distill_recipe(example, options, folders)?;
    let shape = recipe.student.unwrap_or(Shape::T3);
    let group = join(&mut recipe)?;
    let task = example.task(&recipe, recipe_name(&options.learn, "distill"))?;
    let pieces = pieces(&task, &recipe, first(folders)?)?;
    let bench = bench(&task, &pieces, &recipe, &options.learn);
    let learn = &options.learn;
    // What is imported is needed until the training has ended.
    let imported = tempfile::tempdir().map_err(|error| Error::io(std::env::temp_dir(), error))?;
    let (teachers, student) = match &command.encoder {
        Some(encoder) => {
            let data = train_files(&task, learn)?;
            let files = match &command.soft_labels {
                Some(file) => {
                    let by_position = command.by_position;
                    let soft_labels = SoftLabels { file, by_position };
                    vec![soft_labels.read(&bench, &data, imported.path())?]
                }
                None => files(&task, &Facts::of(&bench, &data)?, &command.teacher_files)?,
            };
            (
                Teachers::Recorded(files),
                student(&task, &pieces, &recipe, encoder)?,
            )
        }
        None => {
            let (teachers, student) = models(&task, &pieces, &recipe, folders)?;
            (Teachers::Live(teachers), student)
        }
    };
    let whom = match &teachers {
        Teachers::Live(models) => {
            let sizes = models
                .iter()
                .map(|teacher| teacher.parameters().to_string());
            let sizes: Vec<_> = sizes.collect();
            format!("{} teacher(s) of {}", sizes.len(), sizes.join(", "))
        }
        Teachers::Recorded(files) => {
            let sizes = files.iter().map(|file| file.len().to_string());
            let sizes: Vec<_> = sizes.collect();
            format!("{} file(s) of {} examples", sizes.len(), sizes.join(", "))
        }
    };
    let parameters = student.parameters();
    tell(format_args!(
        "{shape}: {parameters} parameters, from {whom}"
    ));
    for file in &command.teacher_files {
        check_output(&learn.output_dir, std::slice::from_ref(file))?;
    }
    let training = training("distill", bench, learn, command.earlier, folders, &group)?;
    let outcome = training.distill(teachers, student)?;
    told(&outcome, &options.learn.output_dir)
}

/// Opens files of teachers, which must have been recorded from what is trained on.
fn files<T: Task>(task: &T, facts: &Facts, folders: &[PathBuf]) -> Result<Vec<TeacherFile>> {
    let open = |folder: &PathBuf| {
        let file = TeacherFile::open(folder)?;
        facts.check(&file, task.labels())?;
        Ok(file)
    };
    folders.iter().map(open).collect()
}

/// A student that starts from this model.
fn student<T: Task>(
    task: &T,
    pieces: &Pieces,
    recipe: &Recipe,
    encoder: &Path,
) -> Result<Model<T::Head>> {
    let (labels, outputs) = (task.labels(), task.outputs());
    let shape = recipe.student.unwrap_or(Shape::T3);
    // A head that the encoder lacks is drawn.
    tch::manual_seed(recipe.seed as i64);
    let source = Model::from_encoder(encoder, labels, outputs, recipe.training.device)?;
    check(&source, pieces, recipe, encoder)?;
    tch::manual_seed(recipe.seed as i64);
    source.student(shape, recipe.layers.as_deref(), labels, outputs)
}

/// Teachers, a student, and everything else that a distillation starts from.
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
        let own = self::pieces(task, recipe, folder)?;
        if !own.has_vocabulary_of(pieces) {
            let reason = "its tokenizer differs from the first teacher's: teachers and \
                          students share one tokenizer";
            return Err(Error::file(folder, reason));
        }
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
    models: &[PathBuf],
) -> Result<Recipe> {
    for folder in models {
        check_ended(folder)?;
    }
    let first = first(models)?;
    let mut recipe = recipe(example, &options.learn, "distill", first)?;
    recipe.student.get_or_insert(Shape::T3);
    if let Some(distiller) = options.distiller {
        recipe.distiller = distiller;
        if distiller == DistillerKind::Emd {
            recipe.hidden_matches.clear();
        }
    }
    Ok(recipe)
}

/// The recipe of a command, changed by its options. A data set that it leaves out is that of the
/// model it starts from.
fn recipe<T: Task + Clone + DeserializeOwned>(
    example: &Example<T>,
    options: &LearnOptions,
    default: &str,
    model: &Path,
) -> Result<Recipe> {
    let name = options.recipe.as_deref().unwrap_or(default);
    let mut recipe = example.recipe(name, options.device.is_some())?;
    if recipe.task.is_none() {
        recipe.task = task_of::<T>(model);
        if recipe.task.is_some() {
            tell(format_args!("the data set is that of {}", model.display()));
        }
    }
    options.change(recipe)
}

/// What errors about the data set's description name.
pub(super) fn recipe_name<'a>(options: &'a LearnOptions, default: &'a str) -> &'a Path {
    Path::new(options.recipe.as_deref().unwrap_or(default))
}

pub(super) fn pieces<T: Task>(task: &T, recipe: &Recipe, folder: &Path) -> Result<Pieces> {
    let truncation = task.truncation(recipe.max_length, recipe.stride);
    Pieces::from_folder(folder, truncation)
}

pub(super) fn bench<'a, T>(
    task: &'a T,
    pieces: &'a Pieces,
    recipe: &'a Recipe,
    options: &'a LearnOptions,
) -> Bench<'a, T> {
    Bench {
        task,
        pieces,
        recipe,
        cache: cache(&options.cache_dir),
    }
}

/// Meets the other processes, if this one was started as one of several, and gives the recipe the
/// device of this one. The first process tells of all of them.
fn join(recipe: &mut Recipe) -> Result<ProcessGroup> {
    let mut rendezvous = Rendezvous::from_env()?;
    if rendezvous.world_size() == 1 || recipe.training.device == Device::Cpu {
        rendezvous = rendezvous.device(recipe.training.device);
    }
    let group = ProcessGroup::new(&rendezvous)?;
    recipe.training.device = group.device();
    if !group.is_first() {
        be_silent();
    }
    Ok(group)
}

/// A training that is about to start.
fn training<'a, T: Task>(
    command: &str,
    bench: Bench<'a, T>,
    options: &'a LearnOptions,
    earlier: EarlierOptions,
    models: &[PathBuf],
    group: &'a ProcessGroup,
) -> Result<Training<'a, T>> {
    let folder = &options.output_dir;
    check_output(folder, models)?;
    let sources = Sources {
        train: train_files(bench.task, options)?,
        dev: place(
            options,
            options.dev_file.as_deref(),
            &bench.task.files().dev,
        )?,
    };
    Ok(Training {
        inputs: Inputs::new(command, &bench, &sources, models)?,
        bench,
        sources,
        folder,
        group,
        resume: earlier.resume,
        overwrite: earlier.overwrite,
    })
}

/// The training files: the task's own or another, and those that augment it.
pub(super) fn train_files<T: Task>(task: &T, options: &LearnOptions) -> Result<Vec<PathBuf>> {
    let mut files = vec![place(
        options,
        options.train_file.as_deref(),
        &task.files().train,
    )?];
    for file in &options.augment {
        files.push(place(options, Some(file), "")?);
    }
    Ok(files)
}

/// The given file, which may be in the data folder, or else the task's own. A missing file is an
/// error now, before others are read.
fn place(options: &LearnOptions, given: Option<&Path>, own: &str) -> Result<PathBuf> {
    let folder = &options.data_dir;
    let Some(given) = given else {
        let own = folder.join(own);
        std::fs::metadata(&own).map_err(|error| Error::io(&own, error))?;
        return Ok(own);
    };
    let is_plain = matches!(given.components().next(), Some(Component::Normal(_)));
    let inside = folder.join(given);
    if is_plain && inside.exists() {
        return Ok(inside);
    }
    if !given.exists() {
        let reason = format!("no such file, nor in {}", folder.display());
        return Err(Error::file(given, reason));
    }
    Ok(given.to_path_buf())
}

/// The output folder must not be that of a model that the training starts from.
pub(super) fn check_output(folder: &Path, models: &[PathBuf]) -> Result<()> {
    let same = |model: &&PathBuf| match (folder.canonicalize(), model.canonicalize()) {
        (Ok(folder), Ok(model)) => folder == model,
        _ => false,
    };
    match models.iter().find(same) {
        Some(_) => {
            let reason = "the training starts from the model in it; give another --output-dir";
            Err(Error::file(folder, reason))
        }
        None => Ok(()),
    }
}

/// `none` means no folder.
pub(super) fn cache(folder: &Path) -> Option<&Path> {
    (folder != Path::new("none")).then_some(folder)
}

/// Checks that the tokenizer is the model's.
pub(super) fn check<H: Head>(
    model: &Model<H>,
    pieces: &Pieces,
    recipe: &Recipe,
    folder: &Path,
) -> Result<()> {
    let (known, count) = (model.vocabulary(), pieces.vocabulary());
    if count as i64 > known {
        let reason = match pieces.folder() == folder {
            true => format!(
                "its tokenizer has {count} pieces, and its model embeddings for {known} \
                 (`vocab_size` in config.json): are they of one model?"
            ),
            false => format!(
                "its vocabulary has {known} pieces, the tokenizer in use has {count}: teachers and \
                 students share one tokenizer"
            ),
        };
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
        let reason = "interrupted; to continue, repeat the command with --resume (instead of \
                      --overwrite)";
        return Err(Error::file(folder, reason));
    }
    let metrics = outcome.metrics.as_ref().map(ToString::to_string);
    tell(format_args!(
        "{}  ({} steps, {:.0} s, {:.2} steps/s)",
        metrics.unwrap_or_default(),
        outcome.steps,
        outcome.seconds,
        outcome.steps_per_second
    ));
    tell(format_args!("saved in {}", folder.display()));
    Ok(())
}
