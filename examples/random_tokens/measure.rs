//! How good and how fast a model is.

use std::time::Instant;

use tch::{Device, Kind};
use textbrewer::models::{BertForSequenceClassification, BertInputs};
use textbrewer::{Batch, DataLoader, Model, Result};

pub struct Measured {
    /// The percentage of the examples whose label has the largest logit.
    pub accuracy: f64,
    pub seconds_per_1000: f64,
}

/// The fastest of three evaluations, which is the least disturbed by other programs.
pub fn measure(
    model: &BertForSequenceClassification,
    examples: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> Result<Measured> {
    let mut measured = evaluate(model, examples, device)?;
    for _ in 1..3 {
        let seconds = evaluate(model, examples, device)?.seconds_per_1000;
        measured.seconds_per_1000 = seconds.min(measured.seconds_per_1000);
    }
    Ok(measured)
}

pub fn evaluate(
    model: &BertForSequenceClassification,
    examples: &mut dyn DataLoader<Batch = BertInputs>,
    device: Device,
) -> Result<Measured> {
    let _guard = tch::no_grad_guard();
    let start = Instant::now();
    let (mut right, mut all) = (0, 0);
    for batch in examples.epoch(1)? {
        let batch = batch?.to_device(device)?;
        let predicted = model.forward(&batch, false)?.logits.f_argmax(-1, false)?;
        if let Some(labels) = &batch.labels {
            let hits = predicted.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
            right += hits.f_int64_value(&[])?;
            all += labels.size1()?;
        }
    }
    Ok(Measured {
        accuracy: 100.0 * right as f64 / all as f64,
        seconds_per_1000: 1e3 * start.elapsed().as_secs_f64() / all as f64,
    })
}
