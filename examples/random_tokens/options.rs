//! What can be chosen on the command line.

use std::path::PathBuf;

use clap::Parser;
use tch::Device;
use textbrewer::TrainingConfig;
use textbrewer::config::{Precision, parse_device};

/// Teaches a small BERT a rule about random sequences, with a teacher and without.
#[derive(Debug, Parser)]
pub struct Options {
    /// Sequences with labels for the teacher, and as many without for the student that it teaches.
    #[arg(long, default_value_t = 5_120, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub sequences: u64,
    /// Sequences with labels for the student that learns from labels alone.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub labels: u64,
    /// Also print the parameters of each layer and the configurations.
    #[arg(long)]
    pub verbose: bool,
    /// TextBrewer's example instead: 12 layers into 3, random labels and a teacher that has
    /// learnt nothing.
    #[arg(long)]
    pub original: bool,
    /// `--original` with the widths of BERT-base (768) instead of a narrow model (128); takes
    /// minutes per epoch on a CPU.
    #[arg(long)]
    pub bert_base: bool,
    /// How often the teacher and the first student go over the sequences: once by default, or 10
    /// times with `--original`.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// Sequences per batch.
    #[arg(long, default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch_size: usize,
    /// Learning rate after the warm-up; by default 1e-3 for the teacher and 3e-3 for the students,
    /// or 1e-4 with `--original`.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0)]
    pub seed: i64,
    /// Precision of forward passes: `float32`, `bf16` or `fp16`; losses and weights stay in
    /// `float32`.
    #[arg(long, default_value = "float32")]
    precision: Precision,
    /// Precision of the teacher's forward passes; by default that of `--precision`.
    #[arg(long)]
    teacher_precision: Option<Precision>,
    /// `cpu`, `cuda` or `cuda:1`; by default a GPU if there is one.
    #[arg(long, value_parser = parse_device)]
    device: Option<Device>,
    /// The folder in which the models are saved.
    #[arg(long, default_value = "saved_models/random_tokens")]
    output_dir: PathBuf,
    /// The folder for TensorBoard event files; by default none are written.
    #[arg(long)]
    log_dir: Option<PathBuf>,
}

impl Options {
    /// The configuration of a training whose files are in the folder `name`.
    pub fn training(&self, name: &str) -> TrainingConfig {
        let mut config = TrainingConfig::default()
            .output_dir(self.output_dir.join(name))
            .precision(self.precision)
            .teacher_precision(self.teacher_precision);
        if let Some(device) = self.device {
            config = config.device(device);
        }
        if let Some(folder) = &self.log_dir {
            config = config.log_dir(folder.join(name));
        }
        config
    }

    pub fn epochs(&self, default: u64) -> u64 {
        self.epochs.unwrap_or(default)
    }

    pub fn learning_rate(&self, default: f64) -> f64 {
        self.learning_rate.unwrap_or(default)
    }
}
