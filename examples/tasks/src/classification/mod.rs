//! Classification of a text or a pair of texts, from GLUE's tab-separated files.

mod predictions;
mod reader;
mod settings;

use std::path::Path;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use textbrewer::models::{BertInputs, SequenceClassification};
use tokenizers::{TruncationParams, TruncationStrategy};

use crate::metrics::{Metrics, classification as metric};
use crate::pieces::{Encoded, Pieces};
use crate::{Error, Fault, Files, Result, Task};
use settings::Settings;

/// A task of GLUE: which columns hold the texts and the label, and which labels there are.
///
/// A custom data set is described in JSON like this. All keys but `columns` and `labels` are
/// optional and have these values by default. `header` names the columns of files without a header
/// line, like CoLA's; `metric` is `accuracy`, `matthews` or `f1`.
///
/// ```json
/// {
///   "columns": ["question", "sentence"],
///   "labels": ["entailment", "not_entailment"],
///   "label_column": "label",
///   "train": "train.tsv",
///   "dev": "dev.tsv",
///   "header": null,
///   "metric": "accuracy"
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Settings")]
pub struct Classification {
    columns: Vec<String>,
    label_column: String,
    labels: Vec<String>,
    /// The names of the columns in files without a header line.
    header: Option<Vec<String>>,
    files: Files,
    metric: Metric,
}

/// The metric for choosing the best model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Metric {
    /// Accuracy.
    #[default]
    Accuracy,
    /// Matthews correlation, as for CoLA.
    Matthews,
    /// F1 of the last label, as for MRPC and QQP.
    F1,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The texts: one or two.
    pub texts: Vec<String>,
    /// The position of the label in the task's list, where the file has one.
    pub label: Option<usize>,
    /// What is wrong with the line, if anything is.
    pub fault: Option<Fault>,
}

/// The pieces of the texts of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    #[serde(flatten)]
    encoded: Encoded,
    label: Option<usize>,
}

/// The predicted label of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The position of the label in the task's list.
    pub label: usize,
    /// The probability of each label; empty if read from a file of predictions.
    pub probabilities: Vec<f32>,
}

impl Classification {
    /// SST-2: sentences of film reviews; `0` is negative and `1` positive.
    pub fn sst2() -> Self {
        Classification {
            columns: vec!["sentence".to_owned()],
            label_column: settings::label_column(),
            labels: vec!["0".to_owned(), "1".to_owned()],
            files: Files::new("train.tsv", "dev.tsv"),
            header: None,
            metric: Metric::Accuracy,
        }
    }

    /// MNLI: whether the first sentence entails the second. The best model is chosen on the
    /// matched development set; to score the mismatched one, pass its file to `evaluate`.
    pub fn mnli() -> Self {
        let labels = ["contradiction", "entailment", "neutral"];
        Classification {
            columns: vec!["sentence1".to_owned(), "sentence2".to_owned()],
            label_column: "gold_label".to_owned(),
            labels: labels.map(str::to_owned).to_vec(),
            files: Files::new("train.tsv", "dev_matched.tsv"),
            header: None,
            metric: Metric::Accuracy,
        }
    }
}

impl Task for Classification {
    type Record = Record;
    type Feature = Feature;
    type Head = SequenceClassification;
    type Prediction = Prediction;

    fn files(&self) -> &Files {
        &self.files
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn read(&self, file: &Path) -> Result<Vec<Record>> {
        reader::read(self, file)
    }

    fn record_of(&self, _: usize, text: &str) -> Result<Record> {
        let texts: Vec<String> = text.split('\t').map(str::to_owned).collect();
        if texts.len() != self.columns.len() {
            let expected = self.columns.join("<TAB>");
            let got = text.replace('\t', "<TAB>");
            return Err(Error::invalid(format!(
                "expected `{expected}`, got `{got}`"
            )));
        }
        Ok(Record {
            texts,
            label: None,
            fault: None,
        })
    }

    fn fault<'r>(&self, record: &'r Record) -> Option<&'r Fault> {
        record.fault.as_ref()
    }

    /// The labels of SNLI, of which some are missing, are measured without those.
    fn measures_part(&self) -> bool {
        true
    }

    fn has_truth(&self, record: &Record) -> bool {
        record.label.is_some()
    }

    fn truth(&self) -> String {
        format!("a label in the column `{}`", self.label_column)
    }

    fn truncation(&self, max_length: usize, _: usize) -> TruncationParams {
        TruncationParams {
            max_length,
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        }
    }

    fn text_columns(&self) -> &[String] {
        &self.columns
    }

    fn texts<'r>(&self, record: &'r Record) -> &'r [String] {
        &record.texts
    }

    fn settings(&self) -> String {
        self.columns.join(", ")
    }

    fn features(&self, pieces: &Pieces, record: &Record) -> Result<Vec<Feature>> {
        let encoding = match &record.texts[..] {
            [first, second] => pieces.encode((first.as_str(), second.as_str()))?,
            texts => pieces.encode(texts.concat())?,
        };
        Ok(vec![Feature {
            encoded: Encoded::from(&encoding),
            label: record.label,
        }])
    }

    fn encoded<'a>(&self, feature: &'a Feature) -> &'a Encoded {
        &feature.encoded
    }

    fn is_labelled(&self, feature: &Feature) -> bool {
        feature.label.is_some()
    }

    fn targets(
        &self,
        features: &[&Feature],
        _: usize,
        inputs: BertInputs,
    ) -> textbrewer::Result<BertInputs> {
        let labels = features.iter().map(|feature| feature.label);
        let labels: Option<Vec<i64>> = labels
            .map(|label| label.map(|label| label as i64))
            .collect();
        match labels {
            Some(labels) => Ok(inputs.labels(Tensor::f_from_slice(&labels)?)),
            None => Ok(inputs),
        }
    }

    fn predict(&self, _: &Record, parts: &[(&Feature, &Array2<f32>)]) -> Result<Prediction> {
        let scores: Vec<f32> = match parts {
            [(_, scores)] => scores.iter().copied().collect(),
            _ => Vec::new(),
        };
        let best = scores
            .iter()
            .copied()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((label, best)) = best.filter(|(_, best)| best.is_finite()) else {
            return Err(Error::invalid(
                "a text has scores that are no numbers, or none: if it was just trained, its training \
                 diverged, and a lower learning rate may help",
            ));
        };
        let exponentials: Vec<f32> = scores.iter().map(|score| (score - best).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        Ok(Prediction {
            label,
            probabilities: exponentials.iter().map(|part| part / sum).collect(),
        })
    }

    /// Of the records that have a label.
    fn measure(&self, records: &[Record], predictions: &[Prediction]) -> Result<Metrics> {
        let (count, expected) = (predictions.len(), records.len());
        if count != expected {
            let reason = format!("{count} predictions for {expected} records");
            return Err(Error::invalid(reason));
        }
        let pairs = records.iter().zip(predictions);
        let pairs =
            pairs.filter_map(|(record, prediction)| Some((prediction.label, record.label?)));
        let (predicted, truth): (Vec<usize>, Vec<usize>) = pairs.unzip();
        if truth.is_empty() {
            return Err(Error::invalid("the file has no labels to compare with"));
        }
        let accuracy = 100.0 * metric::accuracy(&predicted, &truth)?;
        Ok(match self.metric {
            Metric::Accuracy => Metrics::new("accuracy", accuracy),
            Metric::Matthews => {
                let correlation = 100.0 * metric::matthews(&predicted, &truth)?;
                Metrics::new("matthews", correlation).and("accuracy", accuracy)
            }
            Metric::F1 => {
                let positive = self.labels.len().saturating_sub(1);
                let f1 = 100.0 * metric::f1(&predicted, &truth, positive)?;
                Metrics::new("F1", f1).and("accuracy", accuracy)
            }
        })
    }

    fn write(&self, _: &[Record], predictions: &[Prediction]) -> Result<String> {
        predictions::write(predictions, &self.labels)
    }

    fn read_predictions(&self, file: &Path, records: &[Record]) -> Result<Vec<Prediction>> {
        predictions::read(file, &self.labels, records.len())
    }

    fn show(&self, _: &Record, prediction: &Prediction) -> String {
        let name = |label: usize| self.labels.get(label).map_or("?", String::as_str);
        let mut shown = name(prediction.label).to_owned();
        for (label, probability) in prediction.probabilities.iter().enumerate() {
            shown.push_str(&format!("  {} {probability:.3}", name(label)));
        }
        shown
    }
}
