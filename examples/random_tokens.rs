//! TextBrewer's first example: a 12-layer BERT teacher and a 3-layer student on random token
//! sequences. It needs no files and shows every part of a distillation.
//!
//! `cargo run --release --example random_tokens -- --help` explains the options.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    display_parameters, AdamW, AdaptorOutput, DataLoader, DistillationConfig, Distiller,
    GeneralDistiller, IntermediateMatch, Model, TensorLoader, TrainSummary, TrainingConfig,
};

const EXAMPLES: i64 = 100;
const LENGTH: i64 = 128;
const LABELS: i64 = 2;

/// Distils a 12-layer BERT into 3 layers on random tokens.
#[derive(Parser)]
struct Options {
    /// Use the widths of BERT-base (768) in place of a narrow model (128); minutes per epoch
    /// on a CPU.
    #[arg(long)]
    bert_base: bool,
    /// Passes over the 100 examples.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Examples per batch.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i64).range(1..))]
    batch_size: i64,
    /// Learning rate after the warm-up.
    #[arg(long, default_value_t = 1e-4)]
    learning_rate: f64,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// `cpu`, `cuda` or `cuda:1`; a GPU if there is one by default.
    #[arg(long)]
    device: Option<String>,
    /// Where the student is saved after each epoch.
    #[arg(long, default_value = "saved_models/random_tokens")]
    output_dir: PathBuf,
    /// Where to write TensorBoard event files; none by default.
    #[arg(long)]
    log_dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    tch::manual_seed(options.seed);

    let train_config = train_config(&options)?;
    let distill_config = distill_config();
    let device = train_config.device;

    // Models. A real teacher is pretrained and fine-tuned on the task; this one is random too.
    let (teacher_vars, student_vars) = (VarStore::new(device), VarStore::new(device));
    let teacher = bert(&teacher_vars, 12, options.bert_base)?;
    let student = bert(&student_vars, 3, options.bert_base)?;
    println!("Teacher\n{}", display_parameters(&teacher_vars, Some(3)));
    println!("Student\n{}", display_parameters(&student_vars, Some(3)));
    println!("TrainingConfig\n{train_config}\nDistillationConfig\n{distill_config}");

    let mut loader = random_examples(&options)?;
    let mut evaluation = random_examples(&options)?;
    let steps = options.epochs * loader.num_batches().unwrap_or_default() as u64;

    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .train_config(train_config)
        .distill_config(distill_config)
        .adaptor(|batch: &BertInputs, output| {
            let mut adapted = AdaptorOutput::new()
                .logits(&output.logits)
                .hidden(&output.hidden_states);
            if let Some(mask) = &batch.attention_mask {
                adapted = adapted.inputs_mask(mask);
            }
            Ok(adapted)
        })
        .build()?;
    let summary = distiller
        .train(&mut loader)
        .epochs(options.epochs)
        .optimizer(AdamW::new(options.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        .callback(|student, info| {
            let accuracy = accuracy(student, &mut evaluation, device)?;
            println!(
                "step {:>4}  accuracy {:.1} %",
                info.global_step,
                100.0 * accuracy
            );
            Ok(())
        })
        .run()?;

    print_gains(&teacher, &student, &summary, &mut evaluation, device)
}

fn train_config(options: &Options) -> Result<TrainingConfig, Box<dyn Error>> {
    let mut config = TrainingConfig::default().output_dir(&options.output_dir);
    if let Some(folder) = &options.log_dir {
        config = config.log_dir(folder);
    }
    if let Some(device) = &options.device {
        config = TrainingConfig::from_json_str(&format!("{{\"device\": {device:?}}}"))?
            .output_dir(config.output_dir.clone());
    }
    Ok(config)
}

/// TextBrewer's recipe: two hidden states, and the similarity of positions (NST) in both.
fn distill_config() -> DistillationConfig {
    let hidden = |teacher, student| IntermediateMatch::hidden(teacher, student).loss("hidden_mse");
    let nst = |teacher: i64, student: i64| {
        IntermediateMatch::hidden([teacher, teacher], [student, student]).loss("nst")
    };
    DistillationConfig::default()
        .temperature(8.0)
        .intermediate_matches(vec![hidden(0, 0), hidden(8, 2), nst(0, 0), nst(8, 2)])
}

fn bert(
    variables: &VarStore,
    layers: i64,
    base: bool,
) -> textbrewer::Result<BertForSequenceClassification> {
    let (hidden, heads) = if base { (768, 12) } else { (128, 2) };
    let config = BertConfig::default()
        .vocab_size(if base { 30_522 } else { 1_000 })
        .num_hidden_layers(layers)
        .hidden_size(hidden)
        .num_attention_heads(heads)
        .intermediate_size(4 * hidden)
        .num_labels(LABELS);
    let model = BertForSequenceClassification::new(&variables.root(), &config)?;
    Ok(model.output_hidden_states(true))
}

/// One hundred sequences of random tokens with random labels, the same in every call.
fn random_examples(options: &Options) -> textbrewer::Result<TensorLoader<BertInputs>> {
    tch::manual_seed(options.seed);
    let int64 = (Kind::Int64, Device::Cpu);
    let input_ids = Tensor::f_randint(100, [EXAMPLES, LENGTH], int64)?;
    let labels = Tensor::f_randint(LABELS, [EXAMPLES], int64)?;
    let attention_mask = input_ids.f_ones_like()?;
    TensorLoader::new(
        vec![input_ids, attention_mask, labels],
        options.batch_size,
        |tensors| {
            Ok(BertInputs::new(&tensors[0])
                .attention_mask(&tensors[1])
                .labels(&tensors[2]))
        },
    )
}

/// The part of the examples whose label is the one with the largest logit.
fn accuracy(
    model: &BertForSequenceClassification,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> textbrewer::Result<f64> {
    let (mut right, mut all) = (0, 0);
    for batch in loader.epoch(0)? {
        let batch = textbrewer::Batch::to_device(&batch?, device)?;
        let predicted = model.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        if let Some(labels) = &batch.labels {
            right += predicted
                .f_eq_tensor(labels)?
                .f_sum(Kind::Int64)?
                .f_int64_value(&[])?;
            all += labels.size()[0];
        }
    }
    Ok(right as f64 / all as f64)
}
