//! From token ids to vectors.

use tch::{nn, Tensor};

use super::{BertConfig, BertInputs};
use crate::models::layers::{dropout, Embedding, LayerNorm};
use crate::Result;

#[derive(Debug)]
pub(super) struct Embeddings {
    words: Embedding,
    positions: Embedding,
    token_types: Embedding,
    norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let new = |name: &str, what, rows, padding| {
            let size = [rows, config.hidden_size];
            Embedding::new(
                &(path / name),
                what,
                size,
                config.initializer_range,
                padding,
            )
        };
        Ok(Embeddings {
            words: new(
                "word_embeddings",
                "input_ids",
                config.vocab_size,
                config.pad_token_id,
            )?,
            positions: new(
                "position_embeddings",
                "position_ids",
                config.max_position_embeddings,
                None,
            )?,
            token_types: new(
                "token_type_embeddings",
                "token_type_ids",
                config.type_vocab_size,
                None,
            )?,
            norm: LayerNorm::new(
                &(path / "LayerNorm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            dropout: config.hidden_dropout_prob,
        })
    }

    pub(super) fn word_embeddings(&self) -> &Tensor {
        self.words.weight()
    }

    pub(super) fn forward(&self, inputs: &BertInputs, train: bool) -> Result<Tensor> {
        let words = self.words.forward(&inputs.input_ids)?;
        let length = words.size().get(1).copied().unwrap_or_default();
        let token_types = match &inputs.token_type_ids {
            Some(ids) => self.token_types.forward(ids)?,
            None => self.token_types.first(1)?,
        };
        let positions = match &inputs.position_ids {
            Some(ids) => self.positions.forward(ids)?,
            None => self.positions.first(length)?,
        };
        let sum = words.f_add(&token_types)?.f_add(&positions)?;
        dropout(self.norm.forward(&sum)?, self.dropout, train)
    }
}
