//! The encoder: a stack of layers.

use tch::{Tensor, nn};

use super::attention::Attention;
use super::names::below;
use super::output::{LayerOutput, ShownStates, StateSelection};
use super::{BertConfig, BertOutput};
use crate::error::{Error, Result};
use crate::models::Activation;
use crate::models::layers::{LayerNorm, Linear};

/// Attention, and a feed-forward block with a residual connection around it.
#[derive(Debug)]
struct Layer {
    attention: Attention,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    norm: LayerNorm,
    dropout: f64,
}

impl Layer {
    fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let names = config.model_type.layer_names();
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name, inputs, outputs| {
            let path = below(path, name);
            Linear::new(&path, inputs, outputs, config.initializer_range)
        };
        Ok(Layer {
            attention: Attention::new(path, config)?,
            intermediate: linear(names.intermediate, hidden, wide)?,
            activation: config.hidden_act,
            output: linear(names.output, wide, hidden)?,
            norm: LayerNorm::new(&below(path, names.norm), hidden, config.layer_norm_eps)?,
            dropout: config.hidden_dropout_prob,
        })
    }

    fn forward(
        &self,
        hidden: &Tensor,
        batch: i64,
        mask: Option<&Tensor>,
        shown: ShownStates,
        train: bool,
    ) -> Result<LayerOutput> {
        let mut output = self.attention.forward(hidden, batch, mask, shown, train)?;
        let attended = &output.hidden;
        let wide = self
            .intermediate
            .forward_activated(attended, self.activation)?;
        let above = self.output.forward(&wide)?;
        output.hidden = self
            .norm
            .forward_residual(above, attended, self.dropout, train)?;
        Ok(output)
    }
}

#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    pub(super) fn new(path: &nn::Path<'_>, config: &BertConfig) -> Result<Self> {
        let path = path / "layer";
        let layers = (0..config.num_hidden_layers).map(|i| Layer::new(&(&path / i), config));
        Ok(Encoder {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    pub(super) fn forward(
        &self,
        embedded: Tensor,
        mask: Option<&Tensor>,
        outputs: &StateSelection,
        train: bool,
    ) -> Result<BertOutput> {
        let len = self.layers.len();
        let (batch, length, size) = embedded.size3()?;
        let restored = |flat: &Tensor| flat.f_view([batch, length, size]);
        // The layers work on matrices, which saves reshaping operations.
        let mut hidden = embedded.f_view([-1, size])?;
        let (mut hidden_states, mut attentions, mut qkv) = (Vec::new(), Vec::new(), Vec::new());
        let keep = |states: &mut Vec<Tensor>, hidden: &Tensor| {
            if outputs.hidden_states.is_none() {
                return Ok::<_, Error>(());
            }
            let is_kept = outputs.hidden_states.contains(states.len(), len + 1);
            states.push(if is_kept {
                restored(hidden)?
            } else {
                Tensor::new()
            });
            Ok(())
        };
        for (index, layer) in self.layers.iter().enumerate() {
            keep(&mut hidden_states, &hidden)?;
            let shown = ShownStates {
                probabilities: outputs.attentions.contains(index, len),
                qkv: outputs.qkv.contains(index, len),
            };
            let output = layer.forward(&hidden, batch, mask, shown, train)?;
            hidden = output.hidden;
            if !outputs.attentions.is_none() {
                attentions.push(output.probabilities.unwrap_or_else(Tensor::new));
            }
            if !outputs.qkv.is_none() {
                qkv.push(output.qkv.unwrap_or_else(Tensor::new));
            }
        }
        keep(&mut hidden_states, &hidden)?;
        Ok(BertOutput {
            last_hidden_state: restored(&hidden)?,
            pooler_output: None,
            hidden_states,
            attentions,
            qkv,
        })
    }
}
