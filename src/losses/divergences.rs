//! Divergences between the distributions of both models.
//!
//! All of them are means over the positions, have no factor τ², and are exactly 0 where both models
//! agree.

use tch::Tensor;

use super::check::share;
use super::divergence::Divergence;
use super::temperature::Temperature;
use crate::error::Result;

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
    Divergence::ForwardKl.mean(student, teacher, temperature)
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
    Divergence::ReverseKl.mean(student, teacher, temperature)
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
/// When the shapes do not fit, or β is not from 0 to 1.
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
    let beta = share("generalized_jsd, beta", beta)?;
    Divergence::GeneralizedJsd(beta).mean(student, teacher, temperature)
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
/// When the shapes do not fit, or α is not from 0 to 1.
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
    let alpha = share("skew_kl, alpha", alpha)?;
    Divergence::SkewKl(alpha).mean(student, teacher, temperature)
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
/// When the shapes do not fit, or α is not from 0 to 1.
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
    let alpha = share("skew_reverse_kl, alpha", alpha)?;
    Divergence::SkewReverseKl(alpha).mean(student, teacher, temperature)
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
/// When the shapes do not fit, or µ is not from 0 to 1.
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
    let mu = share("adaptive_kl, mu", mu)?;
    Divergence::AdaptiveKl(mu).mean(student, teacher, temperature)
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
    Divergence::TotalVariation.mean(student, teacher, temperature)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Loss = fn(&Tensor, &Tensor, &Temperature, f64) -> Result<Tensor>;

    #[test]
    fn shares_are_from_0_to_1() {
        let logits = Tensor::from_slice2(&[[0.5, 2.0]]);
        let tau = Temperature::Constant(1.0);
        let losses: [(&str, Loss); 4] = [
            ("generalized_jsd, beta", generalized_jsd),
            ("skew_kl, alpha", skew_kl),
            ("skew_reverse_kl, alpha", skew_reverse_kl),
            ("adaptive_kl, mu", adaptive_kl),
        ];
        for (place, loss) in losses {
            for share in [1.5, -0.1, f64::NAN] {
                let error = loss(&logits, &logits, &tau, share).unwrap_err();
                let expected = format!("{place}: must be from 0 to 1, is {share}");
                assert_eq!(error.to_string(), expected);
            }
            for share in [0.0, 1.0] {
                assert!(loss(&logits, &logits, &tau, share).is_ok());
            }
        }
    }
}
