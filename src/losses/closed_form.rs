//! Divergences with their gradients in closed form, without a graph.
//!
//! With `q = softmax(s/τ)` and `gᵢ = ∂L/∂ log qᵢ`, the gradient of the student's logits is
//! `(gᵢ − qᵢ Σⱼ gⱼ)/τ`.

use tch::{Device, Tensor};

use super::divergence::{Divergence, known, share_of_head};
use super::log_probabilities::{
    LOG_OF_ZERO, LogProbabilities, divergence, is_impossible, over_classes,
};
use super::temperature::{Temperature, at_temperature, times_square};
use crate::error::Result;
use crate::scalar::ScalarOps;

/// At each of some rows of logits.
#[derive(Debug)]
pub(crate) struct ClosedForm {
    /// The losses, `[rows]`.
    pub(crate) losses: Tensor,
    /// Their gradients of the student's logits, `[rows, classes]`.
    pub(crate) gradient: Tensor,
}

impl Divergence {
    /// Losses and gradients of rows `[rows, classes]`. Nothing is recorded.
    pub(crate) fn closed_form(
        self,
        student: &Tensor,
        teacher: &Tensor,
        temperature: &Temperature,
    ) -> Result<ClosedForm> {
        let _no_history = tch::no_grad_guard();
        let name = self.name();
        let logs = LogProbabilities::of(name, student, teacher, temperature)?;
        let q = logs.student.f_exp()?;
        let (mut losses, slope) = self.losses_and_slopes(&logs, &q)?;
        let sums = slope.f_sum_dim_intlist([-1i64].as_slice(), true, None)?;
        let mut gradient = slope;
        let _ = gradient.f_addcmul_(&q, &sums.f_neg()?)?;
        let mut gradient = at_temperature(name, &gradient, temperature)?;
        if self == Divergence::Kl {
            losses = times_square(name, &losses, temperature)?;
            gradient = times_square_of_rows(name, gradient, temperature)?;
        }
        Ok(ClosedForm { losses, gradient })
    }

    /// At each row the loss without τ², and `∂L/∂ log q` up to a multiple of q, which the subtraction of
    /// `q Σ g` removes.
    fn losses_and_slopes(self, logs: &LogProbabilities, q: &Tensor) -> Result<(Tensor, Tensor)> {
        let LogProbabilities { student, teacher } = logs;
        match self {
            Divergence::CrossEntropy
            | Divergence::Kl
            | Divergence::ForwardKl
            | Divergence::SkewKl(0.0)
            | Divergence::GeneralizedJsd(0.0) => forward(logs, self == Divergence::CrossEntropy),
            Divergence::ReverseKl | Divergence::GeneralizedJsd(1.0) => {
                let slope = q.f_mul(&student.f_sub(teacher)?)?;
                Ok((over_classes(&slope)?, slope))
            }
            Divergence::GeneralizedJsd(beta) => {
                let mixture = logs.mixture(beta)?;
                let of_teacher = divergence(teacher, &mixture)?.times(beta)?;
                let slope = q.f_mul(&student.f_sub(&mixture)?)?.times(1.0 - beta)?;
                Ok((of_teacher.f_add(&over_classes(&slope)?)?, slope))
            }
            Divergence::SkewKl(alpha) => {
                let gaps = teacher.f_sub(&logs.mixture(alpha)?)?;
                let losses = over_classes(&teacher.f_exp()?.f_mul(&gaps)?)?;
                let slope = gaps.f_exp()?.f_mul(q)?.times(alpha - 1.0)?;
                Ok((losses, slope))
            }
            Divergence::SkewReverseKl(alpha) => {
                let gaps = student.f_sub(&logs.mixture(1.0 - alpha)?)?;
                let losses = over_classes(&q.f_mul(&gaps)?)?;
                let slope = gaps.f_sub(&gaps.f_exp()?.times(alpha)?)?.f_mul(q)?;
                Ok((losses, slope))
            }
            Divergence::TotalVariation => {
                let gaps = q.f_sub(&teacher.f_exp()?)?;
                let losses = over_classes(&gaps.f_abs()?)?.times(0.5)?;
                Ok((losses, gaps.f_sign()?.f_mul(q)?.times(0.5)?))
            }
            Divergence::AdaptiveKl(mu) => {
                let head = share_of_head(logs, mu)?;
                let (forward, of_forward) = forward(logs, false)?;
                let of_reverse = q.f_mul(&student.f_sub(teacher)?)?;
                let reverse = over_classes(&of_reverse)?;
                let losses = reverse.f_lerp_tensor(&forward, &head)?;
                let head = head.f_unsqueeze(-1)?;
                Ok((losses, of_reverse.f_lerp_tensor(&of_forward, &head)?))
            }
        }
    }
}

/// `Σ p (log p − log q)`, or `−Σ p log q`, and −p. Classes that the student masks have no part in
/// `log q`.
fn forward(logs: &LogProbabilities, is_cross_entropy: bool) -> Result<(Tensor, Tensor)> {
    let p = logs.teacher.f_exp()?;
    let (student, slope) = match has_masked(&logs.student)? {
        false => (logs.student.shallow_clone(), p.f_neg()?),
        true => {
            let masked = is_impossible(&logs.student)?;
            (known(&logs.student)?, p.filled(&masked, 0.0)?.f_neg_()?)
        }
    };
    let losses = match is_cross_entropy {
        true => over_classes(&slope.f_mul(&student)?)?,
        false => over_classes(&p.f_mul(&logs.teacher.f_sub(&student)?)?)?,
    };
    Ok((losses, slope))
}

/// Whether any class may have no probability. A device is not waited for: there it may.
fn has_masked(logs: &Tensor) -> Result<bool> {
    if logs.device() != Device::Cpu || logs.numel() == 0 {
        return Ok(true);
    }
    let least: f64 = logs.f_min()?.f_to_kind(tch::Kind::Double)?.try_into()?;
    Ok(least <= LOG_OF_ZERO)
}

/// `τ² x` of rows `[rows, classes]`.
pub(crate) fn times_square_of_rows(
    loss: &str,
    rows: Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    match temperature {
        Temperature::Constant(1.0) => Ok(rows),
        Temperature::Constant(value) => Ok(rows.times(value * value)?),
        Temperature::Each(_) => {
            let ones = rows.f_select(-1, 0)?.f_ones_like()?;
            let squares = times_square(loss, &ones, temperature)?;
            Ok(rows.f_mul(&squares.f_unsqueeze(-1)?)?)
        }
    }
}
