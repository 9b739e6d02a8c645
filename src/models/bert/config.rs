//! The shape of a BERT, in Hugging Face's `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::json;
use crate::models::Activation;
use crate::{Error, Result};

/// Limits on what a configuration can ask for, far above any BERT: a file from a stranger
/// could name any number, and the memory is asked for before weights are read.
const MOST_LAYERS: i64 = 4096;
const MOST_LABELS: i64 = 1 << 24;
const MOST_NUMBERS: u128 = 1 << 34;
/// Numbers that a model may have beyond what its file tells, 64 MiB in `float32`.
const SLACK: u128 = 1 << 24;

fn size(size: i64) -> u128 {
    u128::try_from(size).unwrap_or(0)
}

/// What a sequence classifier learns; it decides the loss.
///
/// ```
/// use textbrewer::models::{BertConfig, ProblemType};
///
/// let config = BertConfig::from_json_str(r#"{"problem_type": "multi_label_classification"}"#)?;
/// assert_eq!(config.problem_type, Some(ProblemType::MultiLabelClassification));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemType {
    /// Numbers; mean squared error.
    Regression,
    /// One label of several; cross entropy.
    SingleLabelClassification,
    /// Any number of labels; binary cross entropy.
    MultiLabelClassification,
}

/// The shape of a BERT; the default is BERT-base.
///
/// Keys are those of Hugging Face's `config.json`. Such files carry many keys of other
/// libraries and versions, so unknown ones are passed over; values that cannot work are
/// errors.
///
/// ```
/// use textbrewer::models::BertConfig;
///
/// let config = BertConfig::default().num_hidden_layers(3).num_labels(2);
/// assert_eq!(config.hidden_size, 768);
/// let config = BertConfig::from_json_str(r#"{"hidden_size": 100}"#);
/// assert!(config.unwrap_err().to_string().starts_with("hidden_size: 100 is no multiple"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BertConfig {
    /// Number of token ids.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads in a layer; divides `hidden_size`.
    pub num_attention_heads: i64,
    /// Width between the two linear layers of a feed-forward block.
    pub intermediate_size: i64,
    /// The function between those two.
    pub hidden_act: Activation,
    /// Dropout after embeddings and blocks.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Dropout before a classifier; `hidden_dropout_prob` when absent.
    pub classifier_dropout: Option<f64>,
    /// The longest input.
    pub max_position_embeddings: i64,
    /// Number of token types (segments).
    pub type_vocab_size: i64,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Added to variances in layer normalisation.
    pub layer_norm_eps: f64,
    /// The token whose embedding is zero and not trained.
    pub pad_token_id: Option<i64>,
    /// Number of labels, where `id2label` does not say it; 2 when absent.
    #[serde(skip_serializing)]
    pub num_labels: Option<i64>,
    /// The labels' names.
    #[serde(skip_serializing)]
    pub id2label: Option<BTreeMap<i64, String>>,
    /// What a sequence classifier learns; found from the labels when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,
    /// Return all hidden states.
    pub output_hidden_states: bool,
    /// Return all attention probabilities.
    pub output_attentions: bool,
    /// Masked LM: the output matrix is the word embeddings. Only `true` is supported.
    pub tie_word_embeddings: bool,
    #[serde(skip_serializing)]
    model_type: Option<String>,
    #[serde(skip_serializing)]
    is_decoder: bool,
    position_embedding_type: Option<String>,
}

impl Default for BertConfig {
    fn default() -> Self {
        BertConfig {
            vocab_size: 30_522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            num_labels: None,
            id2label: None,
            problem_type: None,
            output_hidden_states: false,
            output_attentions: false,
            tie_word_embeddings: true,
            model_type: None,
            is_decoder: false,
            position_embedding_type: Some("absolute".to_owned()),
        }
    }
}

impl BertConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, otherwise those of
    /// [`from_json_str`](Self::from_json_str).
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        json::from_file::<Self>(path.as_ref())?.checked()
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Json`] for text that is cut short and for values of a wrong type,
    /// [`Error::Config`] or [`Error::Unsupported`] for values that cannot work.
    pub fn from_json_str(text: &str) -> Result<Self> {
        json::from_str::<Self>(text)?.checked()
    }

    /// As it was read, if it can work.
    fn checked(self) -> Result<Self> {
        self.validate()?;
        if let (Some(number), Some(labels)) = (self.num_labels, &self.id2label) {
            if number != labels.len() as i64 {
                log::warn!(
                    "num_labels is {number}, but id2label names {}; id2label counts",
                    labels.len()
                );
            }
        }
        Ok(self)
    }

    /// Checks that a model of this shape can be built.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`], naming the key.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
            ("num_labels", self.label_count()),
        ];
        for (key, size) in sizes {
            if size <= 0 {
                return Err(Error::config(key, format!("{size} must be at least 1")));
            }
        }
        for (key, size, most) in [
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_labels", self.label_count(), MOST_LABELS),
        ] {
            if size > most {
                let reason = format!("{size} is more than the {most} that a BERT may have here");
                return Err(Error::config(key, reason));
            }
        }
        let numbers = self.numbers();
        if numbers > MOST_NUMBERS {
            let (key, size) = self.largest();
            let reason = format!(
                "{size} and the other sizes make a model of {numbers} numbers, more than the \
                 {MOST_NUMBERS} that a BERT may have here"
            );
            return Err(Error::config(key, reason));
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            let reason = format!(
                "{} is no multiple of num_attention_heads, {}",
                self.hidden_size, self.num_attention_heads
            );
            return Err(Error::config("hidden_size", reason));
        }
        let probabilities = [
            ("hidden_dropout_prob", Some(self.hidden_dropout_prob)),
            (
                "attention_probs_dropout_prob",
                Some(self.attention_probs_dropout_prob),
            ),
            ("classifier_dropout", self.classifier_dropout),
        ];
        for (key, probability) in probabilities {
            if probability.is_some_and(|p| !(0.0..1.0).contains(&p)) {
                return Err(Error::config(key, "must be at least 0 and less than 1"));
            }
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(Error::config("layer_norm_eps", "must be positive"));
        }
        if !(self.initializer_range.is_finite() && self.initializer_range >= 0.0) {
            return Err(Error::config("initializer_range", "must not be negative"));
        }
        if let Some(id) = self.pad_token_id {
            if !(0..self.vocab_size).contains(&id) {
                let reason = format!("{id} must be in 0..{} (vocab_size)", self.vocab_size);
                return Err(Error::config("pad_token_id", reason));
            }
        }
        self.validate_kind()
    }

    /// How many numbers a model of this shape has, about: embeddings, layers and labels.
    /// As many as can be counted if there are more.
    fn numbers(&self) -> u128 {
        let labels = size(self.label_count()).saturating_mul(size(self.hidden_size));
        self.core_numbers().saturating_add(labels)
    }

    /// How many numbers are in the embeddings and the layers.
    pub(super) fn core_numbers(&self) -> u128 {
        let (hidden, wide) = (size(self.hidden_size), size(self.intermediate_size));
        let times = |a: u128, b: u128| a.saturating_mul(b);
        let sum = |parts: &[u128]| parts.iter().fold(0u128, |a, b| a.saturating_add(*b));
        let tables = [
            self.vocab_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ];
        let rows = sum(&tables.map(size));
        // Four square matrices, two to the width of the block and back, biases, two norms.
        let square = times(4, times(hidden, hidden));
        let layer = sum(&[
            square,
            times(times(2, hidden), wide),
            times(9, hidden),
            wide,
        ]);
        let layers = times(size(self.num_hidden_layers), layer);
        sum(&[times(rows, hidden), times(2, hidden), layers])
    }

    /// The key of the largest size, to be told of.
    fn largest(&self) -> (&'static str, i64) {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        let largest = sizes.into_iter().max_by_key(|(_, size)| *size);
        largest.unwrap_or(("hidden_size", self.hidden_size))
    }

    /// That a file with this many numbers can hold the weights, before memory is asked for.
    /// It is a rough check: what exactly differs is said when names and shapes are compared.
    pub(super) fn check_against_file(&self, in_file: u128, path: &Path) -> Result<()> {
        let allowed = in_file.saturating_mul(2).saturating_add(SLACK);
        let core = self.core_numbers();
        if core > allowed {
            let reason = format!(
                "has {in_file} numbers, but the configuration describes a model of {core}; are \
                 they of one model?"
            );
            let path = path.to_path_buf();
            return Err(Error::WeightsFile { path, reason });
        }
        // A head may be missing from the file, so only the configuration tells its size.
        let labels = size(self.label_count()).saturating_mul(size(self.hidden_size));
        if labels > allowed {
            let reason = format!(
                "{} labels would need a head larger than all of {}",
                self.label_count(),
                path.display()
            );
            return Err(Error::config("num_labels", reason));
        }
        Ok(())
    }

    /// Checks what other models that share these keys may have, and this one lacks.
    fn validate_kind(&self) -> Result<()> {
        let unsupported = |feature: String, remedy: &str| {
            Err(Error::Unsupported {
                feature,
                remedy: remedy.to_owned(),
            })
        };
        match self.model_type.as_deref() {
            None | Some("bert") => {}
            Some(other) => {
                return unsupported(
                    format!("model_type `{other}`"),
                    "use a checkpoint whose model_type is `bert`",
                )
            }
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                return unsupported(
                    format!("position_embedding_type `{other}`"),
                    "use a checkpoint with `absolute` positions",
                )
            }
        }
        if self.is_decoder {
            return unsupported(
                "is_decoder".to_owned(),
                "use an encoder; set it to false to read the checkpoint as one",
            );
        }
        Ok(())
    }

    /// The number of labels: of `id2label`, or else `num_labels`, or else 2.
    ///
    /// ```
    /// use textbrewer::models::BertConfig;
    ///
    /// assert_eq!(BertConfig::default().label_count(), 2);
    /// let config = BertConfig::from_json_str(r#"{"id2label": {"0": "no", "1": "yes", "2": "maybe"}}"#)?;
    /// assert_eq!(config.label_count(), 3);
    /// # textbrewer::Result::Ok(())
    /// ```
    pub fn label_count(&self) -> i64 {
        match &self.id2label {
            Some(labels) => labels.len() as i64,
            None => self.num_labels.unwrap_or(2),
        }
    }

    /// The text of a `config.json` for a model class of `transformers`.
    pub(super) fn to_json(&self, architecture: &str) -> serde_json::Result<String> {
        let labels = match &self.id2label {
            Some(labels) => labels.clone(),
            None => (0..self.label_count())
                .map(|id| (id, format!("LABEL_{id}")))
                .collect(),
        };
        let mut json = Map::new();
        json.insert("architectures".to_owned(), vec![architecture].into());
        json.insert("model_type".to_owned(), "bert".into());
        if let Value::Object(fields) = serde_json::to_value(self)? {
            json.extend(fields);
        }
        let ids: Map<String, Value> = labels
            .iter()
            .map(|(id, label)| (label.clone(), (*id).into()))
            .collect();
        json.insert("id2label".to_owned(), serde_json::to_value(&labels)?);
        json.insert("label2id".to_owned(), ids.into());
        serde_json::to_string_pretty(&json)
    }
}
