//! Models of the BERT family that show their hidden states and attentions: BERT, RoBERTa,
//! XLM-RoBERTa, CamemBERT, ELECTRA and DistilBERT ([`ModelType`]), and whatever is one of these
//! under another name, such as MiniLM.
//!
//! Names of weights and keys of configurations are Hugging Face's, so folders written by
//! `transformers` load here and the other way round.

mod activation;
mod bert;
mod layers;

pub use activation::Activation;
pub use bert::{
    Bert, BertConfig, BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification,
    BertForTokenClassification, BertInputs, BertModel, BertOutput, BertOutputs, Head, LogitsOutput,
    MaskedLM, ModelType, NoHead, ProblemType, QuestionAnswering, QuestionAnsweringOutput,
    SequenceClassification, TokenClassification,
};
