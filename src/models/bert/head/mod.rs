//! Heads: the part of a model that is specific to a task.

mod masked_lm;
mod question_answering;
mod sequence;
mod token;

pub use masked_lm::MaskedLM;
pub use question_answering::QuestionAnswering;
pub use sequence::SequenceClassification;
pub use token::TokenClassification;

use std::fmt;

use tch::{Tensor, nn};

use super::{BertConfig, BertInputs, BertOutput, ModelType};
use crate::error::Result;

/// The part of a model that differs from task to task.
///
/// ```
/// use tch::{nn, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, BertOutput, Head};
/// use textbrewer::{Model, Result};
///
/// /// The length of the mean of the last hidden states.
/// #[derive(Debug)]
/// struct MeanNorm;
///
/// impl Head for MeanNorm {
///     type Output = Tensor;
///     const ARCHITECTURE: &'static str = "BertMeanNorm";
///
///     fn new(_: &nn::Path<'_>, _: &BertConfig, _: &Tensor) -> Result<Self> {
///         Ok(MeanNorm)
///     }
///
///     fn forward(&self, encoded: BertOutput, _: &BertInputs, _: bool) -> Result<Tensor> {
///         let mean = encoded.last_hidden_state.f_mean_dim(1, false, None)?;
///         Ok(mean.f_square()?.f_sum_dim_intlist(-1, false, None)?.f_sqrt()?)
///     }
/// }
///
/// let config = BertConfig::default().vocab_size(9).hidden_size(4).intermediate_size(4)
///     .num_attention_heads(1).num_hidden_layers(1);
/// let variables = nn::VarStore::new(Device::Cpu);
/// let model = Bert::<MeanNorm>::new(&variables.root(), &config)?;
/// let output = model.forward(&BertInputs::new(Tensor::from_slice2(&[[1i64, 2]])), false)?;
/// assert_eq!(output.size(), [1]);
/// # Result::Ok(())
/// ```
pub trait Head: Sized + fmt::Debug {
    /// The output of the whole model.
    type Output;

    /// The class of `transformers` to be named in `config.json`. A leading `Bert` is replaced by
    /// the prefix of the model type, such as `Roberta`.
    const ARCHITECTURE: &'static str;

    /// The name of the model below the head, or empty when its variables are at the root. `bert`
    /// is replaced by the name for the model type, such as `roberta`.
    const BASE: &'static str = "bert";

    /// Whether the model below has a pooler, if models of its type have one.
    const POOLER: bool = false;

    /// Whether a model of this type below the head has a pooler: by default
    /// [`POOLER`](Self::POOLER), except for ELECTRA and DistilBERT, which have none.
    fn has_pooler(model_type: ModelType) -> bool {
        Self::POOLER && model_type.has_pooler()
    }

    /// Creates the head's variables under `path`, beside those of the model below it.
    ///
    /// `word_embeddings` is the embedding matrix, for heads that share it.
    ///
    /// # Errors
    /// When `config` does not fit the head.
    fn new(path: &nn::Path<'_>, config: &BertConfig, word_embeddings: &Tensor) -> Result<Self>;

    /// Computes the output of the model from that of the model below.
    ///
    /// # Errors
    /// When labels in `inputs` do not fit.
    fn forward(
        &self,
        encoded: BertOutput,
        inputs: &BertInputs,
        train: bool,
    ) -> Result<Self::Output>;
}

/// No head: the model returns its states.
///
/// ```
/// use tch::{nn::VarStore, Device, Tensor};
/// use textbrewer::models::{Bert, BertConfig, BertInputs, NoHead};
/// use textbrewer::Model;
///
/// # let config = BertConfig::default().vocab_size(50).hidden_size(8).intermediate_size(16)
/// #     .num_attention_heads(2).num_hidden_layers(1);
/// let variables = VarStore::new(Device::Cpu);
/// let model = Bert::<NoHead>::new(&variables.root(), &config)?;
/// let output = model.forward(&BertInputs::new(Tensor::from_slice2(&[[1i64, 2, 3]])), false)?;
/// assert!(output.pooler_output.is_some_and(|pooled| pooled.size() == [1, 8]));
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NoHead;

impl Head for NoHead {
    type Output = BertOutput;
    const ARCHITECTURE: &'static str = "BertModel";
    const BASE: &'static str = "";
    const POOLER: bool = true;

    fn new(_: &nn::Path<'_>, _: &BertConfig, _: &Tensor) -> Result<Self> {
        Ok(NoHead)
    }

    fn forward(&self, encoded: BertOutput, _: &BertInputs, _: bool) -> Result<BertOutput> {
        Ok(encoded)
    }
}
