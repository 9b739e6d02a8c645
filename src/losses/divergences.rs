//! Divergences between the distributions of both models.
//!
//! All of them are means over the positions, have no factor τ², and are exactly 0 where both models
//! agree.

use tch::Tensor;

use super::log_probabilities::{LogProbabilities, divergence, is_impossible, over_classes};
use super::mean::mean;
use super::temperature::Temperature;
use crate::error::Result;
use crate::scalar::ScalarOps;

/// Divergence of the student from the teacher: `mean over positions of Σ p (log p − log q)`, with
/// `p = softmax(t/τ)` and `q = softmax(s/τ)`.
///
/// [Hinton et al. 2015](https://arxiv.org/abs/1503.02531) without their factor τ², which
/// [`kd_kl`](super::kd_kl) has. Its gradient is that of [`kd_ce`](super::kd_ce), which leaves
/// `Σ p log p` out. A class that the student masks with a logit of −∞ has no part in `log q`.
///
/// # Shape
/// Student and teacher: `[batch, classes]` or `[batch, length, classes]`, the same. A temperature of
/// each has the leading dimensions of the logits.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{forward_kl, kd_kl, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.5, 2.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, -1.0]]);
/// let loss = |tau: f64| -> textbrewer::Result<f64> {
///     let with_square = kd_kl(&student, &teacher, &Temperature::Constant(tau))?;
///     let without = forward_kl(&student, &teacher, &Temperature::Constant(tau))?;
///     Ok(with_square.double_value(&[]) / without.double_value(&[]))
/// };
/// assert!((loss(3.0)? - 9.0).abs() < 1e-9);
/// # textbrewer::Result::Ok(())
/// ```
pub fn forward_kl(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    mean(&forward_kl_at_each(student, teacher, temperature)?)
}

/// [`forward_kl`] at each position.
pub(crate) fn forward_kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("forward_kl", student, teacher, temperature)?;
    forward(&logs)
}

fn forward(logs: &LogProbabilities) -> Result<Tensor> {
    let masked = is_impossible(&logs.student)?;
    divergence(&logs.teacher, &logs.student.filled(&masked, 0.0)?)
}

/// Divergence of the teacher from the student: `mean over positions of Σ q (log q − log p)`.
///
/// It draws the student to the classes that the teacher finds likely, and lets it leave others out
/// (MiniLLM, [Gu et al. 2024](https://arxiv.org/abs/2306.08543)). No factor τ².
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{forward_kl, reverse_kl, Temperature};
///
/// let (one, other) = (Tensor::from_slice2(&[[0.5, 2.0]]), Tensor::from_slice2(&[[2.0, -1.0]]));
/// let tau = Temperature::Constant(2.0);
/// assert_eq!(reverse_kl(&one, &other, &tau)?, forward_kl(&other, &one, &tau)?);
/// # textbrewer::Result::Ok(())
/// ```
pub fn reverse_kl(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    mean(&reverse_kl_at_each(student, teacher, temperature)?)
}

/// [`reverse_kl`] at each position.
pub(crate) fn reverse_kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("reverse_kl", student, teacher, temperature)?;
    divergence(&logs.student, &logs.teacher)
}

/// Generalised Jensen–Shannon divergence:
/// `mean over positions of β KL(p‖m) + (1−β) KL(q‖m)`, with `m = β p + (1−β) q`
/// (GKD, [Agarwal et al. 2024](https://arxiv.org/abs/2306.13649)).
///
/// β, from 0 to 1, is the weight of the teacher. 0 is [`forward_kl`] and 1 is [`reverse_kl`], as in
/// TRL: not the limits of the formula, which are 0. Near the ends the loss is therefore small: at 0.01
/// about a hundredth of that at 0. DistiLLM's `lam` is `1 − β`. No factor τ².
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{generalized_jsd, Temperature};
///
/// let (one, other) = (Tensor::from_slice2(&[[0.5, 2.0]]), Tensor::from_slice2(&[[2.0, -1.0]]));
/// let tau = Temperature::Constant(1.0);
/// let jsd = |s, t, beta| generalized_jsd(s, t, &tau, beta);
/// let difference = jsd(&one, &other, 0.3)?.f_sub(&jsd(&other, &one, 0.7)?)?;
/// assert!(difference.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn generalized_jsd(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    beta: f64,
) -> Result<Tensor> {
    mean(&generalized_jsd_at_each(
        student,
        teacher,
        temperature,
        beta,
    )?)
}

/// [`generalized_jsd`] at each position.
pub(crate) fn generalized_jsd_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    beta: f64,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("generalized_jsd", student, teacher, temperature)?;
    jsd(&logs, beta)
}

/// [`generalized_jsd`] at each position, of logarithms that need not be those of whole distributions.
pub(super) fn jsd(logs: &LogProbabilities, beta: f64) -> Result<Tensor> {
    if beta == 0.0 {
        return forward(logs);
    }
    if beta == 1.0 {
        return divergence(&logs.student, &logs.teacher);
    }
    let mixture = logs.mixture(beta)?;
    let of_teacher = divergence(&logs.teacher, &mixture)?.times(beta)?;
    let of_student = divergence(&logs.student, &mixture)?.times(1.0 - beta)?;
    Ok(of_teacher.f_add(&of_student)?)
}

/// Skew divergence: `mean over positions of KL(p ‖ α p + (1−α) q)`
/// (DistiLLM, [Ko et al. 2024](https://arxiv.org/abs/2402.03898)).
///
/// α, from 0 to 1, is the teacher's share in what it is compared with; the paper uses 0.1. The
/// authors' code leaves `Σ p log p` out, so that its value is not 0 where both agree; the gradient is
/// the same. No factor τ².
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{forward_kl, skew_kl, Temperature};
///
/// let (student, teacher) = (Tensor::from_slice2(&[[0.5, 2.0]]), Tensor::from_slice2(&[[2.0, -1.0]]));
/// let tau = Temperature::Constant(1.0);
/// assert_eq!(skew_kl(&student, &teacher, &tau, 0.0)?, forward_kl(&student, &teacher, &tau)?);
/// # textbrewer::Result::Ok(())
/// ```
pub fn skew_kl(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    alpha: f64,
) -> Result<Tensor> {
    mean(&skew_kl_at_each(student, teacher, temperature, alpha)?)
}

/// [`skew_kl`] at each position.
pub(crate) fn skew_kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    alpha: f64,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("skew_kl", student, teacher, temperature)?;
    match alpha == 0.0 {
        true => forward(&logs),
        false => divergence(&logs.teacher, &logs.mixture(alpha)?),
    }
}

/// Skew reverse divergence: `mean over positions of KL(q ‖ (1−α) p + α q)`
/// (DistiLLM, [Ko et al. 2024](https://arxiv.org/abs/2402.03898)).
///
/// α, from 0 to 1, is the student's share in what it is compared with; the paper uses 0.1. No factor
/// τ².
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{skew_kl, skew_reverse_kl, Temperature};
///
/// let (one, other) = (Tensor::from_slice2(&[[0.5, 2.0]]), Tensor::from_slice2(&[[2.0, -1.0]]));
/// let tau = Temperature::Constant(1.0);
/// let difference = skew_reverse_kl(&one, &other, &tau, 0.1)?.f_sub(&skew_kl(&other, &one, &tau, 0.1)?)?;
/// assert!(difference.double_value(&[]).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn skew_reverse_kl(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    alpha: f64,
) -> Result<Tensor> {
    mean(&skew_reverse_kl_at_each(
        student,
        teacher,
        temperature,
        alpha,
    )?)
}

/// [`skew_reverse_kl`] at each position.
pub(crate) fn skew_reverse_kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    alpha: f64,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("skew_reverse_kl", student, teacher, temperature)?;
    divergence(&logs.student, &logs.mixture(1.0 - alpha)?)
}

/// Adaptive divergence: `mean over positions of h KL(p‖q) + (1−h) KL(q‖p)`
/// (AKL, [Wu et al. 2024](https://arxiv.org/abs/2404.02657)).
///
/// The head are the teacher's likeliest classes: the first, and those with which their probabilities
/// add up to at most µ, from 0 to 1 (the paper uses 0.5). h is the head's part of `Σ |p − q|`, a
/// constant for the gradient. Where both agree h is 0, and so is the loss; the authors' code gives NaN.
/// No factor τ². All classes are sorted, which takes time where there are many.
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{adaptive_kl, Temperature};
///
/// let logits = Tensor::from_slice2(&[[2.0, -1.0, 0.0]]);
/// let loss = adaptive_kl(&logits, &logits, &Temperature::Constant(1.0), 0.5)?;
/// assert_eq!(loss.double_value(&[]), 0.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn adaptive_kl(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    mu: f64,
) -> Result<Tensor> {
    mean(&adaptive_kl_at_each(student, teacher, temperature, mu)?)
}

/// [`adaptive_kl`] at each position.
pub(crate) fn adaptive_kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    mu: f64,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("adaptive_kl", student, teacher, temperature)?;
    let head = {
        let _constant = tch::no_grad_guard();
        share_of_head(&logs, mu)?
    };
    let (forward, reverse) = (forward(&logs)?, divergence(&logs.student, &logs.teacher)?);
    let difference = forward.f_sub(&reverse)?;
    Ok(reverse.f_add(&head.f_mul(&difference)?)?)
}

/// The part that the teacher's likeliest classes have in `Σ |p − q|`; 0 where that is 0.
fn share_of_head(logs: &LogProbabilities, mu: f64) -> Result<Tensor> {
    let (p, q) = (logs.teacher.f_exp()?, logs.student.f_exp()?);
    let gaps = p.f_sub(&q)?.f_abs()?;
    let (sorted, order) = p.f_sort(-1, true)?;
    let below = sorted.f_cumsum(-1, None)?.is_at_most(mu)?;
    // The likeliest is of the head whatever its probability.
    let rest = below
        .size()
        .last()
        .map_or(0, |classes| (classes - 1).max(0));
    let first = below.f_narrow(-1, 0, 1)?.f_ones_like()?;
    let head = Tensor::f_cat(&[first, below.f_narrow(-1, 1, rest)?], -1)?;
    let gaps = gaps.f_gather(-1, &order, false)?;
    let of_head = over_classes(&gaps.f_mul(&head)?)?;
    super::mean::per_count(&of_head, &over_classes(&gaps)?)
}

/// Total variation: `mean over positions of ½ Σ |p − q|`
/// (f-distill, [Wen et al. 2023](https://arxiv.org/abs/2307.15190)), from 0 to 1. No factor τ², which
/// DistillKit has.
///
/// # Shape
/// As for [`forward_kl`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{total_variation, Temperature};
///
/// let sure = |class: [f64; 2]| Tensor::from_slice2(&[class.map(|one| one * 1e4)]);
/// let loss = total_variation(&sure([1.0, 0.0]), &sure([0.0, 1.0]), &Temperature::Constant(1.0))?;
/// assert_eq!(loss.double_value(&[]), 1.0);
/// # textbrewer::Result::Ok(())
/// ```
pub fn total_variation(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    mean(&total_variation_at_each(student, teacher, temperature)?)
}

/// [`total_variation`] at each position.
pub(crate) fn total_variation_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let logs = LogProbabilities::of("total_variation", student, teacher, temperature)?;
    let gaps = logs.teacher.f_exp()?.f_sub(&logs.student.f_exp()?)?;
    Ok(over_classes(&gaps.f_abs()?)?.times(0.5)?)
}
