//! The numbers of the reference implementations, made by tests/reference/metrics.py.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub struct Reference {
    pub classification: Vec<Classification>,
    pub sequences: Vec<Sequence>,
    pub entities: Vec<Entities>,
    /// Prediction, answers, exact match, F1.
    pub squad: Vec<(String, Vec<String>, f64, f64)>,
    pub cmrc: Vec<Cmrc>,
    /// Exact match and F1 of all cases together, every seventh without its prediction.
    pub squad_total: (f64, f64),
    /// The same, the number of questions, that without prediction, and the average.
    pub cmrc_total: (f64, f64, usize, usize, f64),
}

#[derive(Deserialize)]
pub struct Classification {
    pub predicted: String,
    pub labels: String,
    pub accuracy: f64,
    pub matthews: f64,
    pub f1: f64,
}

#[derive(Deserialize)]
pub struct Sequence {
    pub tags: String,
    pub entities: Vec<(String, usize, usize)>,
}

/// Precision, recall, F1, support.
pub type Scores = (f64, f64, f64, usize);

#[derive(Deserialize)]
pub struct Entities {
    pub predicted: String,
    pub labels: String,
    pub types: BTreeMap<String, Scores>,
    pub micro: Scores,
    /// None without any type, where seqeval gives NaN.
    #[serde(rename = "macro")]
    pub macro_average: Option<Scores>,
    pub weighted: Scores,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Cmrc {
    /// Prediction, answers, exact match, F1, the segments of the prediction joined by spaces.
    Same(String, Vec<String>, f64, f64, String),
    /// The official F1 with NLTK's sentences; segments and F1 without.
    Sentences(String, Vec<String>, f64, f64, String, f64),
}

pub fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../../tests/reference/metrics.json")).unwrap()
}

/// Equal but for the order of a few operations.
#[track_caller]
pub fn same(what: &str, ours: f64, theirs: f64) {
    let difference = (ours - theirs).abs();
    let close = difference <= 1e-12 * theirs.abs().max(1e-3);
    assert!(close, "{what}: {ours}, reference {theirs}");
}
