//! What a file of a masked language model has to keep: all logits, the likeliest words, or a random sample.
//!
//! An encoder learns to say words that are masked (15 % of each sentence, always the same ones). Students of
//! half its layers then learn from labels alone, from the teacher itself, and from files of it. Printed are the
//! bytes of a file for each masked word, the time, and what the students say of sentences that nobody has
//! learned from.
//!
//! `cargo run --release --example masked_words -- --help` explains the options.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::data::{ExampleLoader, pad_to_longest};
use textbrewer::models::{BertConfig, BertForMaskedLM, BertInputs, MaskedLMOutput};
use textbrewer::teacher_file::{Recording, Stored};
use textbrewer::weights::Transfer;
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, BasicTrainer, DataLoader, DistillationConfig, Distiller,
    Error, Ids, Logits, Model, Result, TrainingConfig,
};
use tokenizers::Tokenizer;

/// Distils a masked language model from files that keep more or less of it.
#[derive(Parser)]
struct Options {
    /// A folder with an encoder: config.json, model.safetensors, tokenizer.json.
    #[arg(long)]
    encoder: PathBuf,
    /// A text file with a sentence in each line, before the first tab.
    #[arg(long)]
    file: PathBuf,
    /// Sentences that the students learn from, twice.
    #[arg(long, default_value_t = 4000)]
    sentences: usize,
    /// Others, which the teacher learns from, once.
    #[arg(long, default_value_t = 16000)]
    teacher_sentences: usize,
    /// What students learn from, such as `labels` or `top 16`; from all in turn by default.
    #[arg(long)]
    only: Vec<String>,
    /// Students of each kind.
    #[arg(long, default_value_t = 3)]
    seeds: i64,
}

const BATCH_SIZE: usize = 32;
const MAX_LENGTH: usize = 48;
const HELD_OUT: usize = 500;
const EPOCHS: u64 = 2;

type Sentence = (u64, Vec<i64>);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    let unkept = tempfile::tempdir()?;
    let mut sentences = sentences(&options)?;
    let held_out = sentences.split_off(sentences.len() - HELD_OUT);
    let of_students = sentences.split_off(sentences.len() - options.sentences);
    let tokens = Tokens::of(&options.encoder)?;

    tch::manual_seed(0);
    let variables = VarStore::new(Device::Cpu);
    let (teacher, _) = BertForMaskedLM::from_pretrained(&variables, &options.encoder)?;
    let config = |name: String| {
        let config = TrainingConfig::default().device(Device::Cpu);
        config
            .output_dir(unkept.path().join(name))
            .ckpt_frequency(1)
    };
    let mut trainer = BasicTrainer::builder(&teacher, &variables)
        .train_config(config("teacher".to_owned()))
        .adaptor(on_labels)
        .build()?;
    let mut batches = tokens.loader(sentences.clone())?.shuffle(0);
    learn(&mut trainer, &mut batches, 1)?;
    drop(trainer);
    let saved = unkept.path().join("saved");
    teacher.save_pretrained(&variables, &saved)?;
    let (loss, _) = evaluate(&teacher, &teacher, tokens.loader(held_out.clone())?)?;
    println!("teacher: loss {loss:.3} on unseen sentences");

    println!(
        "{:<14} {:>12} {:>10} {:>10} {:>22} {:>22}",
        "learns from",
        "bytes a word",
        "recorded",
        "trained",
        "loss on unseen",
        "KL from the teacher"
    );
    type Keep = Option<fn(Recording) -> Recording>;
    let kinds: [(&str, bool, Keep); 5] = [
        ("labels", false, None),
        ("the teacher", true, None),
        ("bfloat16", true, Some(|file| file.logits(Stored::BFloat16))),
        ("top 16", true, Some(|file| file.top_k(16, 1.0))),
        ("50 draws", true, Some(|file| file.sample(50, 1.0, 0))),
    ];
    let is_wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    for (name, is_distilled, keep) in kinds {
        if !is_wanted(name) {
            continue;
        }
        let start = Instant::now();
        let file = match keep {
            Some(keep) => {
                let file = Recording::new(unkept.path().join(name)).device(Device::Cpu);
                let mut batches = tokens.loader(of_students.clone())?;
                Some(keep(file).run(&teacher, on_logits, &mut batches)?)
            }
            None => None,
        };
        let recorded = start.elapsed().as_secs_f64();
        let words: usize = of_students
            .iter()
            .map(|sentence| tokens.masked(sentence).len())
            .sum();
        let bytes = file
            .as_ref()
            .map_or(0.0, |file| file.bytes() as f64 / words as f64);
        let (mut losses, mut divergences, mut seconds) = (Vec::new(), Vec::new(), 0.0);
        for seed in 0..options.seeds {
            tch::manual_seed(seed + 1);
            let variables = VarStore::new(Device::Cpu);
            let student = student(&variables, &saved)?;
            let mut batches = tokens.loader(of_students.clone())?.shuffle(seed as u64 + 1);
            let config = config(format!("{name}-{seed}"));
            let distillation = DistillationConfig::default().kd_loss_type("forward_kl");
            let distillation = distillation.temperature(1.0);
            let start = Instant::now();
            match (&file, is_distilled) {
                (_, false) => {
                    let trainer = BasicTrainer::builder(&student, &variables);
                    let trainer = trainer.train_config(config).adaptor(on_labels);
                    learn(&mut trainer.build()?, &mut batches, EPOCHS)?;
                }
                (None, true) => {
                    let distiller = BasicDistiller::builder(&teacher, &student, &variables)
                        .train_config(config)
                        .distill_config(distillation)
                        .adaptor(on_logits);
                    learn(&mut distiller.build()?, &mut batches, EPOCHS)?;
                }
                (Some(file), true) => {
                    let masks = |batch: &BertInputs| {
                        Ok(AdaptorOutput::new().logits_mask(&is_masked(batch)?))
                    };
                    let distiller =
                        BasicDistiller::builder(file.teacher(masks), &student, &variables)
                            .train_config(config)
                            .distill_config(distillation)
                            .teacher_adaptor(|_, said| Ok(said.shallow_clone()))
                            .student_adaptor(on_logits);
                    learn(&mut distiller.build()?, &mut batches, EPOCHS)?;
                }
            }
            seconds += start.elapsed().as_secs_f64() / options.seeds as f64;
            let unseen = tokens.loader(held_out.clone())?;
            let (loss, divergence) = evaluate(&student, &teacher, unseen)?;
            losses.push(loss);
            divergences.push(divergence);
        }
        println!(
            "{name:<14} {bytes:>12.1} {recorded:>8.1} s {seconds:>8.1} s {:>22} {:>22}",
            spread(&losses),
            spread(&divergences)
        );
    }
    Ok(())
}

fn learn<D: Distiller<Batch = BertInputs>>(
    distiller: &mut D,
    batches: &mut dyn DataLoader<Batch = BertInputs>,
    epochs: u64,
) -> Result<()> {
    let run = distiller.train(batches).epochs(epochs);
    run.optimizer(AdamW::new(2e-4))
        .max_grad_norm(1.0)
        .run()
        .map(drop)
}

/// Three layers, those of the teacher with the numbers 0, 2 and 4.
fn student(variables: &VarStore, teacher: &Path) -> Result<BertForMaskedLM> {
    let config = BertConfig::from_json_file(teacher.join("config.json"))?.num_hidden_layers(3);
    let student = BertForMaskedLM::new(&variables.root(), &config)?;
    Transfer::layers([0, 2, 4]).copy_file(teacher.join("model.safetensors"), variables)?;
    Ok(student)
}

fn on_labels(_: &BertInputs, output: &MaskedLMOutput) -> Result<AdaptorOutput> {
    let loss = output.loss()?.ok_or_else(|| Error::other("no labels"))?;
    Ok(AdaptorOutput::new().losses(&loss))
}

/// Logits of the masked words, of which none is made in vain.
fn on_logits(batch: &BertInputs, output: &MaskedLMOutput) -> Result<AdaptorOutput> {
    let said = AdaptorOutput::new().logits(&output.logits);
    Ok(said.logits_mask(&is_masked(batch)?))
}

fn is_masked(batch: &BertInputs) -> Result<Tensor> {
    let labels = batch.labels.as_ref();
    let labels = labels.ok_or_else(|| Error::other("no labels"))?;
    Ok(labels
        .f_ge_tensor(&Tensor::from(0i64))?
        .f_to_kind(Kind::Int64)?)
}

/// Cross entropy with the words that are masked, and KL divergence from the teacher, of each word.
fn evaluate(
    student: &BertForMaskedLM,
    teacher: &BertForMaskedLM,
    mut batches: impl DataLoader<Batch = BertInputs>,
) -> Result<(f64, f64)> {
    let _no_history = tch::no_grad_guard();
    let (mut loss, mut divergence, mut words) = (0.0, 0.0, 0.0);
    for batch in batches.epoch(1)? {
        let batch = batch?;
        let mask = is_masked(&batch)?;
        let logs = |model: &BertForMaskedLM| -> Result<Tensor> {
            let logits = Logits::from(&model.forward(&batch, false)?.logits);
            Ok(logits
                .select_with_mask(&mask)?
                .whole()?
                .f_log_softmax(-1, Kind::Double)?)
        };
        let (ours, theirs) = (logs(student)?, logs(teacher)?);
        let kept = mask.f_ne_tensor(&Tensor::from(0i64))?;
        let labels = batch
            .labels
            .as_ref()
            .unwrap_or(&mask)
            .f_masked_select(&kept)?;
        let of_words = ours.f_gather(-1, &labels.f_unsqueeze(-1)?, false)?;
        loss -= f64::try_from(&of_words.f_sum(Kind::Double)?)?;
        let pointwise = theirs.f_exp()?.f_mul(&theirs.f_sub(&ours)?)?;
        divergence += f64::try_from(&pointwise.f_sum(Kind::Double)?)?;
        words += labels.size1()? as f64;
    }
    Ok((loss / words, divergence / words))
}

fn spread(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    let deviation = (squares / (values.len().max(2) - 1) as f64).sqrt();
    format!("{mean:.3} ± {deviation:.3}")
}

/// As many as all parts need, in a random order, each with its id.
fn sentences(options: &Options) -> std::result::Result<Vec<Sentence>, Box<dyn std::error::Error>> {
    let tokenizer =
        Tokenizer::from_file(options.encoder.join("tokenizer.json")).map_err(Error::other)?;
    let text = std::fs::read_to_string(&options.file)?;
    let mut lines: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .filter(|line| line.split_whitespace().count() > 7)
        .collect();
    lines.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    lines.truncate(options.teacher_sentences + options.sentences + HELD_OUT);
    let encoded = lines.iter().enumerate().map(|(id, line)| {
        let encoding = tokenizer.encode(line.trim(), true).map_err(Error::other)?;
        let tokens = encoding.get_ids().iter().take(MAX_LENGTH);
        Ok((id as u64, tokens.map(|token| i64::from(*token)).collect()))
    });
    encoded.collect()
}

/// Makes a batch of sentences.
trait Collate: Fn(&[&Sentence]) -> Result<BertInputs> {}

impl<F: Fn(&[&Sentence]) -> Result<BertInputs>> Collate for F {}

/// What masks words.
#[derive(Clone, Copy)]
struct Tokens {
    mask: i64,
    /// Tokens below are of the tokenizer's own.
    first_word: i64,
}

impl Tokens {
    fn of(encoder: &Path) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let tokenizer =
            Tokenizer::from_file(encoder.join("tokenizer.json")).map_err(Error::other)?;
        let mask = tokenizer
            .token_to_id("[MASK]")
            .ok_or("the tokenizer has no [MASK]")?;
        Ok(Tokens {
            mask: i64::from(mask),
            first_word: i64::from(mask) + 1,
        })
    }

    /// The places of a sentence that are masked: they follow from its id.
    fn masked(self, (id, tokens): &Sentence) -> Vec<usize> {
        let mut generator = ChaCha8Rng::seed_from_u64(2);
        generator.set_stream(*id);
        let places = tokens.iter().enumerate();
        places
            .filter(|(_, token)| generator.random_bool(0.15) && **token >= self.first_word)
            .map(|(place, _)| place)
            .collect()
    }

    fn loader(self, sentences: Vec<Sentence>) -> Result<ExampleLoader<Sentence, impl Collate>> {
        ExampleLoader::new(sentences, BATCH_SIZE, move |sentences: &[&Sentence]| {
            let (mut inputs, mut labels) = (Vec::new(), Vec::new());
            for &sentence in sentences {
                let (mut masked, mut of_one) = (sentence.1.clone(), vec![-100; sentence.1.len()]);
                for place in self.masked(sentence) {
                    of_one[place] = std::mem::replace(&mut masked[place], self.mask);
                }
                inputs.push(masked);
                labels.push(of_one);
            }
            let (input_ids, mask) = pad_to_longest(&inputs, 0, None)?;
            let (labels, _) = pad_to_longest(&labels, -100, None)?;
            let ids: Ids = sentences.iter().map(|sentence| sentence.0).collect();
            Ok(BertInputs::new(input_ids)
                .attention_mask(mask)
                .labels(labels)
                .ids(ids))
        })
    }
}
