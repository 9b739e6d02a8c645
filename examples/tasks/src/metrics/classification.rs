//! Metrics of classification: SST-2, MNLI, CoLA, MRPC and similar tasks.
//!
//! Classes are numbers in any range. All scores are fractions, not percentages, and equal those
//! of scikit-learn 1.9. Lists of different lengths and empty lists are errors.

use std::collections::BTreeMap;

use super::{check_lengths, ratio};
use crate::Result;

/// The fraction of examples whose predicted class is the label
/// (scikit-learn's `accuracy_score`).
///
/// # Errors
///
/// Lists of different lengths, or empty ones.
pub fn accuracy(predicted: &[usize], labels: &[usize]) -> Result<f64> {
    check_lengths(predicted.len(), labels.len())?;
    let right = predicted.iter().zip(labels).filter(|(p, l)| p == l);
    Ok(ratio(right.count(), labels.len()))
}

/// Matthews correlation coefficient, for two classes or more (Gorodkin, "Comparing two
/// K-category assignments by a K-category correlation coefficient", 2004; scikit-learn's
/// `matthews_corrcoef`), the metric of CoLA.
///
/// With `n` examples, `c` correct predictions, and class `k` predicted `p_k` times and true `t_k`
/// times:
///
/// `(c n − Σ p_k t_k) / √((n² − Σ p_k²) (n² − Σ t_k²))`
///
/// and 0 where the denominator is 0, as when all predictions are the same class.
///
/// # Errors
///
/// Lists of different lengths, or empty ones.
pub fn matthews(predicted: &[usize], labels: &[usize]) -> Result<f64> {
    check_lengths(predicted.len(), labels.len())?;
    // How often a class is predicted, and how often it is true.
    let mut counts: BTreeMap<usize, (i128, i128)> = BTreeMap::new();
    for (&p, &l) in predicted.iter().zip(labels) {
        counts.entry(p).or_default().0 += 1;
        counts.entry(l).or_default().1 += 1;
    }
    let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count() as i128;
    let n = labels.len() as i128;
    let sum = |f: fn(&(i128, i128)) -> i128| counts.values().map(f).sum::<i128>();
    // Integers up to here, so that a covariance of 0 is exactly 0.
    let both = right * n - sum(|(p, t)| p * t);
    let of_predicted = n * n - sum(|(p, _)| p * p);
    let of_labels = n * n - sum(|(_, t)| t * t);
    if of_predicted == 0 || of_labels == 0 {
        return Ok(0.0);
    }
    Ok(both as f64 / (of_predicted as f64 * of_labels as f64).sqrt())
}

/// F1 of one class against all others: `2 TP / (2 TP + FP + FN)`, 0 where the class is neither
/// predicted nor true (scikit-learn's `f1_score` with `pos_label` and `zero_division=0`), the
/// metric of MRPC and QQP.
///
/// scikit-learn raises an error for a third class; here it counts as not positive.
///
/// # Errors
///
/// Lists of different lengths, or empty ones.
pub fn f1(predicted: &[usize], labels: &[usize], positive: usize) -> Result<f64> {
    check_lengths(predicted.len(), labels.len())?;
    let pairs = || predicted.iter().zip(labels);
    let right = pairs().filter(|&(&p, &l)| p == positive && l == positive);
    // TP + FP, and TP + FN.
    let claimed = predicted.iter().filter(|&&p| p == positive).count();
    let actual = labels.iter().filter(|&&l| l == positive).count();
    Ok(ratio(2 * right.count(), claimed + actual))
}
