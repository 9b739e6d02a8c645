//! Two tasks, one student: a shared body with a head for each task, and a teacher for each. A
//! `TaskLoader` mixes the batches of the tasks.
//!
//! The tasks are synthetic, so no files are needed. `majority`: are more than half of a
//! sentence's tokens from the first half of the vocabulary? `marker`: which of three marker
//! tokens is in the sentence, whose length varies? There is much less data for it.
//!
//! `cargo run --release --example multi_task -- --help` explains the options.

use std::path::PathBuf;

use clap::Parser;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::Task;
use textbrewer::models::{
    BertConfig, BertForSequenceClassification, BertInputs, BertModel, LogitsOutput,
};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, Distiller, Error, Model, MultiTaskDistiller,
    Result, TaskLoader, TensorLoader, TrainingConfig, from_fn,
};

const VOCABULARY: i64 = 60;
const MARKERS: i64 = 3;
const LENGTH: i64 = 15;
const BATCH_SIZE: usize = 32;
const LEARNING_RATE: f64 = 3e-3;

/// Distils the teachers of two tasks into one student.
#[derive(Parser)]
struct Options {
    /// Epochs of training for each teacher.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    teacher_epochs: u64,
    /// Batches for the student, of both tasks together.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Sentences of `marker`; of `majority` there are four times as many.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..))]
    examples: i64,
    /// Exponent of the task size: with 1 `majority` is drawn four times as often, with 0 as often.
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    tau: f64,
    /// Seed of weights, data, dropout and draws.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// Where weights and TensorBoard event files are kept, in a folder for each training; not at
    /// all by default.
    #[arg(long)]
    output_dir: Option<PathBuf>,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    tch::manual_seed(options.seed);
    // Models this small are faster with a single thread.
    tch::set_num_threads(1);
    let unkept = tempfile::tempdir()?;
    let folder = options.output_dir.as_deref().unwrap_or(unkept.path());
    let config = |training: &str| {
        let folder = folder.join(training);
        let config = TrainingConfig::default().device(Device::Cpu);
        config.log_dir(&folder).output_dir(folder)
    };
    let seed = options.seed.unsigned_abs();
    let (more, less) = (majority(4 * options.examples)?, marker(options.examples)?);
    let majority_data = TensorLoader::new(more, BATCH_SIZE)?.shuffle(seed);
    let mut majority_data = majority_data.map(inputs);
    let marker_data = TensorLoader::new(less, BATCH_SIZE)?.shuffle(seed + 1);
    let mut marker_data = marker_data.map(inputs).map(add_mask);
    let majority_test = inputs(majority(512)?)?;
    let marker_test = add_mask(inputs(marker(512)?)?)?;

    let stores = [(); 3].map(|()| VarStore::new(Device::Cpu));
    let [deep, wide, root] = stores.each_ref().map(VarStore::root);
    let majority_teacher = BertForSequenceClassification::new(&deep, &bert(3, 32, 2))?;
    let marker_teacher = BertForSequenceClassification::new(&wide, &bert(2, 64, MARKERS))?;
    println!("Training a teacher for each task …");
    let schooling = |task| (options.teacher_epochs, config(task));
    let [first, second] = ["majority", "marker"].map(schooling);
    train(&majority_teacher, &stores[0], &mut majority_data, first)?;
    train(&marker_teacher, &stores[1], &mut marker_data, second)?;

    let body = BertModel::new(&root, &bert(2, 24, 2))?;
    let majority_head = nn::linear(&root / "majority", 24, 2, Default::default());
    let marker_head = nn::linear(&root / "marker", 24, MARKERS, Default::default());
    // It has outputs for both tasks; the adaptor of each task takes its own.
    let student = from_fn(|batch: &BertInputs, train| {
        let pooled = body.forward(batch, train)?.pooler_output;
        let pooled = pooled.ok_or_else(|| Error::other("the body has no pooler"))?;
        Ok([majority_head.forward(&pooled), marker_head.forward(&pooled)])
    });
    let measure = || -> Result<[f64; 2]> {
        let [majority, _] = student.forward(&majority_test, false)?;
        let [_, marker] = student.forward(&marker_test, false)?;
        Ok([
            accuracy(&majority, &majority_test)?,
            accuracy(&marker, &marker_test)?,
        ])
    };
    let before = measure()?;

    println!("Distilling both into one student, without the true labels …");
    let mut loader = TaskLoader::new()
        .task("majority", majority_data)
        .task("marker", marker_data)
        .tau(options.tau)
        .seed(seed);
    let majority_task = Task::new()
        .teacher(&majority_teacher, teacher_logits)
        .student_adaptor(|_, [logits, _]: &[Tensor; 2]| Ok(AdaptorOutput::new().logits(logits)));
    let marker_task = Task::new()
        .teacher(&marker_teacher, teacher_logits)
        .student_adaptor(|_, [_, logits]: &[Tensor; 2]| Ok(AdaptorOutput::new().logits(logits)));
    let (mut majority_batches, mut marker_batches) = (0, 0);
    MultiTaskDistiller::builder(&student, &stores[2])
        .task("majority", majority_task)
        .task("marker", marker_task)
        .train_config(config("student"))
        .build()?
        .train(&mut loader)
        .steps(options.steps)
        .optimizer(AdamW::new(LEARNING_RATE))
        .batch_postprocessor(|batch| {
            match batch.task.as_str() {
                "majority" => majority_batches += 1,
                _ => marker_batches += 1,
            }
            Ok(batch)
        })
        .run()?;
    let after = measure()?;

    let [majority, marker] = [
        majority_teacher.forward(&majority_test, false)?,
        marker_teacher.forward(&marker_test, false)?,
    ];
    let teachers = [
        accuracy(&majority.logits, &majority_test)?,
        accuracy(&marker.logits, &marker_test)?,
    ];
    println!(
        "\n{:<10}{:>9}{:>10}{:>17}{:>9}",
        "Accuracy", "batches", "teacher", "student before", "after"
    );
    for (task, batches, teacher, index) in [
        ("majority", majority_batches, teachers[0], 0),
        ("marker", marker_batches, teachers[1], 1),
    ] {
        println!(
            "{task:<10}{batches:>9}{teacher:>8.1} %{:>15.1} %{:>7.1} %",
            before[index], after[index]
        );
    }
    Ok(())
}

fn bert(layers: i64, width: i64, labels: i64) -> BertConfig {
    BertConfig::default()
        .vocab_size(VOCABULARY)
        .num_hidden_layers(layers)
        .hidden_size(width)
        .num_attention_heads(2)
        .intermediate_size(2 * width)
        .num_labels(labels)
}

fn random(below: i64, size: [i64; 2]) -> Result<Tensor> {
    Ok(Tensor::f_randint(below, size, (Kind::Int64, Device::Cpu))?)
}

/// Sentences with and without a majority of tokens from the first half of the vocabulary.
fn majority(count: i64) -> Result<Vec<Tensor>> {
    let tokens = random(VOCABULARY, [count, LENGTH])?;
    let first_half = tokens.f_lt(VOCABULARY / 2)?;
    let first_half = first_half.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let labels = first_half.f_gt(LENGTH / 2)?.f_to_kind(Kind::Int64)?;
    Ok(vec![tokens, labels])
}

/// Sentences of 8 to 15 tokens, the rest 0; one of the first 8 is a marker, 1, 2 or 3.
fn marker(count: i64) -> Result<Vec<Tensor>> {
    let labels = random(MARKERS, [count, 1])?;
    let others = random(VOCABULARY - MARKERS - 1, [count, LENGTH])?.f_add_scalar(MARKERS + 1)?;
    let positions = Tensor::f_arange(LENGTH, (Kind::Int64, Device::Cpu))?;
    let is_marker = positions.f_eq_tensor(&random(8, [count, 1])?)?;
    let is_padding = positions.f_ge_tensor(&random(8, [count, 1])?.f_add_scalar(8)?)?;
    let tokens = labels.f_add_scalar(1)?.f_where_self(&is_marker, &others)?;
    let tokens = tokens.f_masked_fill(&is_padding, 0)?;
    Ok(vec![tokens, labels.f_squeeze_dim(1)?])
}

fn inputs(tensors: Vec<Tensor>) -> Result<BertInputs> {
    let [tokens, labels] = tensors
        .try_into()
        .map_err(|_| Error::other("a batch has two tensors"))?;
    Ok(BertInputs::new(tokens).labels(labels))
}

/// Adds the attention mask that batches of `marker` need for their padding.
fn add_mask(batch: BertInputs) -> Result<BertInputs> {
    let mask = batch.input_ids.f_ne(0)?;
    Ok(batch.attention_mask(mask))
}

fn train(
    teacher: &BertForSequenceClassification,
    variables: &VarStore,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    (epochs, config): (u64, TrainingConfig),
) -> Result<()> {
    BasicTrainer::builder(teacher, variables)
        .train_config(config)
        .adaptor(|_batch, output: &LogitsOutput| {
            let loss = output.loss.as_ref();
            let loss = loss.ok_or_else(|| Error::other("the batch has no labels"))?;
            Ok(AdaptorOutput::new().losses(loss))
        })
        .build()?
        .train(loader)
        .epochs(epochs)
        .optimizer(AdamW::new(LEARNING_RATE))
        .run()?;
    Ok(())
}

fn teacher_logits(_batch: &BertInputs, output: &LogitsOutput) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().logits(&output.logits))
}

/// The percentage of the sentences whose label is the one with the largest logit.
fn accuracy(logits: &Tensor, batch: &BertInputs) -> Result<f64> {
    let labels = batch.labels.as_ref();
    let labels = labels.ok_or_else(|| Error::other("the batch has no labels"))?;
    let hits = logits.f_argmax(-1, false)?.f_eq_tensor(labels)?;
    Ok(100.0 * hits.f_mean(Kind::Double)?.f_double_value(&[])?)
}
