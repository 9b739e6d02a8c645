//! Multi-head self-attention.

use tch::{nn, Tensor};

use super::mask::in_kind;
use super::BertConfig;
use crate::models::layers::{dropout, LayerNorm, Linear};
use crate::native::layers as native;
use crate::scalar::ScalarOps;
use crate::Result;

/// Self-attention, its output layer, and the residual connection around both
/// ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)).
#[derive(Debug)]
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: i64,
    head_size: i64,
    attention_dropout: f64,
    hidden_dropout: f64,
}

impl Attention {
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let size = config.hidden_size;
        let linear = |path: nn::Path<'_>| Linear::new(&path, size, size, config.initializer_range);
        let states = path / "self";
        let output = path / "output";
        Ok(Attention {
            query: linear(&states / "query")?,
            key: linear(&states / "key")?,
            value: linear(&states / "value")?,
            output: linear(&output / "dense")?,
            norm: LayerNorm::new(&(&output / "LayerNorm"), size, config.layer_norm_eps)?,
            heads: config.num_attention_heads,
            head_size: size / config.num_attention_heads,
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
        })
    }

    /// The new hidden states, and the probabilities if they are asked for.
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        mask: Option<&Tensor>,
        probabilities: bool,
        train: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (batch, length, _) = hidden.size3()?;
        let split = |states: Tensor| self.split(&states, batch, length);
        let query = split(self.query.forward(hidden)?)?;
        let key = split(self.key.forward(hidden)?)?;
        let value = split(self.value.forward(hidden)?)?;
        let mask = mask
            .map(|mask| in_kind(mask, query.f_kind()?))
            .transpose()?;
        let (context, probabilities) = if probabilities {
            let scores = query.f_matmul(&key.f_transpose(2, 3)?)?;
            let mut scores = scores.over((self.head_size as f64).sqrt())?;
            if let Some(mask) = &mask {
                scores = scores.f_add(mask)?;
            }
            let probabilities = scores.f_softmax(-1, None)?;
            let probabilities = dropout(probabilities, self.attention_dropout, train)?;
            (probabilities.f_matmul(&value)?, Some(probabilities))
        } else if train && self.attention_dropout > 0.0 && native::supports(&query)? {
            // libtorch's own has no kernel with dropout on the CPU.
            let (mask, dropout) = (mask.as_ref(), self.attention_dropout);
            let context = native::attention(&query, &key, &value, mask, dropout)?;
            (context, None)
        } else {
            let dropout = if train { self.attention_dropout } else { 0.0 };
            let context = Tensor::f_scaled_dot_product_attention(
                &query,
                &key,
                &value,
                mask.as_ref(),
                dropout,
                false,
                None,
                false,
            )?;
            (context, None)
        };
        let context = context.f_transpose(1, 2)?.f_flatten(2, 3)?;
        let output = dropout(self.output.forward(&context)?, self.hidden_dropout, train)?;
        let output = self.norm.forward(&output.f_add(hidden)?)?;
        Ok((output, probabilities))
    }

    /// `[batch, length, hidden]` to `[batch, heads, length, head size]`.
    fn split(&self, states: &Tensor, batch: i64, length: i64) -> Result<Tensor> {
        let shape = [batch, length, self.heads, self.head_size];
        Ok(states.f_view(shape)?.f_transpose(1, 2)?)
    }
}
