//! A batch with two sides: different inputs for teacher and student.
//!
//! First the sides are two tokenisations: the teacher reads words, the student characters.
//! Then the teacher's side is its logits, computed in advance, and the teacher is a closure that
//! returns them; the losses are the same.
//!
//! The task is synthetic, so no files are needed: does a sentence have more words that begin with
//! `un` than words that do not?
//!
//! `cargo run --release --example split_batches -- --help` explains the options.

use std::path::PathBuf;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::data::pad_to_longest;
use textbrewer::logging::MemorySink;
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput};
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, BasicTrainer, Batch, DataLoader, Distiller, Error,
    ExampleLoader, Model, Result, Split, TrainingConfig, VecLoader, from_fn,
};

const STEMS: [&str; 8] = [
    "able", "clear", "fair", "happy", "kind", "known", "safe", "well",
];
/// Odd, so that one kind of word is always in the majority.
const WORDS: usize = 5;
/// Of the student's vocabulary: padding, the letters and the blank.
const CHARACTERS: i64 = 28;
const BATCH_SIZE: usize = 32;
const LEARNING_RATE: f64 = 3e-3;

/// Distils a teacher of words into a student of characters.
#[derive(Parser)]
struct Options {
    /// Epochs of training, for the teacher and each student.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Sentences to learn from; as many are kept for evaluation.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    examples: u16,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// Where weights and TensorBoard event files are kept, in a folder for each training; not at
    /// all by default.
    #[arg(long)]
    output_dir: Option<PathBuf>,
}

/// Words for the teacher, characters for the student.
type Texts = Split<BertInputs, BertInputs>;

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
    let training = sentences(options.examples, 2 * seed);
    let evaluation = sentences(options.examples, 2 * seed + 1);
    // The next batches are tokenised in another thread while the models are busy.
    let mut texts = ExampleLoader::new(training, BATCH_SIZE, tokenise)?.prefetch(2);
    let unseen = tokenise(&evaluation.iter().collect::<Vec<_>>())?;

    println!("Training a teacher that reads words …");
    let variables = VarStore::new(Device::Cpu);
    let bert = bert(&variables, 2 * STEMS.len() as i64 + 1, 48)?;
    let teacher = from_fn(|batch: &Texts, train| bert.forward(&batch.teacher, train));
    BasicTrainer::builder(&teacher, &variables)
        .train_config(config("teacher"))
        .adaptor(|_batch, output: &LogitsOutput| {
            let loss = output.loss.as_ref();
            let loss = loss.ok_or_else(|| Error::other("the batch has no labels"))?;
            Ok(AdaptorOutput::new().losses(loss))
        })
        .build()?
        .train(&mut texts)
        .epochs(options.epochs)
        .optimizer(AdamW::new(LEARNING_RATE))
        .run()?;
    let teacher = from_fn(|batch: &Texts, _| Ok(bert.forward(&batch.teacher, false)?.logits));

    println!("Distilling into a student that reads characters …");
    let by_model = distil(&teacher, &mut texts, &unseen, &options, config("words"))?;

    println!("Distilling again, from logits computed beforehand …");
    let judged = texts.epoch(1)?.map(|batch| {
        let _guard = tch::no_grad_guard();
        let batch = batch?;
        Ok(Split::new(teacher.forward(&batch, false)?, batch.student))
    });
    let mut judged = VecLoader::new(judged.collect::<Result<Vec<_>>>()?)?;
    let hand_on = from_fn(|batch: &Split<Tensor, _>, _| Ok(batch.teacher.shallow_clone()));
    let by_logits = distil(&hand_on, &mut judged, &unseen, &options, config("logits"))?;

    let right = accuracy(&teacher.forward(&unseen, false)?, &unseen.teacher)?;
    println!("\n{:<28}{:>10}{:>10}", "Student of", "words", "logits");
    let row = |name: &str, value: fn(&Outcome) -> String| {
        let [words, logits] = [&by_model, &by_logits].map(value);
        println!("{name:<28}{words:>10}{logits:>10}");
    };
    row("accuracy before", |run| format!("{:.1} %", run.accuracy[0]));
    row("accuracy after", |run| format!("{:.1} %", run.accuracy[1]));
    row("mean loss", |run| {
        let sum: f64 = run.losses.iter().sum();
        format!("{:.6}", sum / run.losses.len() as f64)
    });
    println!("Accuracy of the teacher: {right:.1} %");
    let pairs = by_model.losses.iter().zip(&by_logits.losses);
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let steps = by_model.losses.len();
    println!("Largest difference between the losses of {steps} steps: {largest:.9}");
    Ok(())
}

/// The outcome of a distillation.
struct Outcome {
    /// Accuracy of the student, before and after.
    accuracy: [f64; 2],
    /// The loss of each step.
    losses: Vec<f64>,
}

/// Distils into a new student, which starts with the same weights each time.
fn distil<T: Batch>(
    teacher: &dyn Model<Split<T, BertInputs>, Output = Tensor>,
    loader: &mut dyn DataLoader<Batch = Split<T, BertInputs>>,
    unseen: &Texts,
    options: &Options,
    config: TrainingConfig,
) -> Result<Outcome> {
    tch::manual_seed(options.seed + 1);
    let variables = VarStore::new(Device::Cpu);
    let bert = bert(&variables, CHARACTERS, 32)?;
    let student = from_fn(|batch: &Split<T, BertInputs>, train| {
        Ok(bert.forward(&batch.student, train)?.logits)
    });
    let right = || {
        let logits = bert.forward(&unseen.student, false)?.logits;
        accuracy(&logits, &unseen.student)
    };
    let before = right()?;
    let losses = MemorySink::new();
    BasicDistiller::builder(teacher, &student, &variables)
        .train_config(config)
        .adaptor(|_batch, logits| Ok(AdaptorOutput::new().logits(logits)))
        .build()?
        .train(loader)
        .epochs(options.epochs)
        .optimizer(AdamW::new(LEARNING_RATE))
        .log_sink(losses.clone())
        .run()?;
    let losses = losses.curve("scalar/total_loss");
    Ok(Outcome {
        accuracy: [before, right()?],
        losses: losses.into_iter().map(|(_step, loss)| loss).collect(),
    })
}

fn bert(
    variables: &VarStore,
    vocabulary: i64,
    width: i64,
) -> Result<BertForSequenceClassification> {
    let config = BertConfig::default()
        .vocab_size(vocabulary)
        .num_hidden_layers(2)
        .hidden_size(width)
        .num_attention_heads(2)
        .intermediate_size(2 * width)
        .num_labels(2);
    BertForSequenceClassification::new(&variables.root(), &config)
}

/// Sentences such as `unfair kind known unhappy able`.
fn sentences(count: u16, seed: u64) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut word = || {
        let prefix = if rng.random() { "un" } else { "" };
        format!("{prefix}{}", STEMS[rng.random_range(0..STEMS.len())])
    };
    let mut sentence = || (0..WORDS).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..count).map(|_| sentence()).collect()
}

/// The same sentences twice, with their labels. 0 is padding in both vocabularies.
fn tokenise(sentences: &[&String]) -> Result<Texts> {
    let (mut words, mut characters, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for sentence in sentences {
        let word_id = |word: &str| {
            let stem = word.strip_prefix("un").unwrap_or(word);
            let place = STEMS.iter().position(|known| *known == stem);
            let place = place.ok_or_else(|| Error::other(format!("unknown word `{word}`")))?;
            Ok(1 + 2 * place as i64 + i64::from(stem != word))
        };
        let ids = sentence.split(' ').map(word_id);
        words.push(ids.collect::<Result<Vec<_>>>()?);
        // `a` is 1, `z` is 26 and a blank 27.
        let character_id = |byte| match byte {
            b'a'..=b'z' => i64::from(byte - b'a') + 1,
            _ => 27,
        };
        characters.push(sentence.bytes().map(character_id).collect::<Vec<_>>());
        let negative = sentence.split(' ').filter(|word| word.starts_with("un"));
        labels.push(i64::from(negative.count() > WORDS / 2));
    }
    let labels = Tensor::f_from_slice(&labels)?;
    let inputs = |ids: &[Vec<i64>]| -> Result<BertInputs> {
        let (ids, mask) = pad_to_longest(ids, 0, None)?;
        Ok(BertInputs::new(ids)
            .attention_mask(mask)
            .labels(labels.shallow_clone()))
    };
    Ok(Split::new(inputs(&words)?, inputs(&characters)?))
}

/// The percentage of the sentences whose label is the one with the largest logit.
fn accuracy(logits: &Tensor, batch: &BertInputs) -> Result<f64> {
    let labels = batch.labels.as_ref();
    let labels = labels.ok_or_else(|| Error::other("the batch has no labels"))?;
    let hits = logits.f_argmax(-1, false)?.f_eq_tensor(labels)?;
    Ok(100.0 * hits.f_mean(Kind::Double)?.f_double_value(&[])?)
}
