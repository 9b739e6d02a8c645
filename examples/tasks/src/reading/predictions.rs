//! Files of predicted answers.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::decode::Prediction;
use super::reader::{self, Question};
use crate::{Error, Result};

/// Checks that the predictions fit the records.
pub(super) fn check_lengths(records: &[Question], predictions: &[Prediction]) -> Result<()> {
    if records.len() == predictions.len() {
        return Ok(());
    }
    let (records, predictions) = (records.len(), predictions.len());
    Err(Error::invalid(format!(
        "{predictions} predictions for {records} questions; each question has one"
    )))
}

/// `{id: answer}`.
pub(super) fn write(records: &[Question], predictions: &[Prediction]) -> Result<String> {
    let text = |prediction: &Prediction| Value::from(prediction.text());
    by_id(records, predictions, text)
}

/// `{id: [{text, probability, start_logit, end_logit}]}`, as in BERT's `run_squad.py`.
pub(super) fn n_best(records: &[Question], predictions: &[Prediction]) -> Result<String> {
    by_id(records, predictions, |prediction| {
        let candidates = prediction.candidates.iter().map(|candidate| {
            json!({
                "text": candidate.text,
                "probability": candidate.probability,
                "start_logit": candidate.start,
                "end_logit": candidate.end,
            })
        });
        candidates.collect()
    })
}

fn by_id(
    records: &[Question],
    predictions: &[Prediction],
    value: impl Fn(&Prediction) -> Value,
) -> Result<String> {
    check_lengths(records, predictions)?;
    let mut answers = Map::new();
    for (record, prediction) in records.iter().zip(predictions) {
        if answers
            .insert(record.id.clone(), value(prediction))
            .is_some()
        {
            let reason = format!("two questions have the id `{}`", record.id);
            return Err(Error::invalid(reason));
        }
    }
    let text = serde_json::to_string_pretty(&answers);
    let text = text.map_err(|error| Error::invalid(format!("predictions: {error}")))?;
    Ok(text + "\n")
}

/// Reads `{id: answer}`; questions that are left out have no answer.
pub(super) fn read(file: &Path, records: &[Question]) -> Result<Vec<Prediction>> {
    let Value::Object(answers) = reader::json(file)? else {
        let reason = "not an object `{id: answer}` as the scripts of SQuAD and CMRC read it";
        return Err(Error::file(file, reason));
    };
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let mut texts: HashMap<&str, &str> = HashMap::new();
    for (id, answer) in &answers {
        if !ids.contains(id.as_str()) {
            let reason = format!("`{id}` is not the id of a question; is it for another file?");
            return Err(Error::file(file, reason));
        }
        let Value::String(text) = answer else {
            let reason = format!("the answer to `{id}` is not a text; write `\"{id}\": \"…\"`");
            return Err(Error::file(file, reason));
        };
        texts.insert(id, text);
    }
    let missing: Vec<&str> = ids
        .iter()
        .filter(|id| !texts.contains_key(**id))
        .copied()
        .collect();
    if let Some(id) = missing.iter().min() {
        log::warn!(
            "{}: no answer to {} of {} questions (`{id}`); each counts as 0",
            file.display(),
            missing.len(),
            records.len()
        );
    }
    let predictions = records.iter().map(|record| {
        let text = texts.get(record.id.as_str());
        text.map_or_else(Prediction::default, |text| Prediction::new(*text))
    });
    Ok(predictions.collect())
}
