//! What a BERT returns.

use tch::Tensor;

/// Which states a model returns besides its result.
///
/// Hidden states cost memory only. When attentions are not asked for, a fused kernel is
/// used that never writes them down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BertOutputs {
    /// All hidden states.
    pub hidden_states: bool,
    /// All attention probabilities.
    pub attentions: bool,
}

/// The states of a BERT.
#[derive(Debug)]
#[non_exhaustive]
pub struct BertOutput {
    /// The last layer's hidden states, `[batch, length, hidden]`.
    pub last_hidden_state: Tensor,
    /// The first token's state after a linear layer and tanh, `[batch, hidden]`, where
    /// the model has a pooler.
    pub pooler_output: Option<Tensor>,
    /// The embeddings' output and every layer's, each `[batch, length, hidden]`; empty
    /// when not asked for.
    pub hidden_states: Vec<Tensor>,
    /// Every layer's attention probabilities, each `[batch, heads, length, length]`;
    /// after dropout in training. Empty when not asked for.
    pub attentions: Vec<Tensor>,
}

/// Scores of a model with one head, and its states.
#[derive(Debug)]
#[non_exhaustive]
pub struct LogitsOutput {
    /// The loss, when labels were given.
    pub loss: Option<Tensor>,
    /// Scores before softmax: `[batch, labels]` for sequences, `[batch, length, labels]`
    /// for tokens, `[batch, length, vocabulary]` for masked LM.
    pub logits: Tensor,
    /// As in [`BertOutput`], where the model has a pooler.
    pub pooler_output: Option<Tensor>,
    /// As in [`BertOutput`].
    pub hidden_states: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub attentions: Vec<Tensor>,
}

impl LogitsOutput {
    pub(super) fn new(encoded: BertOutput, logits: Tensor, loss: Option<Tensor>) -> Self {
        LogitsOutput {
            loss,
            logits,
            pooler_output: encoded.pooler_output,
            hidden_states: encoded.hidden_states,
            attentions: encoded.attentions,
        }
    }
}

/// Scores of where an answer begins and ends, and the model's states.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuestionAnsweringOutput {
    /// The mean of both cross entropies, when answers were given.
    pub loss: Option<Tensor>,
    /// Scores of every position as the answer's first, `[batch, length]`.
    pub start_logits: Tensor,
    /// Scores of every position as the answer's last, `[batch, length]`.
    pub end_logits: Tensor,
    /// As in [`BertOutput`].
    pub hidden_states: Vec<Tensor>,
    /// As in [`BertOutput`].
    pub attentions: Vec<Tensor>,
}
