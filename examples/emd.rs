//! BERT-EMD: three student layers learn from six teacher layers without a fixed assignment.
//! Optimal transport between the layers assigns them anew for every batch.
//!
//! The task is synthetic, so no files are needed: does a sentence of random tokens have more
//! tokens from the first half of the vocabulary than from the second? A teacher is trained on
//! it first; the student, half as deep and half as wide, then learns from the teacher alone.
//!
//! `cargo run --release --example emd -- --help` explains the options.

use std::path::PathBuf;

use clap::Parser;
use ndarray::Array2;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs, LogitsOutput};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, DistillationConfig, Distiller, EmdConfig,
    EmdDistiller, Error, LayerWeights, Model, ProjectionSpec, StepInfo, TensorLoader,
    TrainingConfig,
};

const VOCABULARY: i64 = 60;
const LENGTH: i64 = 15;
const BATCH_SIZE: usize = 32;

/// Distils a 6-layer BERT into 3 layers by optimal transport between the layers.
#[derive(Parser)]
struct Options {
    /// Epochs of training, for the teacher and for the student.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Sentences to learn from; as many again are kept for evaluation.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(i64).range(1..))]
    examples: i64,
    /// Re-estimate the weights of the layers after each batch with this temperature (try 3):
    /// layers with lower costs get more weight. Without it all layers have the same weight.
    #[arg(long)]
    reestimate: Option<f64>,
    /// Learning rate after the warm-up.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// Where weights and TensorBoard event files are kept, in a folder for each training; not at
    /// all by default.
    #[arg(long)]
    output_dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    tch::manual_seed(options.seed);
    // Models this small are faster with a single thread.
    tch::set_num_threads(1);
    let emd_config = emd_config(&options);
    // Reports mistakes now, and not after the teacher's training.
    emd_config.validate()?;
    let unkept = tempfile::tempdir()?;
    let folder = options.output_dir.as_deref().unwrap_or(unkept.path());
    let train_config = |training: &str| {
        let folder = folder.join(training);
        let config = TrainingConfig::default().device(Device::Cpu);
        config.log_dir(&folder).output_dir(folder)
    };
    let (mut training, mut evaluation) = (sentences(&options)?, sentences(&options)?);
    let steps = options.epochs * training.num_batches().unwrap_or_default() as u64;

    let (teacher_vars, student_vars) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let teacher = bert(&teacher_vars, 6, 64)?;
    let student = bert(&student_vars, 3, 32)?;

    println!("Training a teacher of 6 layers …");
    BasicTrainer::builder(&teacher, &teacher_vars)
        .train_config(train_config("teacher"))
        .adaptor(|_batch, output: &LogitsOutput| {
            let loss = output.loss.as_ref();
            let loss = loss.ok_or_else(|| Error::other("the batch has no labels"))?;
            Ok(AdaptorOutput::new().losses(loss))
        })
        .build()?
        .train(&mut training)
        .epochs(options.epochs)
        .optimizer(AdamW::new(options.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        .run()?;

    let mut distiller = EmdDistiller::builder(&teacher, &student, &student_vars)
        .train_config(train_config("student"))
        .distill_config(DistillationConfig::default().emd(emd_config))
        .adaptor(|_batch, output: &LogitsOutput| {
            // The paper matches the outputs of the layers, without that of the embeddings.
            let layers = output.hidden_states.get(1..).unwrap_or_default();
            Ok(AdaptorOutput::new()
                .logits(&output.logits)
                .hidden(layers)
                .attention(&output.attentions))
        })
        .build()?;

    println!("\nDistilling into 3 layers, without the true labels …");
    let before = distance(&mut distiller, &mut evaluation)?;
    print_flow(&distiller, "before training");
    distiller
        .train(&mut training)
        .epochs(options.epochs)
        .optimizer(AdamW::new(options.learning_rate))
        .schedule(linear_with_warmup(steps / 10, steps))
        .run()?;
    let after = distance(&mut distiller, &mut evaluation)?;
    print_flow(&distiller, "after training");

    println!(
        "\n{:<32}{:>8}{:>8}",
        "Distance of a batch", "before", "after"
    );
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        println!("{name:<32}{before:>8.4}{after:>8.4}");
    }
    if let Some((teacher, student)) = distiller.layer_weights() {
        println!("\nWeights of the layers, re-estimated, % of the whole");
        for (name, weights) in [("teacher", teacher), ("student", student)] {
            println!("{name:<14}{}", percents(weights.iter()));
        }
    }
    println!();
    for (name, model) in [("teacher", &teacher), ("student", &student)] {
        let accuracy = accuracy(model, &mut evaluation)?;
        println!("Accuracy of the {name:<16}{accuracy:>6.1} %");
    }
    Ok(())
}

fn emd_config(options: &Options) -> EmdConfig {
    EmdConfig::default()
        .hidden_projection(ProjectionSpec::linear(32, 64))
        // Differences between probabilities are far smaller than between hidden states.
        .attention_weight(100.0)
        .layer_weights(match options.reestimate {
            Some(temperature) => LayerWeights::Reestimated { temperature },
            None => LayerWeights::Uniform,
        })
}

fn bert(
    variables: &VarStore,
    layers: i64,
    hidden: i64,
) -> textbrewer::Result<BertForSequenceClassification> {
    let config = BertConfig::default()
        .vocab_size(VOCABULARY)
        .num_hidden_layers(layers)
        .hidden_size(hidden)
        .num_attention_heads(2)
        .intermediate_size(2 * hidden)
        .num_labels(2);
    let model = BertForSequenceClassification::new(&variables.root(), &config)?;
    Ok(model.output_hidden_states(true).output_attentions(true))
}

/// Random sentences with their labels, different ones in each call.
fn sentences(options: &Options) -> textbrewer::Result<Box<dyn DataLoader<Batch = BertInputs>>> {
    let size = [options.examples, LENGTH];
    let tokens = Tensor::f_randint(VOCABULARY, size, (Kind::Int64, Device::Cpu))?;
    let first_half = tokens.f_lt(VOCABULARY / 2)?;
    let count = first_half.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let labels = count.f_gt(LENGTH / 2)?.f_to_kind(Kind::Int64)?;
    let loader = TensorLoader::new(vec![tokens, labels], BATCH_SIZE)?.map(|tensors| {
        let [tokens, labels] = tensors
            .try_into()
            .map_err(|_| Error::other("a batch has two tensors"))?;
        Ok(BertInputs::new(tokens).labels(labels))
    });
    Ok(Box::new(loader))
}

/// The distances on one batch, without training.
fn distance(
    distiller: &mut EmdDistiller<'_, BertInputs, BertForSequenceClassification>,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
) -> textbrewer::Result<Vec<(String, f64)>> {
    let _guard = tch::no_grad_guard();
    let batch = loader.epoch(1)?.next();
    let batch = batch.ok_or_else(|| Error::other("there is no batch"))??;
    let report = distiller.train_on_batch(&batch, &StepInfo::new(0, 0, 1, 0))?;
    let terms = report.losses().iter();
    terms
        .filter(|term| term.name.starts_with("unweighted_emd"))
        .map(|term| Ok((term.name.clone(), term.loss.f_double_value(&[])?)))
        .collect()
}

/// Prints the share of the flow from each teacher layer to each student layer.
fn print_flow<S>(distiller: &EmdDistiller<'_, BertInputs, S>, when: &str) {
    let plans = [
        ("hidden states", distiller.hidden_plan()),
        ("attentions", distiller.attention_plan()),
    ];
    for (feature, plan) in plans {
        let Some(plan) = plan else { continue };
        println!("\nFlow between {feature} {when}, % of the whole");
        println!("{:<13}student 0       1       2", "");
        for (layer, row) in plan.flow.rows().into_iter().enumerate() {
            println!("{:<14}{}", format!("teacher {layer}"), percents(row.iter()));
        }
        println!("{}", order(&plan.flow));
    }
}

/// Whether deeper student layers learn from deeper teacher layers: the mean teacher layer that
/// each student layer learns from.
fn order(flow: &Array2<f64>) -> String {
    let columns = flow.columns().into_iter();
    let means = columns.map(|column| {
        let layers = column
            .iter()
            .enumerate()
            .map(|(layer, flow)| layer as f64 * flow);
        layers.sum::<f64>() / column.sum()
    });
    let means: Vec<_> = means.map(|mean| format!("{mean:.1}")).collect();
    format!(
        "the student's layers learn from teacher layers {} on average",
        means.join(", ")
    )
}

fn percents<'f>(parts: impl Iterator<Item = &'f f64>) -> String {
    parts
        .map(|&part| match part {
            0.0 => format!("{:>8}", "."),
            part => format!("{:>8.1}", 100.0 * part),
        })
        .collect()
}

/// The percentage of the sentences whose label is the one with the largest logit.
fn accuracy(
    model: &BertForSequenceClassification,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
) -> textbrewer::Result<f64> {
    let _guard = tch::no_grad_guard();
    let (mut right, mut all) = (0, 0);
    for batch in loader.epoch(1)? {
        let batch = batch?;
        let predicted = model.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        if let Some(labels) = &batch.labels {
            let hits = predicted.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
            right += hits.f_int64_value(&[])?;
            all += labels.size1()?;
        }
    }
    Ok(100.0 * right as f64 / all as f64)
}
