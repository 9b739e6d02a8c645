//! Labels for every token.

use tch::{nn, Tensor};

use super::loss::{cross_entropy, IGNORED};
use super::Head;
use crate::models::bert::{BertConfig, BertInputs, BertOutput, LogitsOutput};
use crate::models::layers::{dropout, Linear};
use crate::Result;

/// A linear layer on every position.
///
/// The loss is the mean cross entropy of the positions whose label is not -100.
#[derive(Debug)]
pub struct TokenClassification {
    classifier: Linear,
    dropout: f64,
}

impl Head for TokenClassification {
    type Output = LogitsOutput;
    const ARCHITECTURE: &'static str = "BertForTokenClassification";

    fn new(path: &nn::Path<'_>, config: &BertConfig, _: &Tensor) -> Result<Self> {
        let (hidden, labels) = (config.hidden_size, config.label_count());
        let path = path / "classifier";
        Ok(TokenClassification {
            classifier: Linear::new(&path, hidden, labels, config.initializer_range)?,
            dropout: config
                .classifier_dropout
                .unwrap_or(config.hidden_dropout_prob),
        })
    }

    fn forward(
        &self,
        encoded: BertOutput,
        inputs: &BertInputs,
        train: bool,
    ) -> Result<LogitsOutput> {
        let hidden = encoded.last_hidden_state.shallow_clone();
        let logits = self
            .classifier
            .forward(&dropout(hidden, self.dropout, train)?)?;
        let labels = inputs.labels.as_ref();
        let loss = labels
            .map(|labels| cross_entropy(&logits, labels, "labels", IGNORED))
            .transpose()?;
        Ok(LogitsOutput::new(encoded, logits, loss))
    }
}
