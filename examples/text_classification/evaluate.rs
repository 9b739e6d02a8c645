//! How good the models are.

use std::error::Error;

use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertForSequenceClassification, BertInputs};
use textbrewer::{display_parameters, Batch, DataLoader, Model};

use crate::classifier::Classifier;
use crate::tokenize::{Example, Pieces};

/// The part of the examples whose label is the one with the largest logit.
pub fn accuracy(
    model: &BertForSequenceClassification,
    loader: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> textbrewer::Result<f64> {
    let _guard = tch::no_grad_guard();
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

/// A line of the table at the end.
#[derive(Debug)]
pub struct Outcome {
    pub name: &'static str,
    /// At the end, and the best at any checkpoint.
    pub accuracy: f64,
    pub best: f64,
    pub parameters: u64,
    /// Seconds and optimizer steps of the training, if there was one here; evaluation is
    /// not counted.
    pub training: Option<(f64, u64)>,
}

impl Outcome {
    /// The line of a model that was not trained here.
    pub fn untrained(name: &'static str, model: &Classifier, accuracy: f64) -> Self {
        Outcome {
            name,
            accuracy,
            best: accuracy,
            parameters: display_parameters(&model.variables, Some(0)).root.count,
            training: None,
        }
    }
}

/// Prints all lines under a heading.
pub fn print_table(outcomes: &[Outcome]) {
    println!(
        "\n{:<24}{:>10}{:>10}{:>14}{:>10}{:>10}",
        "", "accuracy", "best", "parameters", "seconds", "steps/s"
    );
    for outcome in outcomes {
        let (seconds, speed) = match outcome.training {
            Some((seconds, steps)) => (
                format!("{seconds:.1}"),
                format!("{:.2}", steps as f64 / seconds),
            ),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{:<24}{:>8.1} %{:>8.1} %{:>14}{seconds:>10}{speed:>10}",
            outcome.name,
            100.0 * outcome.accuracy,
            100.0 * outcome.best,
            outcome.parameters,
        );
    }
}

/// Prints what each model says about each text, with its probability.
pub fn print_predictions(
    texts: &[String],
    pieces: &Pieces,
    models: &[(&str, &Classifier)],
) -> Result<(), Box<dyn Error>> {
    let _guard = tch::no_grad_guard();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (text, ids) in texts.iter().zip(pieces.ids(&borrowed)?) {
        println!("\n{text}");
        // The label is not looked at.
        let batch = pieces.batch(&[&Example { ids, label: 0 }])?;
        for (name, classifier) in models {
            let batch = batch.to_device(classifier.variables.device())?;
            let logits = classifier.model.forward(&batch, false)?.logits;
            let probabilities: Tensor = logits.f_softmax(-1, Kind::Float)?;
            let positive = probabilities.f_double_value(&[0, 1])?;
            let (label, probability) = match positive >= 0.5 {
                true => ("positive", positive),
                false => ("negative", 1.0 - positive),
            };
            println!("  {name:<24}{label} {:.1} %", 100.0 * probability);
        }
    }
    Ok(())
}
