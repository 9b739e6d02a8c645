//! Sentences and labels from GLUE's files.

use std::error::Error;
use std::path::Path;

use textbrewer::{DataLoader, ExampleLoader};

/// How many labels there are: negative and positive.
pub const LABELS: i64 = 2;
/// Chooses the part of the training set; not the run's seed, so that runs with several
/// seeds train on the same sentences.
const SUBSET_SEED: u64 = 1234;

/// A sentence and what is true of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    pub text: String,
    pub label: i64,
}

/// Reads a file of lines `sentence<TAB>label` under that header. Quotes are characters
/// like any other.
pub fn read(path: &Path) -> Result<Vec<Sentence>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut sentences = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let failed = |reason: String| format!("{}:{}: {reason}", path.display(), index + 1);
        let line = std::str::from_utf8(line).map_err(|error| failed(error.to_string()))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (index, line) {
            (0, "sentence\tlabel") => {}
            (0, other) => {
                let reason = format!("expected the header `sentence<TAB>label`, got `{other}`");
                return Err(failed(reason).into());
            }
            (_, "") => {}
            (_, line) => sentences.push(parse(line).map_err(failed)?),
        }
    }
    if sentences.is_empty() {
        return Err(format!("{}: no sentence in it", path.display()).into());
    }
    Ok(sentences)
}

fn parse(line: &str) -> Result<Sentence, String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [text, label] = fields[..] else {
        let got = fields.len();
        return Err(format!("expected `sentence<TAB>label`, got {got} field(s)"));
    };
    let label = match label {
        "0" => 0,
        "1" => 1,
        other => return Err(format!("expected the label 0 or 1, got `{other}`")),
    };
    if text.trim().is_empty() {
        return Err("the sentence is empty".to_owned());
    }
    Ok(Sentence {
        text: text.to_owned(),
        label,
    })
}

/// A random part of the sentences, the same in every run.
pub fn subset(sentences: Vec<Sentence>, size: usize) -> textbrewer::Result<Vec<Sentence>> {
    if size >= sentences.len() {
        return Ok(sentences);
    }
    // The first batch of a shuffled pass.
    let copy = |batch: &[&Sentence]| Ok(batch.iter().map(|s| (*s).clone()).collect());
    let mut loader = ExampleLoader::new(sentences, size, copy)?.shuffle(SUBSET_SEED);
    let mut batches = loader.epoch(1)?;
    batches.next().unwrap_or_else(|| Ok(Vec::new()))
}
