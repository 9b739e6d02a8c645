//! The models that share BERT's layers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which model of BERT's family a [`BertConfig`](super::BertConfig) describes, under Hugging
/// Face's names for `model_type`.
///
/// They have the same layers and differ in the parts around them:
///
/// | | positions | embeddings | sequence classification |
/// |---|---|---|---|
/// | `Bert` | from 0 | | pooler, linear |
/// | `Roberta`, `XlmRoberta`, `Camembert` | from `pad_token_id` + 1, of the tokens that are not padding | | linear, tanh, linear on the first token |
/// | `Electra` | from 0 | may have another width, with a linear layer to that of the layers | linear, GELU, linear on the first token |
/// | `DistilBert` | from 0 | no token types; those in a batch are ignored | linear, ReLU, linear on the first token |
///
/// The norms in DistilBERT's layers are called `sa_layer_norm` and `output_layer_norm`. Where
/// weights without decay are chosen by `LayerNorm.weight`, add these names.
///
/// ```
/// use textbrewer::models::{BertConfig, ModelType};
///
/// let config = BertConfig::from_json_str(r#"{"model_type": "distilbert", "dim": 96}"#)?;
/// assert_eq!(config.model_type, ModelType::DistilBert);
/// assert_eq!(config.hidden_size, 96);
/// assert_eq!(config.model_type.to_string(), "distilbert");
/// let error = BertConfig::from_json_str(r#"{"model_type": "gpt2"}"#).unwrap_err();
/// assert!(error.to_string().contains("unknown variant `gpt2`, expected one of `bert`"));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModelType {
    /// [Devlin et al. 2019](https://arxiv.org/abs/1810.04805); also MiniLM and TinyBERT.
    #[default]
    Bert,
    /// [Liu et al. 2019](https://arxiv.org/abs/1907.11692).
    Roberta,
    /// [Conneau et al. 2020](https://arxiv.org/abs/1911.02116); also the multilingual MiniLM.
    XlmRoberta,
    /// [Martin et al. 2020](https://arxiv.org/abs/1911.03894).
    Camembert,
    /// [Clark et al. 2020](https://arxiv.org/abs/2003.10555): the discriminator; with the masked
    /// LM head the generator.
    Electra,
    /// [Sanh et al. 2019](https://arxiv.org/abs/1910.01108).
    #[serde(rename = "distilbert")]
    DistilBert,
}

impl ModelType {
    /// Whether positions are counted as in RoBERTa.
    pub(super) fn is_roberta(self) -> bool {
        use ModelType::{Camembert, Roberta, XlmRoberta};
        matches!(self, Roberta | XlmRoberta | Camembert)
    }

    /// The prefix of class names in `transformers`.
    pub(super) fn class(self) -> &'static str {
        match self {
            ModelType::Bert => "Bert",
            ModelType::Roberta => "Roberta",
            ModelType::XlmRoberta => "XLMRoberta",
            ModelType::Camembert => "Camembert",
            ModelType::Electra => "Electra",
            ModelType::DistilBert => "DistilBert",
        }
    }

    /// Whether the model without a head has a pooler.
    pub(super) fn has_pooler(self) -> bool {
        !matches!(self, ModelType::Electra | ModelType::DistilBert)
    }

    pub(super) fn has_token_types(self) -> bool {
        self != ModelType::DistilBert
    }
}

/// As in `config.json`.
impl fmt::Display for ModelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
