//! Checking probabilities, and drawing from them.

use rand::Rng;

use crate::error::{Error, Result};

/// How far the sum of probabilities may be from 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// True with probability `p`: never for 0, always for 1.
pub(super) fn happens(p: f64, rng: &mut (impl Rng + ?Sized)) -> bool {
    rng.random::<f64>() < p
}

/// An index, with these probabilities; never one whose probability is 0.
pub(super) fn choose(probabilities: &[f64], rng: &mut (impl Rng + ?Sized)) -> usize {
    let drawn = rng.random::<f64>();
    let mut sum = 0.0;
    let mut chosen = 0;
    for (i, &p) in probabilities.iter().enumerate() {
        if p > 0.0 {
            // The last possible index also gets what is missing to a sum of 1.
            chosen = i;
            sum += p;
            if drawn < sum {
                break;
            }
        }
    }
    chosen
}

pub(super) fn check_probability(field: impl Into<String>, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    let reason = format!("must be a probability, from 0 to 1, is {p}");
    Err(Error::config(field, reason))
}

pub(super) fn check_distribution(field: &str, probabilities: &[f64]) -> Result<()> {
    for (i, &p) in probabilities.iter().enumerate() {
        check_probability(format!("{field}[{i}]"), p)?;
    }
    // `sum` of an empty list is −0.
    let sum = probabilities.iter().fold(0.0, |sum, p| sum + p);
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(());
    }
    let reason = format!("must be probabilities whose sum is 1; the sum is {sum}");
    Err(Error::config(field, reason))
}
