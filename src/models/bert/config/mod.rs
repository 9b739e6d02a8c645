//! The configuration of a BERT, in Hugging Face's `config.json`.

mod builder;
mod keys;
mod limits;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelType;
use crate::config::json;
use crate::error::Result;
use crate::files::read_text;
use crate::logging;
use crate::models::Activation;

/// The kind of labels of a sequence classifier, which decides the loss.
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
    /// Numbers, with mean squared error.
    Regression,
    /// One of several labels, with cross entropy.
    SingleLabelClassification,
    /// Any number of labels, with binary cross entropy.
    MultiLabelClassification,
}

/// The configuration of a BERT, or of a model that shares its layers ([`ModelType`]). The default
/// is BERT-base.
///
/// Keys are those of Hugging Face's `config.json`; for DistilBERT its own keys, such as `dim`, are
/// read and written. Such files contain many keys of other libraries and versions, so unknown
/// keys are ignored. Invalid values are errors.
///
/// ```
/// use textbrewer::models::BertConfig;
///
/// let config = BertConfig::default().num_hidden_layers(3).num_labels(2);
/// assert_eq!(config.hidden_size, 768);
/// let config = BertConfig::from_json_str(r#"{"hidden_size": 100}"#);
/// assert!(config.unwrap_err().to_string().starts_with("hidden_size: 100 is no multiple"));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BertConfig {
    /// Which model of the family.
    pub model_type: ModelType,
    /// Number of token ids.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the embeddings, which may differ only in ELECTRA; `hidden_size` when absent.
    pub embedding_size: Option<i64>,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads in a layer; divides `hidden_size`.
    pub num_attention_heads: i64,
    /// Width between the two linear layers of a feed-forward block.
    pub intermediate_size: i64,
    /// The activation between those two.
    pub hidden_act: Activation,
    /// Dropout after embeddings and blocks.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Dropout before a classifier; `hidden_dropout_prob` when absent. For DistilBERT it is
    /// `seq_classif_dropout`, which is for sequences only.
    pub classifier_dropout: Option<f64>,
    /// Dropout before the scores of question answering, only in DistilBERT; none when absent.
    pub qa_dropout: Option<f64>,
    /// Number of positions: the longest input, except that RoBERTa does not use the first
    /// `pad_token_id` + 1 of them.
    pub max_position_embeddings: i64,
    /// DistilBERT: positions are sines and cosines, which are not trained.
    pub sinusoidal_pos_embds: bool,
    /// Number of token types (segments). DistilBERT has none and ignores it.
    pub type_vocab_size: i64,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Added to variances in layer normalisation; always `1e-12` for DistilBERT.
    pub layer_norm_eps: f64,
    /// The token whose embedding is zero and not trained, and from which RoBERTa counts
    /// positions.
    pub pad_token_id: Option<i64>,
    /// Number of labels, if `id2label` is absent; 2 when both are.
    pub num_labels: Option<i64>,
    /// The labels' names.
    pub id2label: Option<BTreeMap<i64, String>>,
    /// The kind of labels of a sequence classifier; derived from the labels when absent.
    pub problem_type: Option<ProblemType>,
    /// Return all hidden states.
    pub output_hidden_states: bool,
    /// Return all attention probabilities.
    pub output_attentions: bool,
    /// Masked LM: whether the output matrix is the word embeddings, and no matrix of its own.
    pub tie_word_embeddings: bool,
    is_decoder: bool,
    position_embedding_type: Option<String>,
}

impl Default for BertConfig {
    fn default() -> Self {
        BertConfig {
            model_type: ModelType::Bert,
            vocab_size: 30_522,
            hidden_size: 768,
            embedding_size: None,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            qa_dropout: None,
            max_position_embeddings: 512,
            sinusoidal_pos_embds: false,
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
            is_decoder: false,
            position_embedding_type: Some("absolute".to_owned()),
        }
    }
}

impl BertConfig {
    /// The defaults of `transformers` for this model.
    ///
    /// ```
    /// use textbrewer::models::{BertConfig, ModelType};
    ///
    /// let config = BertConfig::new(ModelType::Electra);
    /// assert_eq!((config.embedding_size, config.hidden_size), (Some(128), 256));
    /// assert_eq!(BertConfig::new(ModelType::Roberta).pad_token_id, Some(1));
    /// assert_eq!(BertConfig::new(ModelType::Bert), BertConfig::default());
    /// ```
    pub fn new(model_type: ModelType) -> Self {
        let mut config = BertConfig {
            model_type,
            ..BertConfig::default()
        };
        match model_type {
            ModelType::Bert => {}
            ModelType::Roberta | ModelType::XlmRoberta | ModelType::Camembert => {
                config.pad_token_id = Some(1);
                if model_type == ModelType::Roberta {
                    config.vocab_size = 50_265;
                }
            }
            ModelType::Electra => {
                config.embedding_size = Some(128);
                config.hidden_size = 256;
                config.num_attention_heads = 4;
                config.intermediate_size = 1024;
            }
            ModelType::DistilBert => {
                config.num_hidden_layers = 6;
                config.classifier_dropout = Some(0.2);
                config.qa_dropout = Some(0.1);
            }
        }
        config
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the file cannot be read, otherwise those of
    /// [`from_json_str`](Self::from_json_str).
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_text(&read_text(path)?, &path.display().to_string())
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Json`] for text that is cut short and for values of a wrong type,
    /// [`Error::Config`] or [`Error::Unsupported`] for values that are invalid.
    ///
    /// [`Error::Json`]: crate::Error::Json
    /// [`Error::Config`]: crate::Error::Config
    /// [`Error::Unsupported`]: crate::Error::Unsupported
    pub fn from_json_str(text: &str) -> Result<Self> {
        Self::from_text(text, json::TEXT)
    }

    fn from_text(text: &str, place: &str) -> Result<Self> {
        let keys = json::from_text(text, place)?;
        let read = Self::from_keys(keys);
        let config = read.map_err(|bad| json::about_key(text, place, &bad.key, &bad.reason));
        config?.checked()
    }

    /// Checks what was read.
    fn checked(self) -> Result<Self> {
        self.validate()?;
        if let (Some(number), Some(labels)) = (self.num_labels, &self.id2label)
            && number != labels.len() as i64
        {
            logging::warn(format_args!(
                "num_labels is {number}, but id2label names {}; id2label counts",
                labels.len()
            ));
        }
        Ok(self)
    }

    /// The number of labels: that of `id2label`, else `num_labels`, else 2.
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

    pub(in crate::models::bert) fn embedding_width(&self) -> i64 {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    pub(in crate::models::bert) fn classifier_dropout_or_hidden(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// The longest input that the model takes: as many tokens as it has positions for.
    ///
    /// ```
    /// use textbrewer::models::{BertConfig, ModelType};
    ///
    /// let config = BertConfig::new(ModelType::Roberta).max_position_embeddings(514);
    /// assert_eq!(config.max_length(), 512);
    /// ```
    pub fn max_length(&self) -> i64 {
        match self.pad_token_id {
            Some(id) if self.model_type.is_roberta() => self
                .max_position_embeddings
                .saturating_sub(id)
                .saturating_sub(1),
            _ => self.max_position_embeddings,
        }
    }
}
