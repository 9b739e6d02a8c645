//! Correlation of predicted and true numbers: STS-B.

use super::check_lengths;
use crate::{Error, Result};

/// Pearson's correlation coefficient: with `x` and `y` without their means,
/// `Σ x y / (|x| |y|)` (SciPy's `pearsonr`).
///
/// 0 where all numbers of one list are equal, for which SciPy gives NaN: an evaluation early in a
/// training must not end it.
///
/// # Errors
///
/// Lists of different lengths, empty ones, and numbers that are not finite.
pub fn pearson(predicted: &[f64], labels: &[f64]) -> Result<f64> {
    check_lengths(predicted.len(), labels.len())?;
    check_finite("prediction", predicted)?;
    check_finite("label", labels)?;
    let (x, y) = (direction(predicted), direction(labels));
    let sum: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    Ok(sum.clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: [`pearson`] of the ranks, equal numbers sharing the mean of
/// theirs (SciPy's `spearmanr`); 0 where all numbers of one list are equal.
///
/// # Errors
///
/// Lists of different lengths, empty ones, and numbers that are not finite.
pub fn spearman(predicted: &[f64], labels: &[f64]) -> Result<f64> {
    check_lengths(predicted.len(), labels.len())?;
    check_finite("prediction", predicted)?;
    check_finite("label", labels)?;
    pearson(&ranks(predicted), &ranks(labels))
}

fn check_finite(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some((at, value)) => Err(Error::invalid(format!(
            "the {what} at position {at} (counted from 0) is {value}; a correlation needs finite \
             numbers"
        ))),
    }
}

/// The values without their mean, of length 1; zeros where they are all equal.
fn direction(values: &[f64]) -> Vec<f64> {
    // Numbers near the largest of f64 have no sum. Besides, equal numbers become 1 by this, whose
    // mean is exact; that of others is rounded, and nothing but noise would be left.
    let largest = values.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    if largest == 0.0 {
        return vec![0.0; values.len()];
    }
    let mean = values.iter().map(|v| v / largest).sum::<f64>() / values.len() as f64;
    let centred = values.iter().map(|v| v / largest - mean);
    let centred: Vec<f64> = centred.collect();
    let length = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length == 0.0 {
        return centred;
    }
    centred.iter().map(|v| v / length).collect()
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut ranked: Vec<(usize, f64)> = Vec::with_capacity(values.len());
    // -0.0 and 0.0 are neighbours in the total order, and equal here.
    for equal in sorted.chunk_by(|(_, a), (_, b)| a == b) {
        let before = ranked.len() as f64;
        let shared = before + (1 + equal.len()) as f64 / 2.0;
        ranked.extend(equal.iter().map(|&(at, _)| (at, shared)));
    }
    ranked.sort_by_key(|&(at, _)| at);
    ranked.into_iter().map(|(_, rank)| rank).collect()
}
