//! What differs from task to task.

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

/// A task: how its files are read, what a model is shown of them, and how good an answer is.
///
/// The path of the data is `file → records → features → batches`, that of the answers
/// `scores → predictions → metrics`. A record is what a person would call one example; a feature
/// is what the model sees at once, of which a long record may have several.
pub trait Task: Debug {
    /// One example as the file has it.
    type Record: Debug + Clone;
    /// What the model sees at once, with the truth where the file has it.
    type Feature: Debug + Clone + Serialize + DeserializeOwned;
    /// What stands on top of the encoder.
    type Head: Head<Output: Answers>;
    /// The answer for one record.
    type Prediction: Debug + Clone;

    /// The names of the files in the data folder.
    fn files(&self) -> &Files;

    /// The names of the labels, in the order of the model's outputs; empty where outputs are not
    /// labels.
    fn labels(&self) -> &[String];

    /// How many numbers the head has for each position or sequence.
    fn outputs(&self) -> usize {
        self.labels().len()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When a line is not as it should be; the error names file and line.
    fn read(&self, file: &Path) -> Result<Vec<Self::Record>>;

    /// A record of the text that was given on the command line as the `number`th, without truth.
    ///
    /// # Errors
    /// When it is not in the form that the task's help describes.
    fn record_of(&self, number: usize, text: &str) -> Result<Self::Record>;

    /// Whether a record has the truth, which predictions are measured by.
    fn has_truth(&self, record: &Self::Record) -> bool;

    /// Where the truth is in a file, for messages.
    fn truth(&self) -> String;

    /// How a text that is too long is cut, at `max_length` pieces; windows of long contexts
    /// overlap by `stride` pieces.
    fn truncation(&self, max_length: usize, stride: usize) -> TruncationParams;

    /// Features of one record.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn features(&self, pieces: &Pieces, record: &Self::Record) -> Result<Vec<Self::Feature>>;

    /// The word pieces of a feature.
    fn encoded<'a>(&self, feature: &'a Self::Feature) -> &'a Encoded;

    /// Whether a feature has the truth.
    fn is_labelled(&self, feature: &Self::Feature) -> bool;

    /// Adds the truth to a batch of these features, which are padded to `length`. Nothing is
    /// added when one of them has none.
    ///
    /// # Errors
    /// When libtorch fails.
    fn targets(
        &self,
        features: &[&Self::Feature],
        length: usize,
        inputs: BertInputs,
    ) -> textbrewer::Result<BertInputs>;

    /// The answer for a record from the scores of its features: `[positions, outputs]` each,
    /// without padding.
    ///
    /// # Errors
    /// When the scores are not of the features.
    fn predict(
        &self,
        record: &Self::Record,
        parts: &[(&Self::Feature, &Array2<f32>)],
    ) -> Result<Self::Prediction>;

    /// How good predictions are; the first metric is the one that models are chosen by.
    ///
    /// # Errors
    /// When there are not as many predictions as records, or a record has no truth.
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

    /// Whether there is more than one answer for each record.
    fn has_candidates(&self) -> bool {
        false
    }

    /// The text of a file with more than one answer for each record, and their probabilities.
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
    /// When a line is not as it should be, or does not belong to the records.
    fn read_predictions(
        &self,
        file: &Path,
        records: &[Self::Record],
    ) -> Result<Vec<Self::Prediction>>;

    /// A prediction for people.
    fn show(&self, record: &Self::Record, prediction: &Self::Prediction) -> String;
}

/// The names of a task's files in its data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// What is trained on.
    pub train: String,
    /// What is evaluated on while training.
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
