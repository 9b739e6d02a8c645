//! Losses on logits that are more than a function at each position.

use tch::Tensor;

use super::KdInput;
use super::kd_loss::KdLoss;
use crate::error::{Error, Result};
use crate::logits::{FromHidden, Logits};
use crate::losses;
use crate::losses::labels::{check_classes, check_shape, integers};
use crate::scalar::ScalarOps;

/// The mean cross entropy of logits with the labels that are not negative, some positions at a time; 0
/// where there are none. Nothing is computed of the others.
pub(crate) fn cross_entropy_in_parts(logits: &FromHidden, labels: &Tensor) -> Result<Tensor> {
    let classes = logits.classes();
    let loss = KdLoss::at_labels(move |input| {
        let labels = integers(&input.labels()?, "labels")?;
        check_classes(&labels, classes)?;
        let logs = input.student.whole()?.f_log_softmax(-1, None)?;
        let of_labels = logs.f_gather(-1, &labels.f_unsqueeze(-1)?, false)?;
        Ok(of_labels.f_squeeze_dim(-1)?.f_neg()?)
    });
    let logits = Logits::from(logits);
    check_shape(labels, &logits.positions()?, "labels")?;
    // Of a teacher nothing is asked.
    let teacher = logits.detached()?;
    loss.in_parts()
        .apply(&KdInput::new(logits, teacher, 1.0)?.with_labels(labels))
}

/// A factor of a part of a loss.
fn factor(parameter: &str, value: f64) -> Result<f64> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(value),
        false => Err(Error::config(
            parameter,
            format!("must be 0 or more, is {value}"),
        )),
    }
}

/// The labels, each a class of these logits.
fn classes_of(input: &KdInput<'_>, student: &Tensor) -> Result<Tensor> {
    let labels = input.labels()?;
    let classes = student.size().last().copied().unwrap_or(0);
    check_classes(&labels, classes)?;
    Ok(labels)
}

/// [`losses::dkd`] at the labels; its weight grows over the first `warm_up` epochs.
pub(super) fn dkd(alpha: f64, beta: f64, warm_up: f64) -> Result<KdLoss> {
    let weights = (factor("alpha", alpha)?, factor("beta", beta)?);
    let warm_up = factor("warm_up", warm_up)?;
    let loss = KdLoss::at_labels(move |input| {
        let (student, teacher) = (input.student.whole()?, input.teacher.whole()?);
        let labels = classes_of(input, &student)?;
        let losses = losses::dkd_at_each(&student, &teacher, &labels, &input.temperature, weights)?;
        match (input.step.epoch as f64) < warm_up {
            true => Ok(losses.times(input.step.epoch as f64 / warm_up)?),
            false => Ok(losses),
        }
    });
    Ok(loss.with_own_square().in_parts().over_the_step())
}

/// [`losses::nkd`] at the labels.
pub(super) fn nkd(gamma: f64) -> Result<KdLoss> {
    let gamma = factor("gamma", gamma)?;
    let loss = KdLoss::at_labels(move |input| {
        let (student, teacher) = (input.student.whole()?, input.teacher.whole()?);
        losses::nkd_at_each(
            &student,
            &teacher,
            &classes_of(input, &student)?,
            &input.temperature,
            gamma,
        )
    });
    Ok(loss.with_own_square().in_parts().over_the_step())
}

/// [`losses::dist`] of all positions.
pub(super) fn dist(beta: f64, gamma: f64) -> Result<KdLoss> {
    let (beta, gamma) = (factor("beta", beta)?, factor("gamma", gamma)?);
    let loss = KdLoss::on_all(move |student, teacher, temperature| {
        losses::dist(student, teacher, temperature, beta, gamma)
    });
    Ok(loss.with_own_square())
}
