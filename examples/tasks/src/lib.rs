//! What the examples `sst2`, `mnli`, `conll2003`, `msra_ner`, `squad` and `cmrc2018` share.
//!
//! A [`Task`] says how its files are read, what a model is shown of them and how good an answer
//! is; the commands `train`, `record`, `distill`, `evaluate` and `predict` are the same for all.

pub mod classification;
pub mod commands;
pub mod data;
pub mod disk;
mod error;
pub mod evaluate;
pub mod features;
mod matches;
pub mod metrics;
pub mod models;
pub mod outcome;
pub mod outputs;
pub mod pieces;
pub mod reading;
pub mod recipe;
mod sound;
pub mod tagging;
pub mod task;
pub mod terminal;
pub mod training;
/// The program in the book's tutorial is compiled here, for it needs `tokenizers`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/book/src/tutorial.md")]
mod tutorial {}

pub use error::{Error, Result};
pub use tagging::Tagging;
pub use task::{Fault, Files, Task};
