//! Multi-head self-attention.

use tch::{Device, Tensor, nn};

use super::BertConfig;
use super::mask::in_kind;
use super::names::below;
use super::output::{LayerOutput, ShownStates};
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

    /// The new hidden states, and what else `shown` asks for. Hidden states are
    /// `[batch · length, hidden]`.
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        batch: i64,
        mask: Option<&Tensor>,
        shown: ShownStates,
        train: bool,
    ) -> Result<LayerOutput> {
        let query = self.query.forward(hidden)?;
        let key = self.key.forward(hidden)?;
        let value = self.value.forward(hidden)?;
        let qkv = match shown.qkv {
            true => Some(together([&query, &key, &value], batch)?),
            false => None,
        };
        let mask = mask
            .map(|mask| in_kind(mask, query.f_kind()?))
            .transpose()?;
        let dropout = if train { self.attention_dropout } else { 0.0 };
        let (context, probabilities) = if shown.probabilities {
            let (context, probabilities) =
                self.shown([&query, &key, &value], batch, mask.as_ref(), dropout)?;
            (context, Some(probabilities))
        } else if dropout > 0.0 && native::supports(&query)? {
            // libtorch's fused attention has no kernel with dropout on the CPU.
            let (operands, mask) = ([&query, &key, &value], mask.as_ref());
            let context = native::attention(operands, mask, batch, self.heads, dropout)?;
            (context, None)
        } else {
            let operands = [
                self.split(&query, batch)?,
                self.split(&key, batch)?,
                self.split(&value, batch)?,
            ];
            let added = match query.device() {
                Device::Cuda(_) => up_to_aligned(self.head_size),
                _ => 0,
            };
            let context = widened(operands, mask.as_ref(), dropout, added)?;
            (self.join(&context)?, None)
        };
        let output = self.output.forward(&context)?;
        let output = self
            .norm
            .forward_residual(output, hidden, self.hidden_dropout, train)?;
        Ok(LayerOutput {
            hidden: output,
            probabilities,
            qkv,
        })
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

/// Queries, keys and values `[batch · length, hidden]` as `[batch, 3, length, hidden]`.
fn together(states: [&Tensor; 3], batch: i64) -> Result<Tensor> {
    let mut apart = Vec::with_capacity(states.len());
    for state in states {
        let (_, hidden) = state.size2()?;
        apart.push(state.f_view([batch, -1, hidden])?);
    }
    Ok(Tensor::f_stack(&apart, 1)?)
}

/// The fused kernels of CUDA take heads of a multiple of 8 numbers; with others libtorch makes the
/// scores of all positions, and keeps them for the backward pass.
fn up_to_aligned(head_size: i64) -> i64 {
    (8 - head_size % 8) % 8
}

/// Attention of heads `[batch, heads, length, head size]` with `added` zeros at the end of each,
/// which change nothing.
fn widened(
    operands: [Tensor; 3],
    mask: Option<&Tensor>,
    dropout: f64,
    added: i64,
) -> Result<Tensor> {
    let head_size = operands[0].size().last().copied().unwrap_or(1);
    let wide = |operand: &Tensor| match added {
        0 => Ok(operand.shallow_clone()),
        _ => operand.f_constant_pad_nd([0, added]),
    };
    let [query, key, value] = operands.each_ref().map(wide);
    let (query, key, value) = (query?, key?, value?);
    let scale = (added > 0).then(|| 1.0 / (head_size as f64).sqrt());
    let context = Tensor::f_scaled_dot_product_attention(
        &query, &key, &value, mask, dropout, false, scale, false,
    )?;
    Ok(match added {
        0 => context,
        _ => context.f_narrow(-1, 0, head_size)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn zeros_at_the_end_of_heads_change_nothing() {
        let numbers = |seed: f64| {
            let numbers = Tensor::arange(2 * 3 * 5 * 6, (Kind::Double, Device::Cpu));
            ((numbers * 1.7 + seed) * 2.3).sin().view([2, 3, 5, 6])
        };
        let leaves = || [0.1, 0.4, 0.8].map(|seed| numbers(seed).set_requires_grad(true));
        let mask = numbers(0.9).narrow(-1, 0, 5);
        let (plain, wide) = (leaves(), leaves());
        let run = |leaves: &[Tensor; 3], added| {
            let operands = leaves.each_ref().map(Tensor::shallow_clone);
            let context = widened(operands, Some(&mask), 0.0, added).unwrap();
            (&context * numbers(0.2)).sum(None).backward();
            context
        };
        assert_eq!(up_to_aligned(6), 2);
        let (expected, got) = (run(&plain, 0), run(&wide, up_to_aligned(6)));
        let far = |one: &Tensor, other: &Tensor| (one - other).abs().max().double_value(&[]);
        assert!(far(&expected, &got) < 1e-14);
        for (plain, wide) in plain.iter().zip(&wide) {
            assert!(far(&plain.grad(), &wide.grad()) < 1e-13);
        }
        assert_eq!(up_to_aligned(64), 0);
    }
}
