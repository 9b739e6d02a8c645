//! Log-probabilities of both models at a temperature, which the divergences are made of.

use tch::Tensor;

use super::kd::fitting_logits;
use super::temperature::{Temperature, at_temperature};
use crate::error::Result;
use crate::scalar::ScalarOps;

/// `log q` of the student and `log p` of the teacher, `[.., classes]`.
#[derive(Debug)]
pub(super) struct LogProbabilities {
    pub(super) student: Tensor,
    pub(super) teacher: Tensor,
}

/// What stands for the logarithm of 0, which a class has whose logit is −∞. Times the probability of
/// 0 it is 0, where −∞ would be NaN.
pub(super) const LOG_OF_ZERO: f64 = -1e30;

impl LogProbabilities {
    /// Both at this temperature. `loss` is what errors are said to be of.
    pub(super) fn of(
        loss: &str,
        student: &Tensor,
        teacher: &Tensor,
        temperature: &Temperature,
    ) -> Result<Self> {
        let teacher = fitting_logits(loss, student, teacher)?;
        Ok(LogProbabilities {
            student: log_probabilities(loss, student, temperature)?.at_least(LOG_OF_ZERO)?,
            teacher: log_probabilities(loss, &teacher, temperature)?.at_least(LOG_OF_ZERO)?,
        })
    }

    /// `log(share · p + (1 − share) · q)`, never by the probabilities themselves: these underflow.
    pub(super) fn mixture(&self, share: f64) -> Result<Tensor> {
        if share == 0.0 {
            return Ok(self.student.shallow_clone());
        }
        if share == 1.0 {
            return Ok(self.teacher.shallow_clone());
        }
        let teacher = self.teacher.plus(share.ln())?;
        Ok(teacher.f_logaddexp(&self.student.plus((1.0 - share).ln())?)?)
    }
}

/// Those of one model at this temperature, −∞ where a class has no probability.
pub(super) fn log_probabilities(
    loss: &str,
    logits: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    Ok(at_temperature(loss, logits, temperature)?.f_log_softmax(-1, None)?)
}

/// `Σ p (log p − log q)` over the classes, for `log p` and `log q`.
pub(super) fn divergence(log_p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    let products = log_p.f_exp()?.f_mul(&log_p.f_sub(log_q)?)?;
    over_classes(&products)
}

/// The sum over the last dimension.
pub(super) fn over_classes(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
}

/// Whether a class has no probability at all.
pub(super) fn is_impossible(logs: &Tensor) -> Result<Tensor> {
    Ok(logs.is_at_most(LOG_OF_ZERO)?)
}
