//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tch::Device;
use textbrewer::config::{Precision, parse_device};
use textbrewer::teacher_file::Stored;

use crate::Result;
use crate::models::Shape;
use crate::recipe::{DistillerKind, Recipe};

/// Trains, distils, evaluates and applies models.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Options {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Train a model on labels: a teacher, or a student without a teacher.
    Train(TrainOptions),
    /// Train a student on the outputs of one or more teachers.
    Distill(DistillCommand),
    /// Record what a teacher says of the training data, for `distill --teacher-file`.
    Record(RecordOptions),
    /// Write the inputs of `distill` to files, for the same run in Python.
    Export(ExportOptions),
    /// Score a model or a file of predictions.
    Evaluate(EvaluateOptions),
    /// Predict with a model.
    Predict(PredictOptions),
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainOptions {
    /// The Hugging Face folder to start from: config.json, model.safetensors, and tokenizer.json
    /// or vocab.txt.
    #[arg(long)]
    pub encoder: PathBuf,
    /// All that training has in common.
    #[command(flatten)]
    pub learn: LearnOptions,
    /// What becomes of an earlier training.
    #[command(flatten)]
    pub earlier: EarlierOptions,
}

/// Options of `distill`.
#[derive(Debug, Args)]
pub struct DistillCommand {
    /// The folder of a teacher, written by `train`; may be given several times.
    #[arg(long = "teacher", required_unless_present_any = ["teacher_files", "soft_labels"])]
    pub teachers: Vec<PathBuf>,
    /// What `record` wrote of a teacher, instead of the teacher; may be given several times. The
    /// data, the tokenizer and the lengths must be those of the recording. Which part of the data is
    /// trained on, the order, the batch size and the number of processes may be others.
    #[arg(
        long = "teacher-file",
        requires = "encoder",
        conflicts_with = "teachers"
    )]
    pub teacher_files: Vec<PathBuf>,
    /// Probabilities of the labels that somebody else made of the training data, instead of a
    /// teacher: CSV, TSV or JSONL with a column for each label, under its name. A row belongs to the
    /// record that its column `id` names (their places in the file, from 0), or else to those of its
    /// text, in the column that has the text in the data. Only for labels of whole texts.
    #[arg(long, requires = "encoder", conflicts_with_all = ["teachers", "teacher_files"])]
    pub soft_labels: Option<PathBuf>,
    /// The rows of the soft labels are in the order of the records of the training file, one for
    /// each.
    #[arg(long, requires = "soft_labels", conflicts_with_all = ["teachers", "teacher_files"])]
    pub by_position: bool,
    /// The folder of the model whose tokenizer and layers the student starts from, where no teacher
    /// is there to start from: a teacher that was recorded, or any other encoder.
    #[arg(long, conflicts_with = "teachers")]
    pub encoder: Option<PathBuf>,
    /// How the student learns.
    #[command(flatten)]
    pub distill: DistillOptions,
    /// What becomes of an earlier training.
    #[command(flatten)]
    pub earlier: EarlierOptions,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// The folder of a teacher, written by `train`.
    #[arg(long = "teacher", required = true)]
    pub teachers: Vec<PathBuf>,
    /// How the student learns.
    #[command(flatten)]
    pub distill: DistillOptions,
    /// Overwrite what an earlier export left in the output folder.
    #[arg(long)]
    pub overwrite: bool,
}

/// Options of `record`: those of the `distill` to come, which decide what is recorded. An
/// interrupted recording goes on when the command is repeated.
#[derive(Debug, Args)]
pub struct RecordOptions {
    /// The folder of the teacher, written by `train`.
    #[arg(long)]
    pub teacher: PathBuf,
    /// How logits are stored: float32, bfloat16, float16 or int8.
    #[arg(long, default_value = "float32", value_parser = stored)]
    pub store_logits: Stored,
    /// How hidden states and attentions are stored, which are recorded if the recipe matches them.
    #[arg(long, default_value = "float32", value_parser = stored)]
    pub store_layers: Stored,
    /// How the student is to learn.
    #[command(flatten)]
    pub distill: DistillOptions,
    /// Overwrite another recording in the output folder.
    #[arg(long)]
    pub overwrite: bool,
}

/// What becomes of an earlier training in the output folder.
#[derive(Debug, Clone, Copy, Args)]
pub struct EarlierOptions {
    /// Resume a training that was interrupted.
    #[arg(long)]
    pub resume: bool,
    /// Overwrite what an earlier training left in the output folder.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
}

/// Options of `distill`, `record` and `export`.
#[derive(Debug, Args)]
pub struct DistillOptions {
    /// How the student learns: `general` (with several teachers, from the mean of their logits) or
    /// `emd`.
    #[arg(long, value_parser = distiller)]
    pub distiller: Option<DistillerKind>,
    /// All that training has in common.
    #[command(flatten)]
    pub learn: LearnOptions,
}

/// What training has in common.
#[derive(Debug, Args)]
pub struct LearnOptions {
    /// The folder with the task's files.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// A file to train on instead of the task's own, in the data folder or elsewhere.
    #[arg(long)]
    pub train_file: Option<PathBuf>,
    /// An additional file to train on (data augmentation), in the data folder or elsewhere; may be
    /// given several times.
    #[arg(long = "augment")]
    pub augment: Vec<PathBuf>,
    /// A file to evaluate on after every epoch instead of the task's own, in the data folder or
    /// elsewhere.
    #[arg(long)]
    pub dev_file: Option<PathBuf>,
    /// The folder for the model, its checkpoints, logs and results.json; for what `record` and
    /// `export` write.
    #[arg(long)]
    pub output_dir: PathBuf,
    /// A recipe: a JSON file, or the name of one that comes with the example.
    #[arg(long)]
    pub recipe: Option<String>,
    /// The student: full, T6, T3, T3-small, T4-tiny, T12-nano or BiGRU.
    #[arg(long)]
    pub student: Option<Shape>,
    /// The layers of the teacher that the student starts from, such as 0,2,4.
    #[arg(long, value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// Number of epochs.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Examples at a time, of each process.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// The peak learning rate.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// The most pieces of an example.
    #[arg(long)]
    pub max_length: Option<usize>,
    /// By how many pieces windows of a long text overlap.
    #[arg(long)]
    pub stride: Option<usize>,
    /// Use only this many examples of the training file.
    #[arg(long)]
    pub train_size: Option<usize>,
    /// Seed of the order, initial weights and dropout.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Precision of forward passes: float32, bf16 or fp16.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// cpu, cuda, cuda:1 …; the default is a GPU where there is one. Of several processes each has
    /// the GPU of its number.
    #[arg(long, value_parser = parse_device)]
    pub device: Option<Device>,
    /// Where features are kept for the next time; `none` keeps them nowhere.
    #[arg(long, default_value = "target/features")]
    pub cache_dir: PathBuf,
}

/// Options of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateOptions {
    /// The file with the examples and their labels or answers.
    #[arg(long)]
    pub file: PathBuf,
    /// The folder of a model that `train` or `distill` wrote.
    #[arg(long, required_unless_present = "predictions")]
    pub model: Option<PathBuf>,
    /// A file of predictions to score instead of a model.
    #[arg(long, conflicts_with_all = ["model", "output", "n_best", "batch_size", "max_length", "device"])]
    pub predictions: Option<PathBuf>,
    /// All that applying a model has in common.
    #[command(flatten)]
    pub apply: ApplyOptions,
}

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictOptions {
    /// The folder of a model that `train` or `distill` wrote.
    #[arg(long)]
    pub model: PathBuf,
    /// The file with the examples.
    #[arg(long, required_unless_present = "texts")]
    pub file: Option<PathBuf>,
    /// Texts to predict instead of a file; the two texts of a pair are separated by a tab.
    #[arg(conflicts_with = "file")]
    pub texts: Vec<String>,
    /// All that applying a model has in common.
    #[command(flatten)]
    pub apply: ApplyOptions,
}

/// What applying a model has in common.
#[derive(Debug, Args)]
pub struct ApplyOptions {
    /// The file to write predictions to; without it `predict` prints them.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// The file to write several answers to each question to, with their probabilities; only for
    /// question answering.
    #[arg(long)]
    pub n_best: Option<PathBuf>,
    /// The recipe that the model was trained with, if its task or length differs from the
    /// example's own.
    #[arg(long)]
    pub recipe: Option<String>,
    /// Examples at a time.
    #[arg(long, default_value_t = 32)]
    pub batch_size: usize,
    /// The most pieces of an example.
    #[arg(long)]
    pub max_length: Option<usize>,
    /// cpu, cuda, cuda:1 …; the default is a GPU where there is one.
    #[arg(long, value_parser = parse_device)]
    pub device: Option<Device>,
    /// Where features are kept for the next time; `none` keeps them nowhere.
    #[arg(long, default_value = "target/features")]
    pub cache_dir: PathBuf,
}

impl LearnOptions {
    /// Changes a recipe as the options say.
    ///
    /// # Errors
    /// When the resulting recipe is invalid.
    pub fn change(&self, mut recipe: Recipe) -> Result<Recipe> {
        fn set<V: Clone>(place: &mut V, value: &Option<V>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        set(&mut recipe.epochs, &self.epochs);
        set(&mut recipe.batch_size, &self.batch_size);
        set(&mut recipe.learning_rate, &self.learning_rate);
        if let Some(length) = self.max_length {
            recipe.cut_at(length);
        }
        set(&mut recipe.stride, &self.stride);
        set(&mut recipe.seed, &self.seed);
        if let Some(precision) = self.precision {
            recipe.training.precision = precision;
            // TextBrewer's key for the precision, which would take precedence.
            recipe.training.fp16 = false;
        }
        if self.student.is_some() {
            recipe.student = self.student;
        }
        if self.layers.is_some() {
            recipe.layers.clone_from(&self.layers);
        }
        if self.train_size.is_some() {
            recipe.train_size = self.train_size;
        }
        set(&mut recipe.training.device, &self.device);
        recipe.validate()?;
        Ok(recipe)
    }
}

fn stored(name: &str) -> std::result::Result<Stored, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

fn distiller(name: &str) -> std::result::Result<DistillerKind, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}
