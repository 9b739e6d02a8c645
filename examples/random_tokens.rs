//! TextBrewer's first example: a 12-layer BERT teacher and a 3-layer student on random token
//! sequences. It needs no files and shows all parts of a distillation.
//!
//! `cargo run --release --example random_tokens -- --help` explains the options.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::config::{Precision, parse_device};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, Batch, DataLoader, DistillationConfig, Distiller, Error,
    GeneralDistiller, IntermediateMatch, Model, Side, TensorLoader, TrainSummary, TrainingConfig,
    display_parameters,
};

const EXAMPLES: i64 = 100;
const LENGTH: i64 = 128;
const LABELS: i64 = 2;

/// Distils a 12-layer BERT into 3 layers on random tokens.
#[derive(Parser)]
struct Options {
    /// Use the widths of BERT-base (768) instead of a narrow model (128); takes minutes per epoch
    /// on a CPU.
    #[arg(long)]
    bert_base: bool,
    /// Number of epochs over the 100 examples.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Examples per batch.
    #[arg(long, default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    batch_size: usize,
    /// Learning rate after the warm-up.
    #[arg(long, default_value_t = 1e-4)]
    learning_rate: f64,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0)]
    seed: i64,
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
    /// The folder in which the student is saved after each epoch.
    #[arg(long, default_value = "saved_models/random_tokens")]
    output_dir: PathBuf,
    /// The folder for TensorBoard event files; by default none are written.
    #[arg(long)]
    log_dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    tch::manual_seed(options.seed);

    let train_config = train_config(&options)?;
    let distill_config = distill_config();
    let device = train_config.device;

    // Models. A real teacher is pretrained and fine-tuned on the task; this one is random too.
    let (teacher_vars, student_vars) = (VarStore::new(device), VarStore::new(device));
    let base = options.bert_base;
    let layers = |side| distill_config.layers(side, "hidden");
    let teacher = bert(&teacher_vars, 12, base)?.output_hidden_states(layers(Side::Teacher));
    let student = bert(&student_vars, 3, base)?.output_hidden_states(layers(Side::Student));
    println!("Teacher\n{}", display_parameters(&teacher_vars, Some(3)));
    println!("Student\n{}", display_parameters(&student_vars, Some(3)));
    println!("TrainingConfig\n{train_config}\nDistillationConfig\n{distill_config}");

    let mut loader = random_examples(&options)?;
    let mut evaluation = random_examples(&options)?;
    let steps = options.epochs * loader.num_batches().unwrap_or_default() as u64;

    println!(
        "Teacher and labels are random, so an accuracy of about 50 % is all there is to learn;"
    );
    println!("what distillation does shows in the losses.\n");
    let mut first_losses = BTreeMap::new();
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .train_config(train_config)
        .distill_config(distill_config)
        .adaptor(|batch, output| {
            let adapted = AdaptorOutput::new()
                .logits(&output.logits)
                .hidden(&output.hidden_states);
            Ok(match &batch.attention_mask {
                Some(mask) => adapted.inputs_mask(mask),
                None => adapted,
            })
        })
        .build()?;
    let summary = distiller
        .train(&mut loader)
        .epochs(options.epochs)
        .optimizer(AdamW::new(options.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        // The folder belongs to this example; running it again writes the same files.
        .overwrite(true)
        .callback(|student, info| {
            if first_losses.is_empty() {
                first_losses = info.mean_losses.clone();
            }
            let accuracy = accuracy(student, &mut evaluation, device)?;
            println!(
                "step {:>4}  accuracy {:.1} %",
                info.global_step,
                100.0 * accuracy
            );
            Ok(())
        })
        .run()?;

    print_gains(
        (&teacher, &teacher_vars),
        (&student, &student_vars),
        (&first_losses, &summary),
        &mut evaluation,
        device,
    )?;
    Ok(())
}

fn train_config(options: &Options) -> textbrewer::Result<TrainingConfig> {
    let mut config = TrainingConfig::default();
    if let Some(device) = options.device {
        config.device = device;
    }
    config.output_dir = options.output_dir.clone();
    config.log_dir = options.log_dir.clone();
    config.precision = options.precision;
    config.teacher_precision = options.teacher_precision;
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
    BertForSequenceClassification::new(&variables.root(), &config)
}

/// One hundred sequences of random tokens with random labels, the same in every call.
fn random_examples(
    options: &Options,
) -> textbrewer::Result<Box<dyn DataLoader<Batch = BertInputs>>> {
    tch::manual_seed(options.seed);
    let int64 = (Kind::Int64, Device::Cpu);
    let input_ids = Tensor::f_randint(100, [EXAMPLES, LENGTH], int64)?;
    let labels = Tensor::f_randint(LABELS, [EXAMPLES], int64)?;
    let attention_mask = input_ids.f_ones_like()?;
    let tensors = vec![input_ids, attention_mask, labels];
    let loader = TensorLoader::new(tensors, options.batch_size)?.map(|tensors| {
        let [input_ids, attention_mask, labels] = tensors
            .try_into()
            .map_err(|_| Error::other("a batch has three tensors"))?;
        Ok(BertInputs::new(input_ids)
            .attention_mask(attention_mask)
            .labels(labels))
    });
    Ok(Box::new(loader))
}

/// The fraction of the examples whose label has the largest logit.
fn accuracy(
    model: &BertForSequenceClassification,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> textbrewer::Result<f64> {
    let (mut right, mut all) = (0, 0);
    for batch in loader.epoch(1)? {
        let batch = batch?.to_device(device)?;
        let predicted = model.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        if let Some(labels) = &batch.labels {
            let hits = predicted.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
            right += hits.f_int64_value(&[])?;
            all += labels.size1()?;
        }
    }
    Ok(right as f64 / all as f64)
}

/// Prints how much smaller and faster the student is, its losses, and where it is saved.
fn print_gains(
    (teacher, teacher_vars): (&BertForSequenceClassification, &VarStore),
    (student, student_vars): (&BertForSequenceClassification, &VarStore),
    (first_losses, summary): (&BTreeMap<String, f64>, &TrainSummary),
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> textbrewer::Result<()> {
    let _guard = tch::no_grad_guard();
    let mut seconds = |model: &BertForSequenceClassification| -> textbrewer::Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let start = Instant::now();
            accuracy(model, loader, device)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best)
    };
    let rows = [
        ("teacher", teacher, teacher_vars),
        ("student", student, student_vars),
    ];
    let mut measured = Vec::new();
    println!(
        "{:<10}{:>14}{:>12}{:>22}",
        "", "parameters", "size", "forward, 100 examples"
    );
    for (name, model, variables) in rows {
        let root = display_parameters(variables, Some(0)).root;
        let time = seconds(model)?;
        println!(
            "{name:<10}{:>14}{:>9.1} MB{:>19.1} ms",
            root.count,
            root.megabytes,
            1e3 * time
        );
        measured.push((root.count as f64, time));
    }
    if let [teacher, student] = measured[..] {
        println!(
            "The student has {:.1} % of the parameters and is {:.1} times as fast.",
            100.0 * student.0 / teacher.0,
            teacher.1 / student.1
        );
    }
    println!(
        "\n{:<44}{:>12}{:>12}",
        "Losses (unweighted)", "first epoch", "last batch"
    );
    for (name, value) in &summary.losses {
        let first = first_losses.get(name).copied().unwrap_or(f64::NAN);
        println!("  {name:<42}{first:>12.6}{value:>12.6}");
    }
    if let Some(path) = summary.checkpoints.last() {
        println!("\nThe student is saved in {}", path.display());
    }
    if let Some(folder) = &summary.log_dir {
        println!("Its losses at every step are in {}", folder.display());
    }
    Ok(())
}
