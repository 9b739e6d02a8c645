//! The head for extractive question answering.

use tch::{Tensor, nn};

use super::Head;
use crate::error::{Error, Result};
use crate::losses::labels::{check_shape, cross_entropy_of, integers};
use crate::models::bert::{BertConfig, BertInputs, BertOutput, QuestionAnsweringOutput};
use crate::models::layers::{Linear, dropout};
use crate::scalar::ScalarOps;

/// A linear layer that scores every position as the start and as the end of the answer.
///
/// The loss is the mean of the cross entropies of start and end. Positions beyond the input, as
/// when the answer was cut off, are ignored. The configuration must have two labels.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, QuestionAnswering};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1).num_labels(2);
/// let variables = VarStore::new(Device::Cpu);
/// let model = Bert::<QuestionAnswering>::new(&variables.root(), &config)?;
/// // The answer is tokens 1 and 2.
/// let inputs = BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3, 4]]))
///     .answers(Tensor::from_slice(&[1i64]), Tensor::from_slice(&[2i64]));
/// let output = model.forward(&inputs, false)?;
/// let start = output.start_logits.log_softmax(-1, None).double_value(&[0, 1]);
/// let end = output.end_logits.log_softmax(-1, None).double_value(&[0, 2]);
/// let loss = output.loss.expect("there are answers").double_value(&[]);
/// assert!((loss + (start + end) / 2.0).abs() < 1e-5);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct QuestionAnswering {
    outputs: Linear,
    dropout: f64,
}

impl Head for QuestionAnswering {
    type Output = QuestionAnsweringOutput;
    const ARCHITECTURE: &'static str = "BertForQuestionAnswering";

    fn new(path: &nn::Path<'_>, config: &BertConfig, _: &Tensor) -> Result<Self> {
        // The class of transformers makes as many scores as there are labels.
        let labels = config.label_count();
        if labels != 2 {
            let reason = format!(
                "{labels}, but question answering has two scores, start and end; \
                 set it with `config.num_labels(2)`"
            );
            return Err(Error::config("num_labels", reason));
        }
        let path = path / "qa_outputs";
        Ok(QuestionAnswering {
            outputs: Linear::new(&path, config.hidden_size, 2, config.initializer_range)?,
            dropout: config.qa_dropout.unwrap_or(0.0),
        })
    }

    fn forward(
        &self,
        encoded: BertOutput,
        inputs: &BertInputs,
        train: bool,
    ) -> Result<QuestionAnsweringOutput> {
        let hidden = encoded.last_hidden_state.shallow_clone();
        let logits = self
            .outputs
            .forward(&dropout(hidden, self.dropout, train)?)?;
        let start_logits = logits.f_select(-1, 0)?.f_contiguous()?;
        let end_logits = logits.f_select(-1, 1)?.f_contiguous()?;
        let loss = match (&inputs.start_positions, &inputs.end_positions) {
            (Some(start), Some(end)) => {
                let start = position_loss(&start_logits, start, "start_positions")?;
                let end = position_loss(&end_logits, end, "end_positions")?;
                Some(start.f_add(&end)?.over(2.0)?)
            }
            (None, None) => None,
            (Some(_), None) => return Err(needed("end_positions", "start_positions")),
            (None, Some(_)) => return Err(needed("start_positions", "end_positions")),
        };
        Ok(QuestionAnsweringOutput {
            loss,
            start_logits,
            end_logits,
            hidden_states: encoded.hidden_states,
            attentions: encoded.attentions,
            qkv: encoded.qkv,
        })
    }
}

/// All positions outside the input are mapped to the one after the last, which is ignored.
fn position_loss(logits: &Tensor, positions: &Tensor, what: &str) -> Result<Tensor> {
    let size = logits.size();
    let [batch, length] = size[..] else {
        return Err(Error::shape(what, "[batch, length]", format!("{size:?}")));
    };
    let positions = match positions.dim() {
        2 => positions.f_squeeze_dim(-1)?,
        _ => positions.shallow_clone(),
    };
    check_shape(&positions, &[batch], what)?;
    let positions = integers(&positions, what)?.at_least(0)?.at_most(length)?;
    cross_entropy_of(logits, &positions, what, length)
}

fn needed(missing: &str, given: &str) -> Error {
    Error::config(missing, format!("needed together with {given}"))
}
