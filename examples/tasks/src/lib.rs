//! What the examples `sst2`, `mnli`, `conll2003`, `msra_ner`, `squad` and `cmrc2018` share.
//!
//! A task says how its files are read, what a model is shown of them and how good an answer is;
//! the commands `train`, `distill`, `evaluate` and `predict` are the same for all.

pub mod error;
pub mod metrics;

pub use error::{Error, Result};
