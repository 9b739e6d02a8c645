//! Embeddings of token ids, positions and token types.

use tch::{Kind, Tensor, nn};

use super::{BertConfig, BertInputs};
use crate::error::Result;
use crate::models::layers::{Embedding, LayerNorm, Linear, dropout};
use crate::scalar::ScalarOps;

#[derive(Debug)]
pub(super) struct Embeddings {
    words: Embedding,
    positions: Embedding,
    token_types: Option<Embedding>,
    norm: LayerNorm,
    dropout: f64,
    /// Projects to the width of the layers, if that differs.
    project: Option<Linear>,
    /// The padding token, if positions are counted from it.
    count_from: Option<i64>,
}

impl Embeddings {
    /// `path` is that of the model.
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let (width, hidden) = (config.embedding_width(), config.hidden_size);
        let stdev = config.initializer_range;
        let count_from = config
            .pad_token_id
            .filter(|_| config.model_type.is_roberta());
        let parts = path / "embeddings";
        let new = |name: &str, what, rows, padding| {
            Embedding::new(&(&parts / name), what, [rows, width], stdev, padding)
        };
        let rows = config.max_position_embeddings;
        Ok(Embeddings {
            words: new(
                "word_embeddings",
                "input_ids",
                config.vocab_size,
                config.pad_token_id,
            )?,
            positions: match config.sinusoidal_pos_embds {
                true => {
                    let path = &parts / "position_embeddings";
                    Embedding::sinusoidal(&path, "position_ids", [rows, width])?
                }
                false => new("position_embeddings", "position_ids", rows, count_from)?,
            },
            token_types: match config.model_type.has_token_types() {
                true => Some(new(
                    "token_type_embeddings",
                    "token_type_ids",
                    config.type_vocab_size,
                    None,
                )?),
                false => None,
            },
            norm: LayerNorm::new(&(&parts / "LayerNorm"), width, config.layer_norm_eps)?,
            dropout: config.hidden_dropout_prob,
            project: match width == hidden {
                true => None,
                false => {
                    let path = path / "embeddings_project";
                    Some(Linear::new(&path, width, hidden, stdev)?)
                }
            },
            count_from,
        })
    }

    pub(super) fn word_embeddings(&self) -> &Tensor {
        self.words.weight()
    }

    pub(super) fn forward(&self, inputs: &BertInputs, train: bool) -> Result<Tensor> {
        let ids = &inputs.input_ids;
        let mut sum = self.words.forward(ids)?;
        let length = sum.size().get(1).copied().unwrap_or_default();
        if let Some(token_types) = &self.token_types {
            sum = sum.f_add(&match &inputs.token_type_ids {
                Some(ids) => token_types.forward(ids)?,
                None => token_types.first(1)?,
            })?;
        }
        sum = sum.f_add(&match (&inputs.position_ids, self.count_from) {
            (Some(ids), _) => self.positions.forward(ids)?,
            (None, Some(padding)) => self.positions.forward(&counted(ids, padding)?)?,
            (None, None) => self.positions.first(length)?,
        })?;
        let embedded = dropout(self.norm.forward(&sum)?, self.dropout, train)?;
        match &self.project {
            Some(project) => project.forward(&embedded),
            None => Ok(embedded),
        }
    }
}

/// RoBERTa's positions: `padding` at padding; the tokens are counted from `padding + 1`.
fn counted(ids: &Tensor, padding: i64) -> Result<Tensor> {
    let tokens = ids.is_not(padding)?.f_to_kind(Kind::Int64)?;
    let counts = tokens.f_cumsum(1, Kind::Int64)?.f_mul(&tokens)?;
    Ok(counts.plus(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_not_counted() {
        let ids = Tensor::from_slice2(&[[0i64, 7, 8, 2, 1], [1, 0, 1, 2, 1]]);
        let expected = Tensor::from_slice2(&[[2i64, 3, 4, 5, 1], [1, 2, 1, 3, 1]]);
        assert_eq!(counted(&ids, 1).unwrap(), expected);
        assert_eq!(counted(&ids.to_kind(Kind::Int), 1).unwrap(), expected);
    }
}
