//! A student against a sample of its teacher's classes.

use tch::{Kind, Tensor};

use super::check::in_students_kind;
use super::log_probabilities::{is_impossible, log_probabilities, over_classes};
use super::temperature::Temperature;
use crate::error::{Context, Error, Result};
use crate::logits::Sample;
use crate::scalar::ScalarOps;

/// `−Σ w log q` over the drawn classes at each position: an unbiased estimate of `−Σ p log q`.
///
/// The weights are not brought to the sum 1, which would make it biased where they are not counts.
pub(super) fn cross_entropy_of_sample(
    loss: &str,
    student: &Tensor,
    sample: &Sample,
    temperature: &Temperature,
) -> Result<Tensor> {
    let drawn_at = sample.temperature();
    if let Temperature::Constant(tau) = temperature
        && *tau != drawn_at
    {
        return Err(Error::shape(
            loss,
            format!("a sample drawn at the temperature of the loss, {tau}"),
            format!("one drawn at {drawn_at} (`Sample::drawn_at` says so of a stored one)"),
        ));
    }
    let weights = in_students_kind(loss, student, sample.weights())?;
    let logs = log_probabilities(loss, student, temperature)?;
    // What has no weight fills up, and need not be a class that there is.
    let fills_up = weights.is_not(0.0)?.f_logical_not()?;
    let indices = sample.indices().filled(&fills_up, 0)?;
    let drawn = gathered(loss, &logs, &indices, "sample")?;
    // As a class that the student masks has no part in `forward_kl`.
    let masked = is_impossible(&drawn)?;
    let products = drawn.filled(&masked, 0.0)?.f_mul(&weights)?;
    Ok(over_classes(&products)?.f_neg()?)
}

/// The student's log-probabilities of these classes of the teacher's, `[.., k]`.
pub(super) fn gathered(loss: &str, logs: &Tensor, indices: &Tensor, of: &str) -> Result<Tensor> {
    let (size, given) = (logs.size(), indices.size());
    let fits = match (size.split_last(), given.split_last()) {
        (Some((_, positions)), Some((_, at))) => positions == at,
        _ => false,
    };
    if !fits {
        return Err(Error::shape(
            loss,
            format!("the teacher's {of} at each position of the student's logits {size:?}"),
            format!("indices {given:?}"),
        ));
    }
    let classes = size.last().copied().unwrap_or(0);
    let indices = indices.f_to_kind(Kind::Int64)?;
    logs.f_gather(-1, &indices, false)
        .context(|| format!("{loss}: the indices of the teacher's {of} must be in 0..{classes}"))
}
