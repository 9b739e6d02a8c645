//! TextBrewer's own example: a BERT of 12 layers and a student of 3 on random sequences with random
//! labels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification, BertInputs};
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, DataLoader, DistillationConfig, Distiller, Error, GeneralDistiller,
    IntermediateMatch, Result, Side, TensorLoader, TrainSummary,
};

use crate::measure::evaluate;
use crate::options::Options;
use crate::report::{Row, compare, describe, grouped};

const EXAMPLES: i64 = 100;
const LENGTH: i64 = 128;
const LABELS: i64 = 2;

pub fn run(options: &Options) -> Result<()> {
    tch::manual_seed(options.seed);

    let train_config = options.training("");
    let distill_config = distill_config();
    let device = train_config.device;

    // Models. A real teacher is pretrained and fine-tuned on the task; this one is random too.
    let (teacher_vars, student_vars) = (VarStore::new(device), VarStore::new(device));
    let base = options.bert_base;
    let layers = |side| distill_config.layers(side, "hidden");
    let teacher = bert(&teacher_vars, 12, base)?.output_hidden_states(layers(Side::Teacher));
    let student = bert(&student_vars, 3, base)?.output_hidden_states(layers(Side::Student));
    let mut loader = random_examples(options)?;
    let mut evaluation = random_examples(options)?;
    let epochs = options.epochs(10);
    let steps = epochs * loader.num_batches().unwrap_or_default() as u64;

    println!("A teacher of 12 layers and a student of 3. Sequences, labels and the teacher are");
    println!("random, so an accuracy of about 50 % is all there is to learn; what distillation");
    println!("does shows in the losses. `--verbose` shows layers and configurations.\n");
    if options.verbose {
        describe(
            [&teacher_vars, &student_vars],
            &train_config,
            &distill_config,
        );
    }

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
    let start = Instant::now();
    let summary = distiller
        .train(&mut loader)
        .epochs(epochs)
        .optimizer(AdamW::new(options.learning_rate(1e-4)))
        .schedule(linear_with_warmup(steps / 10, steps))
        .overwrite(true)
        .callback(|student, info| {
            if first_losses.is_empty() {
                first_losses = info.mean_losses.clone();
            }
            let accuracy = evaluate(student, &mut evaluation, device)?.accuracy;
            println!(
                "step {:>5}  accuracy {accuracy:.1} %",
                grouped(info.global_step)
            );
            Ok(())
        })
        .run()?;
    let training = start.elapsed();

    println!();
    let row = |name, model, variables, training| Row {
        name,
        model,
        variables,
        training,
    };
    let rows = [
        row("teacher", &teacher, &teacher_vars, Duration::ZERO),
        row("student", &student, &student_vars, training),
    ];
    compare(&rows, &mut evaluation)?;
    print_losses(&first_losses, &summary);
    Ok(())
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

fn bert(variables: &VarStore, layers: i64, base: bool) -> Result<BertForSequenceClassification> {
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
fn random_examples(options: &Options) -> Result<Box<dyn DataLoader<Batch = BertInputs>>> {
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

/// Prints each loss in the first epoch and at the end, and where the student is.
fn print_losses(first: &BTreeMap<String, f64>, summary: &TrainSummary) {
    println!("\n{:<40}{:>14}{:>14}", "loss", "first epoch", "last batch");
    for (name, value) in &summary.losses {
        let first = first.get(name).copied().unwrap_or(f64::NAN);
        println!("{name:<40}{first:>14.6}{value:>14.6}");
    }
    if let Some(path) = summary.checkpoints.last() {
        println!("\nThe student is in {}.", path.display());
    }
    if let Some(folder) = &summary.log_dir {
        println!("Its losses at every step are in {}.", folder.display());
    }
}
