//! What the examples `sst2`, `mnli`, `conll2003`, `msra_ner`, `squad` and `cmrc2018` share.
//!
//! A [`Task`] says how its files are read, what a model is shown of them and how good an answer
//! is; the commands `train`, `distill`, `evaluate` and `predict` are the same for all.

pub mod disk;
mod error;
pub mod features;
pub mod metrics;
pub mod outputs;
pub mod pieces;
pub mod task;

pub use error::{Error, Result};
pub use task::{Files, Task};
