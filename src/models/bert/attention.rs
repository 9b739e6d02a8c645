//! Multi-head self-attention.

use tch::{Tensor, nn};

use super::BertConfig;
use super::mask::in_kind;
use super::names::below;
use crate::error::Result;
use crate::models::layers::{LayerNorm, Linear, dropout};
use crate::native::layers as native;
use crate::scalar::ScalarOps;

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
    /// `path` is that of the layer.
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let names = config.model_type.layer_names();
        let size = config.hidden_size;
        let linear = |name| Linear::new(&below(path, name), size, size, config.initializer_range);
        let norm = below(path, names.attention_norm);
        Ok(Attention {
            query: linear(names.query)?,
            key: linear(names.key)?,
            value: linear(names.value)?,
            output: linear(names.attention_output)?,
            norm: LayerNorm::new(&norm, size, config.layer_norm_eps)?,
            heads: config.num_attention_heads,
            head_size: size / config.num_attention_heads,
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
        })
    }

    /// The new hidden states, and the attention probabilities on request. Hidden states are
    /// `[batch · length, hidden]`.
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        batch: i64,
        mask: Option<&Tensor>,
        probabilities: bool,
        train: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let query = self.query.forward(hidden)?;
        let key = self.key.forward(hidden)?;
        let value = self.value.forward(hidden)?;
        let mask = mask
            .map(|mask| in_kind(mask, query.f_kind()?))
            .transpose()?;
        let dropout = if train { self.attention_dropout } else { 0.0 };
        let (context, probabilities) = if probabilities {
            let (context, probabilities) =
                self.shown([&query, &key, &value], batch, mask.as_ref(), dropout)?;
            (context, Some(probabilities))
        } else if dropout > 0.0 && native::supports(&query)? {
            // libtorch's fused attention has no kernel with dropout on the CPU.
            let (operands, mask) = ([&query, &key, &value], mask.as_ref());
            let context = native::attention(operands, mask, batch, self.heads, dropout)?;
            (context, None)
        } else {
            let context = Tensor::f_scaled_dot_product_attention(
                &self.split(&query, batch)?,
                &self.split(&key, batch)?,
                &self.split(&value, batch)?,
                mask.as_ref(),
                dropout,
                false,
                None,
                false,
            )?;
            (self.join(&context)?, None)
        };
        let output = self.output.forward(&context)?;
        let output = self
            .norm
            .forward_residual(output, hidden, self.hidden_dropout, train)?;
        Ok((output, probabilities))
    }

    /// The result of attention with its probabilities, which fused kernels do not return.
    fn shown(
        &self,
        [query, key, value]: [&Tensor; 3],
        batch: i64,
        mask: Option<&Tensor>,
        probability: f64,
    ) -> Result<(Tensor, Tensor)> {
        let query = self.split(query, batch)?;
        let key = self.split(key, batch)?;
        let scores = query.f_matmul(&key.f_transpose(2, 3)?)?;
        let mut scores = scores.over((self.head_size as f64).sqrt())?;
        if let Some(mask) = mask {
            scores = scores.f_add(mask)?;
        }
        let probabilities = scores.f_softmax(-1, None)?;
        let probabilities = dropout(probabilities, probability, true)?;
        let context = probabilities.f_matmul(&self.split(value, batch)?)?;
        Ok((self.join(&context)?, probabilities))
    }

    /// `[batch · length, hidden]` to `[batch, heads, length, head size]`.
    fn split(&self, states: &Tensor, batch: i64) -> Result<Tensor> {
        let shape = [batch, -1, self.heads, self.head_size];
        Ok(states.f_view(shape)?.f_transpose(1, 2)?)
    }

    /// The inverse of [`split`](Self::split).
    fn join(&self, states: &Tensor) -> Result<Tensor> {
        let hidden = self.heads * self.head_size;
        Ok(states.f_transpose(1, 2)?.f_reshape([-1, hidden])?)
    }
}
