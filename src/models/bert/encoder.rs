//! The stack of layers.

use tch::{nn, Tensor};

use super::attention::Attention;
use super::{BertConfig, BertOutput, BertOutputs};
use crate::models::layers::{dropout, LayerNorm, Linear};
use crate::models::Activation;
use crate::Result;

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
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let stdev = config.initializer_range;
        let output = path / "output";
        Ok(Layer {
            attention: Attention::new(&(path / "attention"), config)?,
            intermediate: Linear::new(&(path / "intermediate" / "dense"), hidden, wide, stdev)?,
            activation: config.hidden_act,
            output: Linear::new(&(&output / "dense"), wide, hidden, stdev)?,
            norm: LayerNorm::new(&(&output / "LayerNorm"), hidden, config.layer_norm_eps)?,
            dropout: config.hidden_dropout_prob,
        })
    }

    fn forward(
        &self,
        hidden: &Tensor,
        mask: Option<&Tensor>,
        probabilities: bool,
        train: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (attended, probabilities) =
            self.attention.forward(hidden, mask, probabilities, train)?;
        let wide = self
            .intermediate
            .forward_activated(&attended, self.activation)?;
        let output = dropout(self.output.forward(&wide)?, self.dropout, train)?;
        let output = self.norm.forward(&output.f_add(&attended)?)?;
        Ok((output, probabilities))
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
        outputs: &BertOutputs,
        train: bool,
    ) -> Result<BertOutput> {
        let len = self.layers.len();
        let mut hidden = embedded;
        let (mut hidden_states, mut attentions) = (Vec::new(), Vec::new());
        let keep = |states: &mut Vec<Tensor>, hidden: &Tensor| {
            if outputs.hidden_states.is_none() {
                return;
            }
            let is_kept = outputs.hidden_states.contains(states.len(), len + 1);
            states.push(if is_kept {
                hidden.shallow_clone()
            } else {
                Tensor::new()
            });
        };
        for (index, layer) in self.layers.iter().enumerate() {
            keep(&mut hidden_states, &hidden);
            let is_shown = outputs.attentions.contains(index, len);
            let (next, probabilities) = layer.forward(&hidden, mask, is_shown, train)?;
            hidden = next;
            if !outputs.attentions.is_none() {
                attentions.push(probabilities.unwrap_or_else(Tensor::new));
            }
        }
        keep(&mut hidden_states, &hidden);
        Ok(BertOutput {
            last_hidden_state: hidden,
            pooler_output: None,
            hidden_states,
            attentions,
        })
    }
}
