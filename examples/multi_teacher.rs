//! Three teachers, one student: each teacher knows one of three dialects, and the student
//! learns all three from them, without labels. How much it learns depends on how the teachers'
//! logits are combined.
//!
//! The task is synthetic, so no files are needed: a dialect is a third of the vocabulary, and a
//! sentence of random tokens of one dialect is positive when more than half of them are from
//! the dialect's first half.
//!
//! `cargo run --release --example multi_teacher -- --help` explains the options.

use std::path::PathBuf;

use clap::Parser;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::distiller::Ensemble;
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, DistillationConfig, Distiller, Error,
    IntermediateMatch, Model, MultiTeacherDistiller, ProjectionSpec, Result, Side, TensorLoader,
    TrainingConfig, from_fn,
};

const DIALECTS: i64 = 3;
const DIALECT_SIZE: i64 = 20;
const LENGTH: i64 = 15;
const BATCH_SIZE: usize = 32;
const TEMPERATURE: f64 = 2.0;
const LEARNING_RATE: f64 = 3e-3;

/// Distils three teachers of different kinds and widths into one student.
#[derive(Parser)]
struct Options {
    /// Epochs of training, for each teacher and each student.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Sentences of each dialect to learn from; as many are kept for evaluation.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..))]
    examples: i64,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// Where weights and TensorBoard event files are kept, in a folder for each training; not at
    /// all by default.
    #[arg(long)]
    output_dir: Option<PathBuf>,
}

/// Any model of this example, returning logits.
type Judge<'a> = &'a dyn Model<BertInputs, Output = Tensor>;

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

    let stores = [(); 3].map(|()| VarStore::new(Device::Cpu));
    let deep = bert(&stores[0], 3, 32)?;
    // Only this teacher's hidden states are matched.
    let layers = distill_config().layers_of_teacher(1, "hidden");
    let wide = bert(&stores[1], 2, 64)?.output_hidden_states(layers);
    let bag = bag_of_tokens(&stores[2], 48);
    let deep_judge = from_fn(|batch: &BertInputs, train| Ok(deep.forward(batch, train)?.logits));
    let wide_judge = from_fn(|batch: &BertInputs, train| Ok(wide.forward(batch, train)?.logits));
    let bag_judge = from_fn(|batch: &BertInputs, _train| Ok(bag.forward(&batch.input_ids)));
    let teachers: [(&str, Judge<'_>); 3] = [
        ("teacher 0, BERT 3 × 32", &deep_judge),
        ("teacher 1, BERT 2 × 64", &wide_judge),
        ("teacher 2, bag of tokens", &bag_judge),
    ];
    println!("Training three teachers, each mostly on a dialect of its own …");
    let mut rows = Vec::new();
    for (dialect, ((name, judge), variables)) in (0..).zip(teachers.into_iter().zip(&stores)) {
        BasicTrainer::builder(&judge, variables)
            .train_config(config(&format!("teacher_{dialect}")))
            .adaptor(cross_entropy)
            .build()?
            .train(&mut batches(sentences(dialect, 6, 2 * options.examples)?)?)
            .epochs(options.epochs)
            .optimizer(AdamW::new(LEARNING_RATE))
            .run()?;
        rows.push((name.to_owned(), accuracies(judge, &options)?));
    }

    let temperature = TEMPERATURE;
    let mut cache = 0;
    for (name, ensemble) in [
        ("mean of logits", Ensemble::MeanLogits),
        (
            "mean of probabilities",
            Ensemble::MeanProbabilities { temperature },
        ),
        ("weights 3, 1, 1", Ensemble::Weighted(vec![3.0, 1.0, 1.0])),
        ("confidence", Ensemble::Confidence),
    ] {
        println!("Distilling by {name} …");
        // All students start with the same weights and see the same sentences.
        tch::manual_seed(options.seed + 1);
        let variables = VarStore::new(Device::Cpu);
        let layers = distill_config().layers(Side::Student, "hidden");
        let student = bert(&variables, 2, 24)?.output_hidden_states(layers);
        let summary = MultiTeacherDistiller::builder(&student, &variables)
            .teacher(deep_judge, logits_only)
            .teacher(&wide, logits_and_hidden)
            .teacher(bag_judge, logits_only)
            .ensemble(ensemble)
            .student_adaptor(logits_and_hidden)
            .train_config(config(&name.replace(", ", "_").replace(' ', "_")))
            .distill_config(distill_config())
            .build()?
            .train(&mut batches(sentences(0, 0, 6 * options.examples)?)?)
            .epochs(options.epochs)
            .optimizer(AdamW::new(LEARNING_RATE))
            .run()?;
        let judge = from_fn(|batch: &BertInputs, _| Ok(student.forward(batch, false)?.logits));
        rows.push((format!("student, {name}"), accuracies(&judge, &options)?));
        cache = summary.cache_bytes.unwrap_or_default();
    }

    println!(
        "\n{:<32}{:>9}{:>9}{:>9}{:>9}",
        "Accuracy by dialect", "0", "1", "2", "mean"
    );
    for (name, [a, b, c]) in rows {
        let mean = (a + b + c) / 3.0;
        println!("{name:<32}{a:>7.1} %{b:>7.1} %{c:>7.1} %{mean:>7.1} %");
    }
    let megabytes = cache as f64 / (1024.0 * 1024.0);
    println!("Each teacher judged each batch once; what they said took {megabytes:.2} MB.");
    Ok(())
}

/// Learns from the logits of all teachers and the hidden states of the wide one, which are cached
/// in the first epoch.
fn distill_config() -> DistillationConfig {
    let hidden = IntermediateMatch::hidden(2, 2)
        .teacher(1)
        .proj(ProjectionSpec::linear(24, 64))
        .weight(0.1);
    DistillationConfig::default()
        .temperature(TEMPERATURE)
        .intermediate_matches([hidden])
        .is_caching_logits(true)
        .cache_features(true)
}

fn bert(variables: &VarStore, layers: i64, width: i64) -> Result<BertForSequenceClassification> {
    let config = BertConfig::default()
        .vocab_size(DIALECTS * DIALECT_SIZE)
        .num_hidden_layers(layers)
        .hidden_size(width)
        .num_attention_heads(2)
        .intermediate_size(2 * width)
        .num_labels(2);
    BertForSequenceClassification::new(&variables.root(), &config)
}

/// A teacher that is not a transformer: the mean of the tokens' embeddings, and two layers.
fn bag_of_tokens(variables: &VarStore, width: i64) -> nn::Sequential {
    let root = variables.root();
    let vocabulary = DIALECTS * DIALECT_SIZE;
    let linear = |name, size| nn::linear(&root / name, width, size, Default::default());
    nn::seq()
        .add(nn::embedding(&root, vocabulary, width, Default::default()))
        .add_fn(|words| words.mean_dim([1i64].as_slice(), false, Kind::Float))
        .add(linear("hidden", width))
        .add_fn(Tensor::tanh)
        .add(linear("output", 2))
}

/// Random sentences and their labels; of eight sentences `often` are in one dialect, the rest
/// in one drawn from all.
fn sentences(dialect: i64, often: i64, count: i64) -> Result<Vec<Tensor>> {
    let int64 = (Kind::Int64, Device::Cpu);
    let words = Tensor::f_randint(DIALECT_SIZE, [count, LENGTH], int64)?;
    let first_half = words.f_lt(DIALECT_SIZE / 2)?;
    let positive = first_half.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let labels = positive.f_gt(LENGTH / 2)?.f_to_kind(Kind::Int64)?;
    let is_chosen = Tensor::f_randint(8, [count, 1], int64)?.f_lt(often)?;
    let dialects = Tensor::f_randint(DIALECTS, [count, 1], int64)?;
    let dialects = dialects.f_masked_fill(&is_chosen, dialect)?;
    let tokens = words.f_add(&dialects.f_mul_scalar(DIALECT_SIZE)?)?;
    Ok(vec![tokens, labels])
}

/// Batches that are the same in each epoch, so that the teachers' outputs can be cached.
fn batches(sentences: Vec<Tensor>) -> Result<impl DataLoader<Batch = BertInputs>> {
    Ok(TensorLoader::new(sentences, BATCH_SIZE)?
        .map(inputs)
        .fixed())
}

fn inputs(tensors: Vec<Tensor>) -> Result<BertInputs> {
    let [tokens, labels] = tensors
        .try_into()
        .map_err(|_| Error::other("a batch has two tensors"))?;
    Ok(BertInputs::new(tokens).labels(labels))
}

fn logits_and_hidden(_batch: &BertInputs, output: &LogitsOutput) -> Result<AdaptorOutput> {
    let hidden = &output.hidden_states;
    Ok(AdaptorOutput::new().logits(&output.logits).hidden(hidden))
}

fn logits_only(_batch: &BertInputs, logits: &Tensor) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new().logits(logits))
}

fn cross_entropy(batch: &BertInputs, logits: &Tensor) -> Result<AdaptorOutput> {
    let loss = textbrewer::losses::cross_entropy(logits, labels(batch)?)?;
    Ok(AdaptorOutput::new().losses(&loss))
}

fn labels(batch: &BertInputs) -> Result<&Tensor> {
    let labels = batch.labels.as_ref();
    labels.ok_or_else(|| Error::other("the batch has no labels"))
}

/// The accuracy of a model on each dialect, in percent.
fn accuracies(model: Judge<'_>, options: &Options) -> Result<[f64; 3]> {
    let _guard = tch::no_grad_guard();
    // The same sentences for every model.
    tch::manual_seed(options.seed + 2);
    let mut accuracies = [0.0; 3];
    for (dialect, accuracy) in (0..).zip(&mut accuracies) {
        let batch = inputs(sentences(dialect, 8, options.examples)?)?;
        let predicted = model.forward(&batch, false)?.f_argmax(-1, false)?;
        let hits = predicted.f_eq_tensor(labels(&batch)?)?;
        *accuracy = 100.0 * hits.f_mean(Kind::Double)?.f_double_value(&[])?;
    }
    Ok(accuracies)
}
