//! The head for token classification.

use tch::{Tensor, nn};

use super::Head;
use crate::error::Result;
use crate::losses::labels::{IGNORED, cross_entropy_of};
use crate::models::bert::{BertConfig, BertInputs, BertOutput, LogitsOutput, ModelType};
use crate::models::layers::{Linear, dropout};

/// A linear layer on every position.
///
/// The loss is the mean cross entropy of the positions whose label is not -100.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, TokenClassification};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1).num_labels(5);
/// let variables = VarStore::new(Device::Cpu);
/// let model = Bert::<TokenClassification>::new(&variables.root(), &config)?;
/// // [CLS] and [SEP] have no label.
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]]))
///     .labels(Tensor::from_slice2(&[[-100i64, 4, -100]]));
/// let output = model.forward(&inputs, false)?;
/// let log = output.logits.log_softmax(-1, None).double_value(&[0, 1, 4]);
/// let loss = output.loss.expect("there are labels").double_value(&[]);
/// assert!((loss + log).abs() < 1e-5);
/// # textbrewer::Result::Ok(())
/// ```
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
            dropout: match config.model_type {
                ModelType::DistilBert => config.hidden_dropout_prob,
                _ => config.classifier_dropout_or_hidden(),
            },
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
            .map(|labels| cross_entropy_of(&logits, labels, "labels", IGNORED))
            .transpose()?;
        Ok(LogitsOutput::new(logits).loss(loss).encoded(encoded))
    }
}
