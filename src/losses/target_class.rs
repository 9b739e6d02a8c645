//! Losses that treat the true class and the others apart.

use tch::{Kind, Tensor};

use super::kd::fitting_logits;
use super::log_probabilities::{LOG_OF_ZERO, divergence, over_classes};
use super::mean::mean;
use super::temperature::{Temperature, at_temperature, times_square};
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// Log-probabilities of one model: of the true class, of all others together, and of each of the
/// others among themselves.
struct Apart {
    log_target: Tensor,
    log_others: Tensor,
    log_of_each_other: Tensor,
}

impl Apart {
    fn of(loss: &str, logits: &Tensor, labels: &Tensor, temperature: &Temperature) -> Result<Self> {
        let classes = logits.size().last().copied().unwrap_or(0);
        if classes < 2 {
            return Err(Error::shape(
                format!("{loss}, logits"),
                "at least two classes, of which one is the true one",
                classes.to_string(),
            ));
        }
        let scaled = at_temperature(loss, logits, temperature)?;
        let target = labels.f_to_kind(Kind::Int64)?.f_unsqueeze(-1)?;
        let all_classes = Tensor::f_arange(classes, (Kind::Int64, target.device()))?;
        let is_target = target.f_eq_tensor(&all_classes)?;
        let others = scaled.filled(&is_target, f64::NEG_INFINITY)?;
        let of_others = others.f_logsumexp([-1i64].as_slice(), false)?;
        let of_target = scaled.f_gather(-1, &target, false)?.f_squeeze_dim(-1)?;
        let all = of_target.f_logaddexp(&of_others)?;
        let each = others.f_log_softmax(-1, None)?.at_least(LOG_OF_ZERO)?;
        Ok(Apart {
            log_target: of_target.f_sub(&all)?.at_least(LOG_OF_ZERO)?,
            log_others: of_others.f_sub(&all)?.at_least(LOG_OF_ZERO)?,
            log_of_each_other: each,
        })
    }
}

/// Decoupled distillation (DKD, [Zhao et al. 2022](https://arxiv.org/abs/2203.08679)):
/// `mean over positions of τ² [α KL(b(p)‖b(q)) + β KL(p̂‖q̂)]`.
///
/// `b` are the probabilities of the true class and of all others together, `p̂` and `q̂` those of the
/// others among themselves. The paper uses α = 1 and β between 1 and 8 by the teacher. The authors' code
/// computes `log(1 − p_y)`, which is NaN where the student is sure; this does not.
///
/// # Shape
/// Student and teacher: `[batch, classes]` or `[batch, length, classes]`, the same. Labels: one for each
/// position, none of them negative. A temperature of each has the leading dimensions of the logits.
///
/// # Errors
/// When the shapes do not fit, or there are fewer than two classes.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{dkd, Temperature};
///
/// let logits = Tensor::from_slice2(&[[2.0, -1.0, 0.0]]);
/// let labels = Tensor::from_slice(&[0i64]);
/// let loss = dkd(&logits, &logits, &labels, &Temperature::Constant(4.0), 1.0, 8.0)?;
/// assert_eq!(loss.double_value(&[]), 0.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn dkd(
    student: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
    temperature: &Temperature,
    alpha: f64,
    beta: f64,
) -> Result<Tensor> {
    mean(&dkd_at_each(
        student,
        teacher,
        labels,
        temperature,
        (alpha, beta),
    )?)
}

/// [`dkd`] at each position.
pub(crate) fn dkd_at_each(
    student: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
    temperature: &Temperature,
    (alpha, beta): (f64, f64),
) -> Result<Tensor> {
    let teacher = fitting_logits("dkd", student, teacher)?;
    let q = Apart::of("dkd", student, labels, temperature)?;
    let p = Apart::of("dkd", &teacher, labels, temperature)?;
    let binary = |apart: &Apart| Tensor::f_stack(&[&apart.log_target, &apart.log_others], -1);
    let of_target = divergence(&binary(&p)?, &binary(&q)?)?.times(alpha)?;
    let of_others = divergence(&p.log_of_each_other, &q.log_of_each_other)?.times(beta)?;
    times_square("dkd", &of_target.f_add(&of_others)?, temperature)
}

/// Normalised distillation (NKD, [Yang et al. 2023](https://arxiv.org/abs/2303.13005)):
/// `mean over positions of −p_y log q_y − γ τ² Σ p̂ log q̂`.
///
/// The true class counts at temperature 1, the others among themselves at τ. The paper uses γ = 1.5.
/// These are cross entropies: the loss is not 0 where both models agree.
///
/// # Shape
/// As for [`dkd`].
///
/// # Errors
/// When the shapes do not fit, or there are fewer than two classes.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{nkd, Temperature};
///
/// let logits = Tensor::from_slice2(&[[0.0, 0.0]]);
/// let labels = Tensor::from_slice(&[0i64]);
/// // With two classes the only other one has all of its share.
/// let loss = nkd(&logits, &logits, &labels, &Temperature::Constant(4.0), 1.5)?;
/// assert_eq!(loss.double_value(&[]), 0.5 * 2f64.ln());
/// # textbrewer::Result::Ok(())
/// ```
pub fn nkd(
    student: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
    temperature: &Temperature,
    gamma: f64,
) -> Result<Tensor> {
    mean(&nkd_at_each(student, teacher, labels, temperature, gamma)?)
}

/// [`nkd`] at each position.
pub(crate) fn nkd_at_each(
    student: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
    temperature: &Temperature,
    gamma: f64,
) -> Result<Tensor> {
    let teacher = fitting_logits("nkd", student, teacher)?;
    let plain = Temperature::Constant(1.0);
    let (q, p) = (
        Apart::of("nkd", student, labels, &plain)?.log_target,
        Apart::of("nkd", &teacher, labels, &plain)?.log_target,
    );
    let of_target = p.f_exp()?.f_mul(&q)?;
    let (q, p) = (
        Apart::of("nkd", student, labels, temperature)?.log_of_each_other,
        Apart::of("nkd", &teacher, labels, temperature)?.log_of_each_other,
    );
    let of_others = over_classes(&p.f_exp()?.f_mul(&q)?)?.times(gamma)?;
    let of_others = times_square("nkd", &of_others, temperature)?;
    Ok(of_target.f_add(&of_others)?.f_neg()?)
}
