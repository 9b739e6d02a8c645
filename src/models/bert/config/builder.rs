//! Builder methods of `BertConfig`.

use super::{BertConfig, ProblemType};
use crate::models::Activation;

/// Each method sets the field of its name; values are checked when a model is built.
impl BertConfig {
    /// Sets the number of token ids.
    #[must_use]
    pub fn vocab_size(mut self, size: i64) -> Self {
        self.vocab_size = size;
        self
    }

    /// Sets the width of the hidden states.
    #[must_use]
    pub fn hidden_size(mut self, size: i64) -> Self {
        self.hidden_size = size;
        self
    }

    /// Sets the width of ELECTRA's embeddings.
    #[must_use]
    pub fn embedding_size(mut self, size: i64) -> Self {
        self.embedding_size = Some(size);
        self
    }

    /// Sets the number of layers.
    #[must_use]
    pub fn num_hidden_layers(mut self, layers: i64) -> Self {
        self.num_hidden_layers = layers;
        self
    }

    /// Sets the number of attention heads in a layer.
    #[must_use]
    pub fn num_attention_heads(mut self, heads: i64) -> Self {
        self.num_attention_heads = heads;
        self
    }

    /// Sets the width of the feed-forward blocks.
    #[must_use]
    pub fn intermediate_size(mut self, size: i64) -> Self {
        self.intermediate_size = size;
        self
    }

    /// Sets the activation in the feed-forward blocks.
    #[must_use]
    pub fn hidden_act(mut self, activation: Activation) -> Self {
        self.hidden_act = activation;
        self
    }

    /// Sets the dropout after embeddings and blocks.
    #[must_use]
    pub fn hidden_dropout_prob(mut self, probability: f64) -> Self {
        self.hidden_dropout_prob = probability;
        self
    }

    /// Sets the dropout of attention probabilities.
    #[must_use]
    pub fn attention_probs_dropout_prob(mut self, probability: f64) -> Self {
        self.attention_probs_dropout_prob = probability;
        self
    }

    /// Sets the dropout before a classifier.
    #[must_use]
    pub fn classifier_dropout(mut self, probability: f64) -> Self {
        self.classifier_dropout = Some(probability);
        self
    }

    /// Sets the dropout before the scores of DistilBERT's question answering.
    #[must_use]
    pub fn qa_dropout(mut self, probability: f64) -> Self {
        self.qa_dropout = Some(probability);
        self
    }

    /// Sets the number of positions.
    #[must_use]
    pub fn max_position_embeddings(mut self, length: i64) -> Self {
        self.max_position_embeddings = length;
        self
    }

    /// Sets the number of token types.
    #[must_use]
    pub fn type_vocab_size(mut self, types: i64) -> Self {
        self.type_vocab_size = types;
        self
    }

    /// Sets the standard deviation of initial weights.
    #[must_use]
    pub fn initializer_range(mut self, stdev: f64) -> Self {
        self.initializer_range = stdev;
        self
    }

    /// Sets what is added to variances in layer normalisation.
    #[must_use]
    pub fn layer_norm_eps(mut self, eps: f64) -> Self {
        self.layer_norm_eps = eps;
        self
    }

    /// Sets the padding token, or none.
    #[must_use]
    pub fn pad_token_id(mut self, id: Option<i64>) -> Self {
        self.pad_token_id = id;
        self
    }

    /// Sets the number of labels, and drops their names.
    #[must_use]
    pub fn num_labels(mut self, labels: i64) -> Self {
        self.num_labels = Some(labels);
        self.id2label = None;
        self
    }

    /// Sets the labels' names, and with them their number.
    #[must_use]
    pub fn labels<L: Into<String>>(mut self, names: impl IntoIterator<Item = L>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.id2label = Some((0..).zip(names).collect());
        self.num_labels = None;
        self
    }

    /// Sets what a sequence classifier learns.
    #[must_use]
    pub fn problem_type(mut self, problem: ProblemType) -> Self {
        self.problem_type = Some(problem);
        self
    }

    /// Sets whether models return all hidden states.
    #[must_use]
    pub fn output_hidden_states(mut self, output: bool) -> Self {
        self.output_hidden_states = output;
        self
    }

    /// Sets whether models return all attention probabilities.
    #[must_use]
    pub fn output_attentions(mut self, output: bool) -> Self {
        self.output_attentions = output;
        self
    }

    /// Sets whether the output matrix of masked LM is the word embeddings.
    #[must_use]
    pub fn tie_word_embeddings(mut self, tie: bool) -> Self {
        self.tie_word_embeddings = tie;
        self
    }
}
