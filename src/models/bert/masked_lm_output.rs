//! The output of masked language modelling.

use tch::Tensor;

use super::BertOutput;
use crate::error::Result;
use crate::logits::FromHidden;
use crate::presets::cross_entropy_in_parts;

/// Logits over the vocabulary that have not been made yet, and the model's hidden states and
/// attentions.
///
/// The logits of all positions would be the largest tensor of a training step, and most positions are
/// not masked. An adaptor hands them on as they are; the distillation loss then makes those of some
/// positions at a time, and of none that a mask leaves out:
///
/// ```
/// use textbrewer::models::{BertInputs, MaskedLMOutput};
/// use textbrewer::{AdaptorOutput, Result};
///
/// fn adaptor(batch: &BertInputs, output: &MaskedLMOutput) -> Result<AdaptorOutput> {
///     let adapted = AdaptorOutput::new()
///         .logits(&output.logits)
///         .hidden(&output.hidden_states)
///         .attention(&output.attentions);
///     Ok(match &batch.labels {
///         // A label where a token was masked, −100 elsewhere.
///         Some(labels) => adapted.labels(labels).logits_mask(&labels.ge(0)),
///         None => adapted,
///     })
/// }
/// # use tch::{nn::VarStore, Device, Tensor};
/// # use textbrewer::models::{BertConfig, BertForMaskedLM};
/// # use textbrewer::Model;
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// # let variables = VarStore::new(Device::Cpu);
/// # let model = BertForMaskedLM::new(&variables.root(), &config)?;
/// # let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]))
/// #     .labels(Tensor::from_slice2(&[[-100i64, 7, -100]]));
/// # let output = model.forward(&inputs, false)?;
/// # let adapted = adaptor(&inputs, &output)?;
/// # let masked = adapted.logits[0].select_with_mask(&adapted.logits_mask[0])?;
/// # assert_eq!(masked.whole()?.size(), [1, 50]);
/// // To look at them, all can be made: `[batch, length, vocabulary]`.
/// assert_eq!(output.logits.whole()?.size(), [1, 3, 50]);
/// # textbrewer::Result::Ok(())
/// ```
///
/// It serves teacher and student alike. [`FromHidden::bytes_at_once`] says how many positions are made at
/// a time: `.logits(output.logits.shallow_clone().bytes_at_once(16 << 20))`.
#[derive(Debug)]
#[non_exhaustive]
pub struct MaskedLMOutput {
    /// Scores before softmax, to be made: the hidden states that the head has transformed, with
    /// the output matrix and its bias.
    pub logits: FromHidden,
    /// As in [`BertOutput`].
    pub hidden_states: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub attentions: Vec<Tensor>,
    /// Those that were chosen with [`output_qkv`](super::Bert::output_qkv), `[batch, 3, length, hidden]`.
    pub qkv: Vec<Tensor>,
    labels: Option<Tensor>,
}

impl MaskedLMOutput {
    /// These scores, and nothing else yet.
    pub fn new(logits: FromHidden) -> Self {
        MaskedLMOutput {
            logits,
            hidden_states: Vec::new(),
            attentions: Vec::new(),
            qkv: Vec::new(),
            labels: None,
        }
    }

    /// Sets the labels that [`loss`](Self::loss) is of, or that there are none.
    #[must_use]
    pub fn labels(mut self, labels: Option<&Tensor>) -> Self {
        self.labels = labels.map(Tensor::shallow_clone);
        self
    }

    /// Takes over the hidden states and the attentions of the model below.
    #[must_use]
    pub fn encoded(self, encoded: BertOutput) -> Self {
        MaskedLMOutput {
            logits: self.logits,
            hidden_states: encoded.hidden_states,
            attentions: encoded.attentions,
            qkv: encoded.qkv,
            labels: self.labels,
        }
    }

    /// The mean cross entropy of the positions whose label is not negative (as −100 is), when labels were given; 0
    /// where no position has one. Computed each time anew, of those positions alone.
    ///
    /// On CUDA the device has to tell the host how many they are.
    ///
    /// # Errors
    /// When the labels are not one integer for each position, or one is no token of the vocabulary (on
    /// CUDA the device reports that later).
    pub fn loss(&self) -> Result<Option<Tensor>> {
        let labels = self.labels.as_ref();
        labels
            .map(|labels| cross_entropy_in_parts(&self.logits, labels))
            .transpose()
    }
}
