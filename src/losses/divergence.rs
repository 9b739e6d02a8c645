//! What is computed from the log-probabilities of both models, whatever classes they are of.

use tch::{Device, Tensor};

use super::kd::{ce_at_each, kl_at_each};
use super::log_probabilities::{LogProbabilities, divergence, is_impossible, over_classes};
use super::mean::{mean, per_count};
use super::sampled::cross_entropy_of_sample;
use super::temperature::{Temperature, times_square};
use crate::error::{Error, Result};
use crate::logits::{Logits, Tail, TopK};
use crate::scalar::ScalarOps;

/// A loss that needs no more of either model than log-probabilities: the teacher may then say only
/// its top k, or for some of them only a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Divergence {
    /// [`kd_ce`](super::kd_ce)
    CrossEntropy,
    /// [`kd_kl`](super::kd_kl), which has τ².
    Kl,
    /// [`forward_kl`](super::forward_kl)
    ForwardKl,
    /// [`reverse_kl`](super::reverse_kl)
    ReverseKl,
    /// [`generalized_jsd`](super::generalized_jsd) with this β.
    GeneralizedJsd(f64),
    /// [`skew_kl`](super::skew_kl) with this α.
    SkewKl(f64),
    /// [`skew_reverse_kl`](super::skew_reverse_kl) with this α.
    SkewReverseKl(f64),
    /// [`adaptive_kl`](super::adaptive_kl) with this µ.
    AdaptiveKl(f64),
    /// [`total_variation`](super::total_variation)
    TotalVariation,
}

impl Divergence {
    /// What errors are said to be of: its name in a configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Divergence::CrossEntropy => "ce",
            Divergence::Kl => "kl",
            Divergence::ForwardKl => "forward_kl",
            Divergence::ReverseKl => "reverse_kl",
            Divergence::GeneralizedJsd(_) => "generalized_jsd",
            Divergence::SkewKl(_) => "skew_kl",
            Divergence::SkewReverseKl(_) => "skew_reverse_kl",
            Divergence::AdaptiveKl(_) => "adaptive_kl",
            Divergence::TotalVariation => "total_variation",
        }
    }

    /// The mean over the positions of logits of all classes.
    pub(super) fn mean(
        self,
        student: &Tensor,
        teacher: &Tensor,
        temperature: &Temperature,
    ) -> Result<Tensor> {
        mean(&self.of_all(student, teacher, temperature)?)
    }

    /// At each position, of a teacher whose logits are of any kind.
    ///
    /// # Errors
    /// When the shapes do not fit, the loss cannot be estimated from a sample, or it is infinite
    /// with this treatment of the tail.
    pub(crate) fn at_each(
        self,
        student: &Tensor,
        teacher: &Logits,
        temperature: &Temperature,
        tail: Tail,
    ) -> Result<Tensor> {
        match teacher {
            Logits::TopK(top) => {
                self.is_finite_with(tail, student, top)?;
                let logs =
                    LogProbabilities::of_top_k(self.name(), student, top, temperature, tail)?;
                self.is_finite_for(&logs, tail, top)?;
                self.squared(self.of(&logs)?, temperature)
            }
            Logits::Sample(sample) => match self {
                Divergence::CrossEntropy | Divergence::ForwardKl | Divergence::Kl => {
                    let losses =
                        cross_entropy_of_sample(self.name(), student, sample, temperature)?;
                    self.squared(losses, temperature)
                }
                _ => Err(Error::shape(
                    self.name(),
                    "the teacher's logits or its top k (of a sample `forward_kl`, `kl` and `ce` can \
                     be estimated)",
                    "a sample of its classes",
                )),
            },
            whole => self.of_all(student, &whole.whole()?, temperature),
        }
    }

    fn of_all(
        self,
        student: &Tensor,
        teacher: &Tensor,
        temperature: &Temperature,
    ) -> Result<Tensor> {
        match self {
            Divergence::CrossEntropy => ce_at_each(student, teacher, temperature),
            Divergence::Kl => kl_at_each(student, teacher, temperature),
            other => other.of(&LogProbabilities::of(
                other.name(),
                student,
                teacher,
                temperature,
            )?),
        }
    }

    /// Times τ², for the one that has it by its definition.
    fn squared(self, losses: Tensor, temperature: &Temperature) -> Result<Tensor> {
        match self {
            Divergence::Kl => times_square(self.name(), &losses, temperature),
            _ => Ok(losses),
        }
    }

    /// At each position, without τ².
    fn of(self, logs: &LogProbabilities) -> Result<Tensor> {
        match self {
            Divergence::CrossEntropy => {
                let products = logs.teacher.f_exp()?.f_mul(&known(&logs.student)?)?;
                Ok(over_classes(&products)?.f_neg()?)
            }
            Divergence::Kl | Divergence::ForwardKl => forward(logs),
            Divergence::ReverseKl => divergence(&logs.student, &logs.teacher),
            Divergence::GeneralizedJsd(beta) => jsd(logs, beta),
            Divergence::SkewKl(0.0) => forward(logs),
            Divergence::SkewKl(alpha) => divergence(&logs.teacher, &logs.mixture(alpha)?),
            Divergence::SkewReverseKl(alpha) => {
                divergence(&logs.student, &logs.mixture(1.0 - alpha)?)
            }
            Divergence::AdaptiveKl(mu) => adaptive_kl(logs, mu),
            Divergence::TotalVariation => {
                let gaps = logs.teacher.f_exp()?.f_sub(&logs.student.f_exp()?)?;
                Ok(over_classes(&gaps.f_abs()?)?.times(0.5)?)
            }
        }
    }

    /// Whether a student that gives a class a probability is infinitely far, by `KL(q‖p)`, from a
    /// teacher that gives it none.
    fn ends_in_reverse(self) -> bool {
        match self {
            Divergence::ReverseKl | Divergence::AdaptiveKl(_) => true,
            Divergence::GeneralizedJsd(beta) => beta == 1.0,
            Divergence::SkewReverseKl(alpha) => alpha == 0.0,
            _ => false,
        }
    }

    fn is_finite_with(self, tail: Tail, student: &Tensor, top: &TopK) -> Result<()> {
        let all_are_known = student.defined() && student.size().last() == Some(&top.k());
        match tail == Tail::Renormalized && self.ends_in_reverse() && !all_are_known {
            true => Err(self.is_infinite(tail)),
            false => Ok(()),
        }
    }

    /// What the numbers alone say: a tail of no probability, or places that only fill up. Other devices
    /// than the CPU are not waited for. A position where the teacher says nothing at all is padding.
    fn is_finite_for(self, logs: &LogProbabilities, tail: Tail, top: &TopK) -> Result<()> {
        let is_looked_at = self.ends_in_reverse() && tail != Tail::Truncated;
        if !is_looked_at || top.log_tail().device() != Device::Cpu {
            return Ok(());
        }
        let _no_history = tch::no_grad_guard();
        let no_tail = is_impossible(top.log_tail())?;
        if tail != Tail::Renormalized && i64::try_from(&no_tail.f_any()?)? == 0 {
            return Ok(());
        }
        let lacks = is_impossible(&logs.teacher)?;
        let says_nothing = lacks.f_all_dim(-1, true)?;
        let is_apart = is_impossible(&logs.student)?
            .f_logical_or(&says_nothing)?
            .f_logical_not()?
            .f_logical_and(&lacks)?;
        match i64::try_from(&is_apart.f_any()?)? {
            0 => Ok(()),
            _ => Err(self.is_infinite(tail)),
        }
    }

    fn is_infinite(self, tail: Tail) -> Error {
        let name = self.name();
        match tail {
            Tail::Renormalized => Error::config(
                "tail",
                format!(
                    "`renormalized` gives the teacher no probability outside its top k, from which \
                     `{name}` is infinitely far; take another, such as `bucket`"
                ),
            ),
            _ => Error::config(
                "log_tail",
                format!(
                    "−∞ gives the classes outside the teacher's top k no probability, from which \
                     `{name}` is infinitely far; keep the logarithm of what they have (`TopK::of` \
                     does; 1 less the sum of the k rounds to 0)"
                ),
            ),
        }
    }
}

fn forward(logs: &LogProbabilities) -> Result<Tensor> {
    divergence(&logs.teacher, &known(&logs.student)?)
}

/// Log-probabilities with 0 for the classes that have no probability at all.
pub(super) fn known(logs: &Tensor) -> Result<Tensor> {
    let masked = is_impossible(logs)?;
    Ok(logs.filled(&masked, 0.0)?)
}

/// At each position, of logarithms that need not be those of whole distributions.
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

fn adaptive_kl(logs: &LogProbabilities, mu: f64) -> Result<Tensor> {
    let head = {
        let _constant = tch::no_grad_guard();
        share_of_head(logs, mu)?
    };
    let (forward, reverse) = (forward(logs)?, divergence(&logs.student, &logs.teacher)?);
    let difference = forward.f_sub(&reverse)?;
    Ok(reverse.f_add(&head.f_mul(&difference)?)?)
}

/// The part that the teacher's likeliest classes have in `Σ |p − q|`; 0 where that is 0.
pub(super) fn share_of_head(logs: &LogProbabilities, mu: f64) -> Result<Tensor> {
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
    per_count(&of_head, &over_classes(&gaps)?)
}
