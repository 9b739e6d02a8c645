//! Distillation from a target that moves from the student to the teacher.

use tch::Tensor;

use super::log_probabilities::{LogProbabilities, is_impossible, over_classes};
use super::mean::mean;
use super::temperature::Temperature;
use crate::error::{Error, Result};
use crate::kind::defined;
use crate::scalar::ScalarOps;
#[cfg(doc)]
use crate::schedule::TaidSchedule;

/// Cross entropy under a target between student and teacher:
/// `−mean over positions of Σ r log q`, with `r = softmax((1−t) s/τ + t · teacher/τ)`
/// (TAID, [Shing et al. 2025](https://arxiv.org/abs/2501.16937)).
///
/// The student's logits in `r` have no gradient, so that the gradient is that of `KL(r‖q)`. `t`, one
/// number, moves from the student, 0, to the teacher, 1: a [`TaidSchedule`] says how. At 1 this is
/// [`kd_ce`](super::kd_ce). It is a cross entropy, as the authors' code has it and their schedule
/// wants it, and not 0 where both models agree.
///
/// The paper has no temperature; here it divides the logits of both. No factor τ². A class that the
/// student masks with a logit of −∞ has no part in `log q`.
///
/// # Shape
/// As for [`forward_kl`](super::forward_kl).
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_ce, taid, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.5, 2.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, -1.0]]);
/// let tau = Temperature::Constant(1.0);
/// let at = |t: f64| taid(&student, &teacher, &tau, &Tensor::from_slice(&[t]));
/// let own_entropy = kd_ce(&student, &student, &tau)?;
/// assert!(at(0.0)?.f_sub(&own_entropy)?.double_value(&[]).abs() < 1e-12);
/// let entropy = kd_ce(&student, &teacher, &tau)?;
/// assert!(at(1.0)?.f_sub(&entropy)?.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn taid(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    t: &Tensor,
) -> Result<Tensor> {
    mean(&taid_at_each(student, teacher, temperature, t)?)
}

/// [`taid`] at each position.
pub(crate) fn taid_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    t: &Tensor,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("taid", student, teacher, temperature)?;
    let target = {
        let _constant = tch::no_grad_guard();
        target_at(&logs, &one_number("t of taid", t)?)?
    };
    let masked = is_impossible(&logs.student)?;
    let products = target.f_mul(&logs.student.filled(&masked, 0.0)?)?;
    Ok(over_classes(&products)?.f_neg()?)
}

/// `r`: of log-probabilities in place of logits, which differ from them by a number a position.
fn target_at(logs: &LogProbabilities, t: &Tensor) -> Result<Tensor> {
    let rest = t.f_neg()?.plus(1.0)?;
    let mut mixed = logs.student.f_mul(&rest)?;
    let _ = mixed.f_add_(&logs.teacher.f_mul(t)?)?;
    Ok(mixed.f_softmax(-1, None)?)
}

/// A single number without dimensions. With them its kind could become that of the result.
pub(crate) fn one_number(what: &str, number: &Tensor) -> Result<Tensor> {
    defined(what, number)?;
    match number.numel() {
        1 => Ok(number.f_reshape([0i64; 0])?),
        _ => Err(Error::shape(
            what,
            "a single number",
            format!("shape {:?}", number.size()),
        )),
    }
}
