//! TextBrewer's first example: what a small BERT learns from a large one, and what it learns from
//! labels alone. It needs no files and takes half a minute.
//!
//! The data are random sequences of tokens, and the labels follow a rule (`sequences`). A teacher
//! learns it from many labelled sequences. For the students few labels are left, as is usual: one
//! learns from the teacher and needs none, the other has only the labels.
//!
//! `cargo run --release --example random_tokens -- --help` explains the options.

mod learner;
mod measure;
mod options;
mod original;
mod report;
mod sequences;

use std::time::Instant;

use clap::Parser;
use textbrewer::models::{BertInputs, LogitsOutput};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, DistillationConfig, Distiller, Error,
    GeneralDistiller, IntermediateMatch, ProjectionSpec, Result,
};

use learner::{Learner, Size};
use options::Options;
use report::grouped;
use sequences::{with_labels, without_labels};

const TEACHER: Size = Size {
    layers: 4,
    width: 96,
    learning_rate: 1e-3,
};
const STUDENT: Size = Size {
    layers: 2,
    width: 32,
    learning_rate: 3e-3,
};
const HELD_OUT: u64 = 1_000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    if options.original || options.bert_base {
        return Ok(original::run(&options)?);
    }
    println!("Are most tokens of a random sequence even numbers? No model is told which");
    println!("tokens are even; they find out from examples.\n");
    tch::manual_seed(options.seed);
    // Models this small are faster with a single thread.
    tch::set_num_threads(1);

    // The data: as is usual, there are many sequences, and few of them with labels. The teacher
    // had many; a real one was also pretrained.
    let mut many_labels = with_labels(options.sequences, options.batch_size)?;
    let mut few_labels = with_labels(options.labels, options.batch_size)?;
    let mut no_labels = without_labels(options.sequences, options.batch_size)?;
    let mut held_out = with_labels(HELD_OUT, 100)?;
    let steps = options.epochs(1) * no_labels.num_batches().unwrap_or_default() as u64;

    // The models: both students begin with the same weights.
    let mut teacher = Learner::new("teacher", TEACHER, &options)?;
    tch::manual_seed(options.seed + 1);
    let mut student = Learner::new("student_of_teacher", STUDENT, &options)?;
    tch::manual_seed(options.seed + 1);
    let mut other = Learner::new("student_of_labels", STUDENT, &options)?;
    if options.verbose {
        let stores = [&teacher.variables, &student.variables];
        report::describe(stores, &student.config, &distill_config());
    }

    let (many, few) = (grouped(options.sequences), grouped(options.labels));
    println!("1. A teacher, {TEACHER}, learns from {many} labelled sequences.");
    learn_from_labels(&mut teacher, &mut many_labels, steps)?;
    println!("2. A student, {STUDENT}, learns from the teacher, on {many} without labels.");
    learn_from_teacher(&teacher, &mut student, &mut no_labels, steps)?;
    println!("3. A student like it learns from {few} labelled sequences alone.\n");
    learn_from_labels(&mut other, &mut few_labels, steps)?;

    let rows = [
        teacher.row("teacher"),
        student.row("student of teacher"),
        other.row("student of labels"),
    ];
    report::compare(&rows, &mut held_out)?;
    println!(
        "\nAccuracy is that on {} new sequences. Both students had the",
        grouped(HELD_OUT)
    );
    println!("same weights at first and took the same {steps} steps.");
    if options.labels < options.sequences {
        println!("What the second lacks is labels: it had {few}, while a teacher judges as many");
        println!("sequences as you like. Where labels are plenty, they do as well: try");
        println!("`--labels {}`.", options.sequences);
    }
    println!();
    println!("The student is in {}.", student.config.output_dir.display());
    println!("`--verbose` also shows layers and configurations, `--original` runs TextBrewer's");
    println!("own example.");
    Ok(())
}

/// Learns from the logits of the teacher and from three of its hidden states.
fn learn_from_teacher(
    teacher: &Learner,
    student: &mut Learner,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    steps: u64,
) -> Result<()> {
    let start = Instant::now();
    GeneralDistiller::builder(&teacher.model, &student.model, &student.variables)
        .train_config(student.config.clone())
        .distill_config(distill_config())
        .adaptor(|_batch, output: &LogitsOutput| {
            Ok(AdaptorOutput::new()
                .logits(&output.logits)
                .hidden(&output.hidden_states))
        })
        .build()?
        .train(loader)
        .steps(steps)
        .optimizer(AdamW::new(student.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        // The folder belongs to this example; running it again writes the same files.
        .overwrite(true)
        .save_state(false)
        .run()?;
    student.training = start.elapsed();
    Ok(())
}

/// The hidden states of the embeddings, of the layer in the middle and of the last one. They are
/// wider in the teacher, so a projection of the student's is trained as well.
fn distill_config() -> DistillationConfig {
    let hidden = |teacher: i64, student: i64| {
        IntermediateMatch::hidden(teacher, student)
            .loss("hidden_mse")
            .proj(ProjectionSpec::linear(STUDENT.width, TEACHER.width))
    };
    DistillationConfig::default()
        .temperature(2.0)
        .intermediate_matches([hidden(0, 0), hidden(2, 1), hidden(4, 2)])
}

/// Learns from labels, with the loss that the model computes from them.
fn learn_from_labels(
    learner: &mut Learner,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    steps: u64,
) -> Result<()> {
    let start = Instant::now();
    BasicTrainer::builder(&learner.model, &learner.variables)
        .train_config(learner.config.clone())
        .adaptor(|_batch, output: &LogitsOutput| {
            let loss = output.loss.as_ref();
            let loss = loss.ok_or_else(|| Error::other("the batch has no labels"))?;
            Ok(AdaptorOutput::new().losses(loss))
        })
        .build()?
        .train(loader)
        .steps(steps)
        .optimizer(AdamW::new(learner.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        .overwrite(true)
        .save_state(false)
        .run()?;
    learner.training = start.elapsed();
    Ok(())
}
