//! Files of predictions in GLUE's format.

use std::path::Path;

use super::Prediction;
use crate::{Error, Result, disk};

const HEADER: &str = "index\tprediction";

/// Lines of `index<TAB>prediction` below that header, counted from 0.
pub(super) fn write(predictions: &[Prediction], labels: &[String]) -> Result<String> {
    let mut text = format!("{HEADER}\n");
    for (index, prediction) in predictions.iter().enumerate() {
        let label = labels.get(prediction.label).ok_or_else(|| {
            let label = prediction.label;
            Error::invalid(format!(
                "prediction {index} is label {label}, of {}",
                labels.len()
            ))
        })?;
        text.push_str(&format!("{index}\t{label}\n"));
    }
    Ok(text)
}

/// Reads a file that [`write`] wrote, for this number of records.
pub(super) fn read(file: &Path, labels: &[String], records: usize) -> Result<Vec<Prediction>> {
    let text = disk::read(file)?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, line)| line != HEADER) {
        return Err(Error::data(
            file,
            1,
            "expected the header `index<TAB>prediction`",
        ));
    }
    let mut predictions = Vec::new();
    for (number, line) in lines {
        let failed = |reason: String| Error::data(file, number + 1, reason);
        let expected = predictions.len().to_string();
        let label = match line.split_once('\t') {
            Some((index, label)) if index == expected => label,
            _ => {
                return Err(failed(format!(
                    "expected `{expected}<TAB>label`, got `{line}`"
                )));
            }
        };
        let label = labels
            .iter()
            .position(|known| known == label)
            .ok_or_else(|| {
                let known = labels.join(", ");
                failed(format!("unknown label `{label}`; known are: {known}"))
            })?;
        predictions.push(Prediction {
            label,
            probabilities: Vec::new(),
        });
    }
    if predictions.len() != records {
        let reason = format!("{} predictions for {records} records", predictions.len());
        return Err(Error::file(file, reason));
    }
    Ok(predictions)
}
