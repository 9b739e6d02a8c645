//! Models of the BERT family that return hidden states and attentions: BERT, RoBERTa,
//! XLM-RoBERTa, CamemBERT, ELECTRA and DistilBERT ([`ModelType`]), and models with the same
//! architecture under another name, such as MiniLM.
//!
//! Names of weights and keys of configurations are Hugging Face's, so folders written by
//! `transformers` can be loaded here, and vice versa.

mod activation;
mod bert;
mod layers;

pub use activation::Activation;
pub use bert::{
    Bert, BertConfig, BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification,
    BertForTokenClassification, BertInputs, BertModel, BertOutput, Head, LogitsOutput, MaskedLM,
    MaskedLMOutput, ModelType, NoHead, ProblemType, QuestionAnswering, QuestionAnsweringOutput,
    SequenceClassification, TokenClassification,
};
