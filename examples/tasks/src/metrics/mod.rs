//! Metrics, with the numbers of the reference implementations.
//!
//! Plain functions on plain values. Each names the implementation that it reproduces, and where it
//! differs.

pub mod answers;
pub mod classification;
pub mod cmrc;
pub mod entities;
mod figures;
mod nltk;
mod python;
pub mod squad;

pub use figures::Metrics;

use crate::{Error, Result};

/// Refuses empty lists and lists of different lengths.
fn check_lengths(predicted: usize, labels: usize) -> Result<()> {
    if predicted != labels {
        return Err(Error::invalid(format!(
            "{predicted} predictions for {labels} labels: position {} (counted from 0) has only \
             one of them; every example needs both",
            predicted.min(labels)
        )));
    }
    if labels == 0 {
        return Err(Error::invalid(
            "no examples to evaluate: a score needs at least one",
        ));
    }
    Ok(())
}

/// `2pr / (p + r)`, 0 where neither is positive.
fn harmonic_mean(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    }
}

/// `part / whole`, 0 if `whole` is 0.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
