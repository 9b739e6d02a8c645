//! Tasks: what differs between the examples.

use std::collections::HashSet;
use std::fmt::Debug;
use std::path::Path;

use ndarray::Array2;
use serde::Serialize;
use serde::de::DeserializeOwned;
use textbrewer::models::{BertInputs, Head};
use tokenizers::TruncationParams;

use crate::metrics::Metrics;
use crate::outputs::Answers;
use crate::pieces::{Encoded, Pieces};
use crate::{Error, Result};

/// A task: how its files are read, how they become inputs of a model, and how predictions are
/// scored.
///
/// Data flows `file → records → features → batches`, and results flow
/// `scores → predictions → metrics`. A record is one example of a file. A feature is one input of
/// the model; a long record may have several.
pub trait Task: Debug {
    /// One example of a file.
    type Record: Debug + Clone;
    /// One input of the model, with labels if the file has them.
    type Feature: Debug + Clone + Serialize + DeserializeOwned;
    /// The head on top of the encoder.
    type Head: Head<Output: Answers>;
    /// The prediction for one record.
    type Prediction: Debug + Clone;

    /// The names of the files in the data folder.
    fn files(&self) -> &Files;

    /// The names of the labels, in the order of the model's outputs; empty if outputs are not
    /// labels.
    fn labels(&self) -> &[String];

    /// The number of outputs of the head for each position or sequence.
    fn outputs(&self) -> usize {
        self.labels().len()
    }

    /// Reads a file. A line that is broken may be a record with a [`fault`](Self::fault), so that
    /// what is predicted stays in step with the lines.
    ///
    /// # Errors
    /// When a line is invalid; the error names file and line.
    fn read(&self, file: &Path) -> Result<Vec<Self::Record>>;

    /// A record of the `number`th text on the command line, without labels.
    ///
    /// # Errors
    /// When it is not in the form that the task's help describes.
    fn record_of(&self, number: usize, text: &str) -> Result<Self::Record>;

    /// What is wrong with the line of a record, which is then neither learned from nor measured
    /// with.
    fn fault<'r>(&self, _record: &'r Self::Record) -> Option<&'r Fault> {
        None
    }

    /// Whether a measurement leaves out records without labels; otherwise all must have them.
    fn measures_part(&self) -> bool {
        false
    }

    /// Whether a record has labels to score predictions with.
    fn has_truth(&self, record: &Self::Record) -> bool;

    /// Where the labels are in a file, for messages.
    fn truth(&self) -> String;

    /// How texts longer than `max_length` pieces are cut; windows of long contexts overlap by
    /// `stride` pieces.
    fn truncation(&self, max_length: usize, stride: usize) -> TruncationParams;

    /// The columns of the texts of records that have a label as a whole; empty for other tasks.
    fn text_columns(&self) -> &[String] {
        &[]
    }

    /// The texts in these columns.
    fn texts<'r>(&self, _record: &'r Self::Record) -> &'r [String] {
        &[]
    }

    /// Whether the outputs are scores of the places in a text, padding too, and not of labels.
    fn scores_places(&self) -> bool {
        false
    }

    /// What features depend on besides the file, the tokenizer and how it cuts texts.
    fn settings(&self) -> String;

    /// Features of one record.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn features(&self, pieces: &Pieces, record: &Self::Record) -> Result<Vec<Self::Feature>>;

    /// The word pieces of a feature.
    fn encoded<'a>(&self, feature: &'a Self::Feature) -> &'a Encoded;

    /// Whether a feature has labels.
    fn is_labelled(&self, feature: &Self::Feature) -> bool;

    /// Adds labels to a batch of these features, which are padded to `length`. Nothing is added
    /// when one of them has none.
    ///
    /// # Errors
    /// When libtorch fails.
    fn targets(
        &self,
        features: &[&Self::Feature],
        length: usize,
        inputs: BertInputs,
    ) -> textbrewer::Result<BertInputs>;

    /// The prediction for a record from the scores of its features: `[positions, outputs]` each,
    /// without padding.
    ///
    /// # Errors
    /// When the scores do not fit the features.
    fn predict(
        &self,
        record: &Self::Record,
        parts: &[(&Self::Feature, &Array2<f32>)],
    ) -> Result<Self::Prediction>;

    /// The metrics of predictions; the first one is for choosing the best model.
    ///
    /// # Errors
    /// When there are not as many predictions as records, or a record has no labels and
    /// [`measures_part`](Self::measures_part) is false, or none has.
    fn measure(
        &self,
        records: &[Self::Record],
        predictions: &[Self::Prediction],
    ) -> Result<Metrics>;

    /// The text of a file of predictions.
    ///
    /// # Errors
    /// When a prediction cannot be written in the task's format.
    fn write(&self, records: &[Self::Record], predictions: &[Self::Prediction]) -> Result<String>;

    /// Whether there can be several answers for each record.
    fn has_candidates(&self) -> bool {
        false
    }

    /// The text of a file with several answers for each record and their probabilities.
    ///
    /// # Errors
    /// When the task has one answer only.
    fn write_candidates(
        &self,
        _records: &[Self::Record],
        _predictions: &[Self::Prediction],
    ) -> Result<String> {
        Err(Error::invalid("this task has no n-best answers"))
    }

    /// Reads a file of predictions for these records.
    ///
    /// # Errors
    /// When a line is invalid, or does not belong to the records.
    fn read_predictions(
        &self,
        file: &Path,
        records: &[Self::Record],
    ) -> Result<Vec<Self::Prediction>>;

    /// A prediction for printing.
    fn show(&self, record: &Self::Record, prediction: &Self::Prediction) -> String;
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there, and what was expected.
    pub reason: String,
    /// Whether a model can answer the record all the same.
    pub can_be_answered: bool,
}

/// The names of a task's files in its data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The training file.
    pub train: String,
    /// The file to evaluate on while training.
    pub dev: String,
}

impl Files {
    /// Files of these names.
    pub fn new(train: &str, dev: &str) -> Self {
        Files {
            train: train.to_owned(),
            dev: dev.to_owned(),
        }
    }
}

/// The first of these names that was there before.
pub(crate) fn repeated(names: &[String]) -> Option<&str> {
    let mut before = HashSet::new();
    let mut names = names.iter().map(String::as_str);
    names.find(|name| !before.insert(*name))
}
