//! The command line, and the two configurations that follow from it.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{value_parser, Parser};
use textbrewer::config::Precision;
use textbrewer::{DistillationConfig, IntermediateMatch, TrainingConfig};

/// Distils a pretrained BERT into a few of its own layers, on sentences with two labels.
///
/// The teacher is a pretrained encoder, fine-tuned on the labels. The student starts from
/// some of the teacher's layers, and is trained once on the labels alone and once on what
/// the teacher says, so that one sees what distillation is worth. At each checkpoint the
/// accuracy on the development set is printed, and a table at the end.
#[derive(Debug, Parser)]
pub struct Options {
    /// Folder of the data: `train.tsv` and `dev.tsv` as GLUE ships SST-2, with the header
    /// `sentence<TAB>label`, labels 0 and 1, and no quoting.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Folder of the pretrained encoder, a BERT as Hugging Face saves it: `config.json`,
    /// `model.safetensors`, and `tokenizer.json` or (lower-casing) `vocab.txt`.
    #[arg(long, value_name = "DIR", required_unless_present = "teacher")]
    pub encoder: Option<PathBuf>,
    /// Folder of a fine-tuned teacher, such as an earlier run's `OUTPUT_DIR/teacher`; no
    /// teacher is trained then.
    #[arg(long, value_name = "DIR")]
    pub teacher: Option<PathBuf>,
    /// The layers of the teacher that the student starts from, counted from 0.
    #[arg(
        long,
        value_name = "LAYERS",
        value_delimiter = ',',
        default_value = "0,2,4"
    )]
    pub student_layers: Vec<usize>,
    /// Train on this many sentences, drawn at random, the same in every run; on all by
    /// default.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub train_examples: Option<usize>,
    /// Longest sequence in word pieces, with the special tokens; longer ones are cut.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(3..))]
    pub max_length: usize,
    /// Sentences per batch.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch_size: usize,
    /// Passes over the training set for the teacher.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    pub teacher_epochs: u64,
    /// Passes over the training set for each student.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    pub epochs: u64,
    /// The teacher's learning rate after the warm-up, a tenth of the steps.
    #[arg(long, value_name = "RATE", default_value_t = 5e-5)]
    pub teacher_learning_rate: f64,
    /// The students' learning rate after the warm-up.
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    pub learning_rate: f64,
    /// What teacher's and student's logits are divided by.
    #[arg(long, value_name = "T", default_value_t = 8.0)]
    pub temperature: f64,
    /// Weight of the labels in the distillation; 0 uses the teacher alone.
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0)]
    pub hard_label_weight: f64,
    /// Do not train a student on the labels alone.
    #[arg(long)]
    pub no_baseline: bool,
    /// A DistillationConfig in JSON, in place of this example's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["temperature", "hard_label_weight"])]
    pub distill_config: Option<PathBuf>,
    /// A TrainingConfig in JSON; `--precision`, `--teacher-precision`, `--device`,
    /// `--output-dir` and `--log-dir` go before it.
    #[arg(long, value_name = "FILE")]
    pub train_config: Option<PathBuf>,
    /// Seed of new weights, dropout and the order of the sentences.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// In what every model is trained: `float32`, `bf16` or `fp16`. Losses and weights are
    /// in `float32` always, and so are the evaluations [default: float32].
    #[arg(long, value_name = "NAME", value_parser = precision)]
    pub precision: Option<Precision>,
    /// In what the teacher runs while a student is distilled; as `--precision` by default.
    #[arg(long, value_name = "NAME", value_parser = precision)]
    pub teacher_precision: Option<Precision>,
    /// `cpu`, `cuda` or `cuda:1`; a GPU if there is one by default.
    #[arg(long)]
    pub device: Option<String>,
    /// Where the models are saved, each in a folder of its own with its checkpoints
    /// [default: saved_models/text_classification].
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Where to write TensorBoard event files; none by default.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// A sentence that the trained models are to judge at the end; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub predict: Vec<String>,
}

impl Options {
    /// How to train; each model then gets folders below these.
    pub fn train_config(&self) -> textbrewer::Result<TrainingConfig> {
        let mut config = match &self.train_config {
            Some(file) => TrainingConfig::from_json_file(file)?,
            None => TrainingConfig::default().output_dir("saved_models/text_classification"),
        };
        if let Some(device) = &self.device {
            // The configuration knows PyTorch's names of devices.
            let text = format!("{{\"device\": {device:?}}}");
            config.device = TrainingConfig::from_json_str(&text)?.device;
        }
        if let Some(folder) = &self.output_dir {
            config.output_dir = folder.clone();
        }
        if self.log_dir.is_some() {
            config.log_dir = self.log_dir.clone();
        }
        if let Some(precision) = self.precision {
            config.precision = precision;
        }
        if self.teacher_precision.is_some() {
            config.teacher_precision = self.teacher_precision;
        }
        config.validate()?;
        Ok(config)
    }

    /// What the student learns from a teacher of so many layers: its logits, the labels,
    /// and hidden states at even distances, by their values and by the similarity of
    /// positions in them (NST). State 0 is the embeddings.
    pub fn distill_config(&self, teacher_layers: usize) -> textbrewer::Result<DistillationConfig> {
        if let Some(file) = &self.distill_config {
            return DistillationConfig::from_json_file(file);
        }
        let student_layers = self.student_layers.len();
        let mut matches = Vec::new();
        for student in 0..=student_layers {
            let distance = teacher_layers as f64 / student_layers as f64;
            let teacher = (student as f64 * distance).round() as i64;
            let student = student as i64;
            matches.push(IntermediateMatch::hidden(teacher, student).loss("hidden_mse"));
            let pair = IntermediateMatch::hidden([teacher, teacher], [student, student]);
            matches.push(pair.loss("nst"));
        }
        Ok(DistillationConfig::default()
            .temperature(self.temperature)
            .hard_label_weight(self.hard_label_weight)
            .intermediate_matches(matches))
    }
}

/// A precision by its name in a configuration.
fn precision(name: &str) -> Result<Precision, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}
