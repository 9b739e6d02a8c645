//! The head for masked language modelling.

use tch::Tensor;
use tch::nn::{self, Init};

use super::Head;
use crate::error::Result;
use crate::logits::FromHidden;
use crate::models::Activation;
use crate::models::bert::names::below;
use crate::models::bert::{BertConfig, BertInputs, BertOutput, MaskedLMOutput, ModelType};
use crate::models::layers::{LayerNorm, Linear, normal};

/// A linear layer, an activation and a normalisation, then an output matrix and a bias.
///
/// The output matrix is the word embeddings, which then get gradients from both uses; with
/// [`tie_word_embeddings`](BertConfig::tie_word_embeddings) off it is a matrix of its own. In ELECTRA
/// the generator has this head.
///
/// The logits are not made until they are asked for ([`MaskedLMOutput`]). The loss is the mean cross
/// entropy of the positions whose label is not −100.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, MaskedLM};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = Bert::<MaskedLM>::new(&variables.root(), &config)?;
/// // Only the second position was masked; the token there was 7.
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]))
///     .labels(Tensor::from_slice2(&[[-100i64, 7, -100]]));
/// let output = model.forward(&inputs, false)?;
/// let logs = output.logits.whole()?.log_softmax(-1, None);
/// let loss = output.loss()?.expect("there are labels").double_value(&[]);
/// assert!((loss + logs.double_value(&[0, 1, 7])).abs() < 1e-5);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct MaskedLM {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    /// Where it is tied, the same tensor as in the embeddings: it is saved once.
    decoder: Tensor,
    bias: Tensor,
}

impl Head for MaskedLM {
    type Output = MaskedLMOutput;
    const ARCHITECTURE: &'static str = "BertForMaskedLM";

    fn new(path: &nn::Path<'_>, config: &BertConfig, word_embeddings: &Tensor) -> Result<Self> {
        let model = config.model_type;
        let [dense, norm, decoder, bias] = match model {
            ModelType::Bert => [
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.decoder",
                "cls.predictions",
            ],
            ModelType::Roberta | ModelType::XlmRoberta | ModelType::Camembert => [
                "lm_head.dense",
                "lm_head.layer_norm",
                "lm_head.decoder",
                "lm_head",
            ],
            ModelType::Electra => [
                "generator_predictions.dense",
                "generator_predictions.LayerNorm",
                "generator_lm_head",
                "generator_lm_head",
            ],
            ModelType::DistilBert => [
                "vocab_transform",
                "vocab_layer_norm",
                "vocab_projector",
                "vocab_projector",
            ],
        }
        .map(|name| below(path, name));
        let (hidden, width) = (config.hidden_size, config.embedding_width());
        let stdev = config.initializer_range;
        Ok(MaskedLM {
            dense: Linear::new(&dense, hidden, width, stdev)?,
            activation: match model {
                ModelType::Bert | ModelType::DistilBert => config.hidden_act,
                _ => Activation::Gelu,
            },
            norm: LayerNorm::new(&norm, width, config.layer_norm_eps)?,
            decoder: match config.tie_word_embeddings {
                true => word_embeddings.shallow_clone(),
                false => decoder.f_var("weight", &[config.vocab_size, width], normal(stdev))?,
            },
            bias: bias.f_var("bias", &[config.vocab_size], Init::Const(0.0))?,
        })
    }

    fn forward(&self, encoded: BertOutput, inputs: &BertInputs, _: bool) -> Result<MaskedLMOutput> {
        let hidden = self.dense.forward(&encoded.last_hidden_state)?;
        // Under autocast the kind of products, which the last one is not made under.
        let kind = hidden.f_kind()?;
        let hidden = self.norm.forward(&self.activation.forward(&hidden)?)?;
        let logits = FromHidden::new(&hidden, &self.decoder)?.bias(&self.bias)?;
        let output = MaskedLMOutput::new(logits.computed_in(kind)).encoded(encoded);
        Ok(output.labels(inputs.labels.as_ref()))
    }
}
