//! Outputs of BERT.

use tch::Tensor;

use crate::config::LayerSelection;

/// Which hidden states, attentions, queries, keys and values a model returns besides its result.
#[derive(Debug, Clone)]
pub(super) struct StateSelection {
    /// Which hidden states: 0 is the embeddings' output, 1 the first layer's.
    pub(super) hidden_states: LayerSelection,
    /// Which layers' attention probabilities: 0 is the first layer's.
    pub(super) attentions: LayerSelection,
    /// Which layers' queries, keys and values: 0 is the first layer's.
    pub(super) qkv: LayerSelection,
}

/// What one layer returns besides its hidden states.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownStates {
    pub(super) probabilities: bool,
    pub(super) qkv: bool,
}

/// The output of a layer, and what [`ShownStates`] ask for.
#[derive(Debug)]
pub(super) struct LayerOutput {
    /// `[batch · length, hidden]`.
    pub(super) hidden: Tensor,
    /// `[batch, heads, length, length]`.
    pub(super) probabilities: Option<Tensor>,
    /// `[batch, 3, length, hidden]`.
    pub(super) qkv: Option<Tensor>,
}

/// The hidden states, attentions, queries, keys and values of a BERT.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{BertConfig, BertInputs, BertModel, BertOutput};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(3);
/// let variables = VarStore::new(Device::Cpu);
/// let model = BertModel::new(&variables.root(), &config)?
///     .output_hidden_states(true)
///     .output_attentions(true);
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3, 4]]));
/// let output: BertOutput = model.forward(&inputs, false)?;
/// // Three layers and the embeddings; embeddings have no attention.
/// assert_eq!((output.hidden_states.len(), output.attentions.len()), (4, 3));
/// assert_eq!(output.hidden_states[3], output.last_hidden_state);
/// assert_eq!(output.attentions[0].size(), [1, 2, 4, 4]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct BertOutput {
    /// The last layer's hidden states, `[batch, length, hidden]`.
    pub last_hidden_state: Tensor,
    /// The first token's state after a linear layer and tanh, `[batch, hidden]`, where
    /// the model has a pooler.
    pub pooler_output: Option<Tensor>,
    /// The output of the embeddings and of every layer, each `[batch, length, hidden]`; empty
    /// when none is requested. If only some are, the others are undefined tensors, so that each
    /// keeps its position.
    pub hidden_states: Vec<Tensor>,
    /// Every layer's attention probabilities, each `[batch, heads, length, length]`; after
    /// dropout in training. Empty when none is requested; if only some are, the others are
    /// undefined tensors.
    pub attentions: Vec<Tensor>,
    /// Every layer's queries, keys and values together, each `[batch, 3, length, hidden]`: those
    /// that attention begins with, the heads beside each other. Empty when none is requested; if
    /// only some are, the others are undefined tensors.
    pub qkv: Vec<Tensor>,
}

impl BertOutput {
    /// An output of the last hidden states only: for your own models that use a
    /// [`Head`](super::Head) of this crate.
    pub fn new(last_hidden_state: Tensor) -> Self {
        BertOutput {
            last_hidden_state,
            pooler_output: None,
            hidden_states: Vec::new(),
            attentions: Vec::new(),
            qkv: Vec::new(),
        }
    }
}

/// Logits of a model with one head, and its hidden states and attentions.
///
/// An adaptor for it:
///
/// ```
/// use textbrewer::models::{BertInputs, LogitsOutput};
/// use textbrewer::{AdaptorOutput, Result};
///
/// fn adaptor(batch: &BertInputs, output: &LogitsOutput) -> Result<AdaptorOutput> {
///     let mut adapted = AdaptorOutput::new()
///         .logits(&output.logits)
///         .hidden(&output.hidden_states)
///         .attention(&output.attentions);
///     if let Some(mask) = &batch.attention_mask {
///         adapted = adapted.inputs_mask(mask);
///     }
///     if let Some(loss) = &output.loss {
///         adapted = adapted.losses(loss);
///     }
///     Ok(adapted)
/// }
/// # use tch::{nn::VarStore, Device, Tensor};
/// # use textbrewer::models::{BertConfig, BertForSequenceClassification};
/// # use textbrewer::Model;
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// # let variables = VarStore::new(Device::Cpu);
/// # let model = BertForSequenceClassification::new(&variables.root(), &config)?;
/// # let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]))
/// #     .labels(Tensor::from_slice(&[1i64]));
/// # let adapted = adaptor(&inputs, &model.forward(&inputs, false)?)?;
/// # assert_eq!((adapted.logits.len(), adapted.losses.len()), (1, 1));
/// # textbrewer::Result::Ok(())
/// ```
///
/// A [`Head`](super::Head) of one's own may return it too, and then shares adaptors with those of
/// this crate. Here one that scores the mean of all positions:
///
/// ```
/// use tch::{nn, Tensor};
/// use textbrewer::losses::cross_entropy;
/// use textbrewer::models::{BertConfig, BertInputs, BertOutput, Head, LogitsOutput};
/// use textbrewer::Result;
///
/// #[derive(Debug)]
/// struct MeanClassification {
///     weight: Tensor,
/// }
///
/// impl Head for MeanClassification {
///     type Output = LogitsOutput;
///     const ARCHITECTURE: &'static str = "BertForMeanClassification";
///
///     fn new(path: &nn::Path<'_>, config: &BertConfig, _: &Tensor) -> Result<Self> {
///         let size = [config.label_count(), config.hidden_size];
///         let weight = (path / "classifier").f_randn("weight", &size, 0.0, 0.02)?;
///         Ok(MeanClassification { weight })
///     }
///
///     fn forward(&self, encoded: BertOutput, inputs: &BertInputs, _: bool) -> Result<LogitsOutput> {
///         let mean = encoded.last_hidden_state.f_mean_dim(1, false, None)?;
///         let logits = mean.f_linear(&self.weight, None::<&Tensor>)?;
///         let labels = inputs.labels.as_ref();
///         let loss = labels.map(|labels| cross_entropy(&logits, labels)).transpose()?;
///         Ok(LogitsOutput::new(logits).loss(loss).encoded(encoded))
///     }
/// }
/// # use tch::{nn::VarStore, Device};
/// # use textbrewer::models::Bert;
/// # use textbrewer::Model;
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// # let variables = VarStore::new(Device::Cpu);
/// # let model = Bert::<MeanClassification>::new(&variables.root(), &config)?
/// #     .output_hidden_states(true);
/// # let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]))
/// #     .labels(Tensor::from_slice(&[1i64]));
/// # let output = model.forward(&inputs, false)?;
/// # assert_eq!((output.logits.size(), output.hidden_states.len()), (vec![1, 2], 2));
/// # assert!(output.loss.is_some());
/// # Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LogitsOutput {
    /// The loss, when labels were given.
    pub loss: Option<Tensor>,
    /// Scores before softmax: `[batch, labels]` for sequences, `[batch, length, labels]`
    /// for tokens.
    pub logits: Tensor,
    /// As in [`BertOutput`], where the model has a pooler.
    pub pooler_output: Option<Tensor>,
    /// As in [`BertOutput`].
    pub hidden_states: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub attentions: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub qkv: Vec<Tensor>,
}

impl LogitsOutput {
    /// These scores, and nothing else yet.
    pub fn new(logits: Tensor) -> Self {
        LogitsOutput {
            loss: None,
            logits,
            pooler_output: None,
            hidden_states: Vec::new(),
            attentions: Vec::new(),
            qkv: Vec::new(),
        }
    }

    /// Sets the loss, or that there is none.
    #[must_use]
    pub fn loss(mut self, loss: impl Into<Option<Tensor>>) -> Self {
        self.loss = loss.into();
        self
    }

    /// Takes over the pooler's output, the hidden states, the attentions, and the queries, keys and
    /// values of the model below.
    #[must_use]
    pub fn encoded(self, encoded: BertOutput) -> Self {
        LogitsOutput {
            loss: self.loss,
            logits: self.logits,
            pooler_output: encoded.pooler_output,
            hidden_states: encoded.hidden_states,
            attentions: encoded.attentions,
            qkv: encoded.qkv,
        }
    }

    /// Sets the pooler's output, or that there is none.
    #[must_use]
    pub fn pooler_output(mut self, pooler_output: impl Into<Option<Tensor>>) -> Self {
        self.pooler_output = pooler_output.into();
        self
    }

    /// Sets the hidden states: the embeddings' output, then every layer's.
    #[must_use]
    pub fn hidden_states(mut self, hidden_states: Vec<Tensor>) -> Self {
        self.hidden_states = hidden_states;
        self
    }

    /// Sets every layer's attention probabilities.
    #[must_use]
    pub fn attentions(mut self, attentions: Vec<Tensor>) -> Self {
        self.attentions = attentions;
        self
    }

    /// Sets every layer's queries, keys and values.
    #[must_use]
    pub fn qkv(mut self, qkv: Vec<Tensor>) -> Self {
        self.qkv = qkv;
        self
    }
}

/// Logits of the start and the end of an answer, and the model's hidden states and attentions.
///
/// An adaptor for it, in which both scores are logits:
///
/// ```
/// use textbrewer::models::{BertInputs, QuestionAnsweringOutput};
/// use textbrewer::{AdaptorOutput, Result};
///
/// fn adaptor(_: &BertInputs, output: &QuestionAnsweringOutput) -> Result<AdaptorOutput> {
///     Ok(AdaptorOutput::new()
///         .logits(&output.start_logits)
///         .logits(&output.end_logits)
///         .hidden(&output.hidden_states))
/// }
/// # use tch::{nn::VarStore, Device, Tensor};
/// # use textbrewer::models::{BertConfig, BertForQuestionAnswering};
/// # use textbrewer::Model;
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1).num_labels(2);
/// # let variables = VarStore::new(Device::Cpu);
/// # let model = BertForQuestionAnswering::new(&variables.root(), &config)?;
/// # let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]));
/// # let adapted = adaptor(&inputs, &model.forward(&inputs, false)?)?;
/// # assert_eq!(adapted.logits.len(), 2);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct QuestionAnsweringOutput {
    /// The mean of both cross entropies, when answers were given.
    pub loss: Option<Tensor>,
    /// Scores of every position as the start of the answer, `[batch, length]`.
    pub start_logits: Tensor,
    /// Scores of every position as the end of the answer, `[batch, length]`.
    pub end_logits: Tensor,
    /// As in [`BertOutput`].
    pub hidden_states: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub attentions: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub qkv: Vec<Tensor>,
}
