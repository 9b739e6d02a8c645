//! The whole way on real text: a pretrained BERT is fine-tuned on SST-2, and distilled into
//! a student that starts from some of its layers.
//!
//! `cargo run --release --example text_classification -- --help` explains the options.

mod classifier;
mod dataset;
mod evaluate;
mod options;
mod tokenize;
mod train;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use textbrewer::Side;

use classifier::Classifier;
use evaluate::{print_predictions, print_table, Outcome};
use options::Options;
use tokenize::Pieces;
use train::{Stage, Workshop};

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    textbrewer::backend::keep_freed_memory()?;
    let config = options.train_config()?;
    let source = [&options.encoder, &options.teacher];
    let tokenizer_dir = source.into_iter().flatten().next();
    let tokenizer_dir: &Path = tokenizer_dir.ok_or("give --encoder or --teacher")?;
    let workshop = prepare(options, config, tokenizer_dir)?;

    let mut outcomes = Vec::new();
    let teacher = teacher(options, &workshop, &mut outcomes)?;
    let teacher_accuracy = outcomes.first().map_or(0.0, |outcome| outcome.accuracy);
    let mut stage = Stage {
        name: "student, labels only",
        folder: "student_labels",
        epochs: options.epochs,
        learning_rate: options.learning_rate,
    };
    if !options.no_baseline {
        let student = teacher.student_of(&options.student_layers)?;
        outcomes.push(workshop.fine_tune(&stage, &student)?);
    }
    stage.name = "student, distilled";
    stage.folder = "student_distilled";
    let distill_config = options.distill_config(teacher.layers())?;
    let student = teacher.student_of(&options.student_layers)?;
    let student = student.showing(&distill_config, Side::Student);
    let teacher = teacher.showing(&distill_config, Side::Teacher);
    let known = (&teacher, teacher_accuracy);
    outcomes.push(workshop.distil(&stage, distill_config, known, &student)?);

    print_table(&outcomes);
    let models = [("teacher", &teacher), (stage.name, &student)];
    print_predictions(&options.predict, &workshop.pieces, &models)
}

/// Reads the data and cuts it to word pieces.
fn prepare<'a>(
    options: &Options,
    config: textbrewer::TrainingConfig,
    tokenizer_dir: &'a Path,
) -> Result<Workshop<'a>, Box<dyn Error>> {
    let train_file = options.data_dir.join("train.tsv");
    let mut train = dataset::read(&train_file)?;
    if let Some(size) = options.train_examples {
        train = dataset::subset(train, size)?;
    }
    let (sentences, batch) = (train.len(), options.batch_size);
    if sentences < batch {
        let file = train_file.display();
        let reason = format!("{file}: {sentences} sentences do not fill --batch-size {batch}");
        return Err(reason.into());
    }
    let dev = dataset::read(&options.data_dir.join("dev.tsv"))?;
    println!(
        "{}: {} sentences to train on, {} to evaluate on",
        options.data_dir.display(),
        train.len(),
        dev.len()
    );
    let pieces = Pieces::from_folder(tokenizer_dir, options.max_length)?;
    let train = pieces.examples(&train)?;
    let mut dev = pieces.examples(&dev)?;
    // Batches of one length need little padding.
    dev.sort_by_key(|example| example.ids.len());
    Ok(Workshop {
        config,
        pieces,
        tokenizer_dir,
        train,
        dev,
        batch_size: options.batch_size,
        seed: options.seed,
    })
}

/// Loads a teacher, or makes one of the encoder.
fn teacher(
    options: &Options,
    workshop: &Workshop<'_>,
    outcomes: &mut Vec<Outcome>,
) -> Result<Classifier, Box<dyn Error>> {
    tch::manual_seed(i64::from(options.seed));
    let device = workshop.config.device;
    let stage = Stage {
        name: "teacher",
        folder: "teacher",
        epochs: options.teacher_epochs,
        learning_rate: options.teacher_learning_rate,
    };
    let model = match (&options.teacher, &options.encoder) {
        (Some(folder), _) => Classifier::from_fine_tuned(folder, device)?,
        (None, Some(folder)) => Classifier::from_encoder(folder, device)?,
        (None, None) => return Err("give --encoder or --teacher".into()),
    };
    let bert = model.model.config();
    if options.max_length as i64 > bert.max_position_embeddings {
        let most = bert.max_position_embeddings;
        return Err(format!("--max-length: the model takes at most {most} word pieces").into());
    }
    let (known, needed) = (bert.vocab_size, workshop.pieces.len());
    if needed > known {
        let folder = workshop.tokenizer_dir.display();
        let reason = format!("{folder}: its tokenizer has {needed} ids, the model knows {known}");
        return Err(reason.into());
    }
    // Fails now if the student cannot be made, not after hours.
    model.student_of(&options.student_layers)?;
    options.distill_config(model.layers())?.validate()?;
    outcomes.push(match options.teacher {
        Some(_) => Outcome::untrained(stage.name, &model, workshop.accuracy(&model)?),
        None => workshop.fine_tune(&stage, &model)?,
    });
    Ok(model)
}
