//! The head for sequence classification.

use tch::{Kind, Reduction, Tensor, nn};

use super::Head;
use crate::error::{Error, Result};
use crate::losses::at_least_float32;
use crate::losses::labels::{IGNORED, check_shape, cross_entropy_of};
use crate::models::Activation;
use crate::models::bert::names::below;
use crate::models::bert::{
    BertConfig, BertInputs, BertOutput, LogitsOutput, ModelType, ProblemType,
};
use crate::models::layers::{Linear, dropout};

/// A linear layer on the pooled output. Models other than BERT have another layer on the first
/// token in place of the pooler ([`ModelType`]).
///
/// The loss is the cross entropy for integer labels, `[batch]`; the binary cross entropy for
/// floating-point labels, `[batch, labels]`; and with a single label the mean squared error for
/// numbers, `[batch]`. [`BertConfig::problem_type`] chooses one explicitly.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, SequenceClassification};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1).num_labels(3);
/// let variables = VarStore::new(Device::Cpu);
/// let model = Bert::<SequenceClassification>::new(&variables.root(), &config)?;
/// let ids = || Tensor::from_slice2(&[[1i64, 2, 3]]);
/// // One label of three: cross entropy.
/// let output = model.forward(&BertInputs::new(ids()).labels(Tensor::from_slice(&[2i64])), false)?;
/// let log = output.logits.log_softmax(-1, None).double_value(&[0, 2]);
/// let loss = output.loss.expect("there are labels").double_value(&[]);
/// assert!((loss + log).abs() < 1e-5);
/// // Any number of them, as floating point: binary cross entropy.
/// let inputs = BertInputs::new(ids()).labels(Tensor::from_slice2(&[[1f32, 0.0, 1.0]]));
/// assert!(model.forward(&inputs, false)?.loss.is_some());
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct SequenceClassification {
    dense: Option<Dense>,
    classifier: Linear,
    labels: i64,
    problem: Option<ProblemType>,
    dropout: f64,
}

/// The layer in place of BERT's pooler.
#[derive(Debug)]
struct Dense {
    linear: Linear,
    activation: Activation,
    /// Before the layer.
    dropout: f64,
}

impl Dense {
    fn forward(&self, hidden: &Tensor, train: bool) -> Result<Tensor> {
        let first = dropout(hidden.f_select(1, 0)?, self.dropout, train)?;
        self.activation.forward(&self.linear.forward(&first)?)
    }
}

impl Head for SequenceClassification {
    type Output = LogitsOutput;
    const ARCHITECTURE: &'static str = "BertForSequenceClassification";
    const POOLER: bool = true;

    fn has_pooler(model_type: ModelType) -> bool {
        model_type == ModelType::Bert
    }

    fn new(path: &nn::Path<'_>, config: &BertConfig, _: &Tensor) -> Result<Self> {
        let (hidden, labels) = (config.hidden_size, config.label_count());
        let dropout = config.classifier_dropout_or_hidden();
        let linear = |name, outputs| {
            let path = below(path, name);
            Linear::new(&path, hidden, outputs, config.initializer_range)
        };
        let (dense, classifier) = match config.model_type {
            ModelType::Bert => (None, "classifier"),
            ModelType::Roberta | ModelType::XlmRoberta | ModelType::Camembert => {
                let dense = ("classifier.dense", Activation::Tanh, dropout);
                (Some(dense), "classifier.out_proj")
            }
            ModelType::Electra => {
                let dense = ("classifier.dense", Activation::Gelu, dropout);
                (Some(dense), "classifier.out_proj")
            }
            ModelType::DistilBert => {
                let dense = ("pre_classifier", Activation::Relu, 0.0);
                (Some(dense), "classifier")
            }
        };
        let dense = dense.map(|(name, activation, dropout)| {
            Ok::<_, Error>(Dense {
                linear: linear(name, hidden)?,
                activation,
                dropout,
            })
        });
        Ok(SequenceClassification {
            dense: dense.transpose()?,
            classifier: linear(classifier, labels)?,
            labels,
            problem: config.problem_type,
            dropout,
        })
    }

    fn forward(
        &self,
        encoded: BertOutput,
        inputs: &BertInputs,
        train: bool,
    ) -> Result<LogitsOutput> {
        let state = match (&self.dense, &encoded.pooler_output) {
            (Some(dense), _) => dense.forward(&encoded.last_hidden_state, train)?,
            (None, Some(pooled)) => pooled.shallow_clone(),
            (None, None) => return Err(Error::other("the model below has no pooler")),
        };
        let state = dropout(state, self.dropout, train)?;
        let logits = self.classifier.forward(&state)?;
        let labels = inputs.labels.as_ref();
        let loss = labels
            .map(|labels| self.loss(&logits, labels))
            .transpose()?;
        Ok(LogitsOutput::new(logits).loss(loss).encoded(encoded))
    }
}

impl SequenceClassification {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let logits = &at_least_float32(logits)?;
        let integers = matches!(labels.f_kind()?, Kind::Int64 | Kind::Int);
        let problem = self.problem.unwrap_or(match (self.labels, integers) {
            (1, _) => ProblemType::Regression,
            (_, true) => ProblemType::SingleLabelClassification,
            (_, false) => ProblemType::MultiLabelClassification,
        });
        match problem {
            ProblemType::SingleLabelClassification => {
                cross_entropy_of(logits, labels, "labels", IGNORED)
            }
            ProblemType::Regression => {
                // One number may come as `[batch]` or as `[batch, 1]`.
                let logits = match labels.dim() {
                    1 => logits.f_squeeze_dim(-1)?,
                    _ => logits.shallow_clone(),
                };
                check_shape(labels, &logits.size(), "labels")?;
                let labels = labels.f_to_kind(logits.f_kind()?)?;
                Ok(logits.f_mse_loss(&labels, Reduction::Mean)?)
            }
            ProblemType::MultiLabelClassification => {
                check_shape(labels, &logits.size(), "labels")?;
                let labels = labels.f_to_kind(logits.f_kind()?)?;
                let none = None::<Tensor>;
                Ok(logits.f_binary_cross_entropy_with_logits(
                    &labels,
                    none.as_ref(),
                    none.as_ref(),
                    Reduction::Mean,
                )?)
            }
        }
    }
}
