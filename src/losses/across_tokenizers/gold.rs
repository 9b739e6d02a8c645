//! Sorted probabilities of groups of tokens, and direct comparison of shared ones.

use std::ops::Range;

use tch::Tensor;

use super::answers::on_device;
use super::merged::{LEAST, Merged, Side};
use super::uld::sorted_distances;
use crate::error::{Error, Result};
use crate::losses::check::share;
use crate::losses::divergence::jsd;
use crate::losses::log_probabilities::LogProbabilities;
use crate::scalar::ScalarOps;

/// [`uld`](super::uld) of the tokens that stand for the same piece of the text (GOLD,
/// [Patiño et al. 2025](https://huggingface.co/spaces/HuggingFaceH4/general-on-policy-logit-distillation)):
/// `mean over the batch of the mean over groups of Σ_v |q_(v) − p_(v)|`, both sides in falling order.
///
/// A side is `(logits, labels, temperature)`. Its answer is where its labels, the ids of its tokens, are not −100;
/// these have to stand together. `groups` are those of
/// each example, from [`alignment_groups`](super::alignment_groups), and count the tokens of the answers
/// from 0. By the chain rule a group's distribution is that of its last token, times the probabilities of the
/// tokens before it in the group, each of 1e-8 at least: `q(v) = P(v | all before) Π_k P(id_k | all before k)`.
/// It is not brought to a sum of 1.
///
/// A group that is empty on a side is left out. So is one whose first token is at position 0, for which there
/// are no logits. An example without groups contributes 0. With groups of one token a side this is
/// [`uld`](super::uld).
///
/// To leave out a last token, such as the end of the text, give it the label −100, as TRL does by default.
/// TRL's sum is `distillation_weight · gold + crossentropy_weight · cross_entropy`, the latter of the
/// student's logits and the labels one further.
///
/// This is what TRL calls `bayesian`. Its default, `observed`, is not here: it takes the logits at the tokens
/// themselves, which predict the next ones, so that each distribution and each probability is one token off.
///
/// # Shape
/// Logits: `[batch, length, classes]`, labels `[batch, length]`; lengths and classes may differ by side.
/// Labels are integers and are read on the CPU: leave them there, so that no device is waited for.
///
/// # Errors
/// When the shapes, kinds or devices of the logits do not fit, labels that are not −100 do not stand together or
/// are no classes, or a group goes beyond an answer.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{alignment_groups, byte_offsets, gold, Temperature};
///
/// // The answer "ab" is one token of the student and two of the teacher, after a prompt of one token.
/// let groups = alignment_groups(&byte_offsets("ab", &["ab"])?, &byte_offsets("ab", &["a", "b"])?);
/// // 0.3 and 0.7 on one side, half of 0.6 and 0.4 on the other.
/// let student = Tensor::from_slice(&[0.3f64, 0.7, 1.0, 1.0]).f_log()?.f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[0.5f64, 0.5, 0.6, 0.4, 1.0, 1.0]).f_log()?.f_view([1, 3, 2])?;
/// let (labels, teacher_labels) = (Tensor::from_slice2(&[[-100, 1]]), Tensor::from_slice2(&[[-100, 0, 1]]));
/// let tau = Temperature::Constant(1.0);
/// let loss = gold((&student, &labels, &tau), (&teacher, &teacher_labels, &tau), &[groups])?;
/// assert!((loss.double_value(&[]) - ((0.7f64 - 0.3) + (0.3 - 0.2))).abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn gold(
    student: Side<'_>,
    teacher: Side<'_>,
    groups: &[Vec<(Range<usize>, Range<usize>)>],
) -> Result<Tensor> {
    let merged = Merged::of("gold", student, teacher, groups)?;
    merged.mean(&sorted_distances(&merged.student, &merged.teacher)?)
}

/// [`gold`] with tokens that both vocabularies share compared with each other, and only the others
/// sorted: `mean over the batch of the mean over groups of w_s · JSD(shared) + w_o · Σ_v |q_(v) − p_(v)|`.
///
/// `shared` are pairs `(student's id, teacher's id)`, as of [`shared_tokens`](super::shared_tokens). JSD is
/// the formula of [`generalized_jsd`](crate::losses::generalized_jsd) with its `beta`, on the shared tokens'
/// probabilities as they are, of 1e-8 at least. They are not divided by their sum, so that this part is no
/// divergence: it can be negative, and need not be least where both agree.
///
/// `weights` are `(w_s, w_o)`. With `None`, as in TRL, w_s is the number of shared tokens by the teacher's
/// classes, and w_o is 1 − w_s. Where all tokens of a side are shared the second part is 0. Where none is
/// shared the first is, and with `None` the loss is [`gold`]; TRL stops with an error.
///
/// # Shape
/// As for [`gold`].
///
/// # Errors
/// As for [`gold`], and when a shared token is no class or comes twice, `beta` is not from 0 to 1, or a weight is
/// not finite.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{gold, gold_hybrid, Temperature};
///
/// // Two tokens that both vocabularies have, in another order.
/// let student = Tensor::from_slice(&[3.0, 1.0, 0.0, 0.0]).f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[1.0, 3.0, 0.0, 0.0]).f_view([1, 2, 2])?;
/// let labels = Tensor::from_slice2(&[[-100, 1]]);
/// let groups = [vec![(0..1, 0..1)]];
/// let tau = Temperature::Constant(1.0);
/// let hybrid = |shared: &[(i64, i64)]| -> textbrewer::Result<f64> {
///     let (student, teacher) = ((&student, &labels, &tau), (&teacher, &labels, &tau));
///     Ok(gold_hybrid(student, teacher, &groups, shared, 0.5, None)?.double_value(&[]))
/// };
/// assert!(hybrid(&[(0, 1), (1, 0)])?.abs() < 1e-12);
/// assert!(hybrid(&[(0, 0), (1, 1)])? > 0.1);
/// // Sorted, they are the same whatever they stand for.
/// assert!(hybrid(&[])?.abs() < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn gold_hybrid(
    student: Side<'_>,
    teacher: Side<'_>,
    groups: &[Vec<(Range<usize>, Range<usize>)>],
    shared: &[(i64, i64)],
    beta: f64,
    weights: Option<(f64, f64)>,
) -> Result<Tensor> {
    let beta = share("gold_hybrid, beta", beta)?;
    if let Some((of_shared, of_others)) = weights
        && !(of_shared.is_finite() && of_others.is_finite())
    {
        let reason = format!("must be finite, are ({of_shared}, {of_others})");
        return Err(Error::config("gold_hybrid, weights", reason));
    }
    let merged = Merged::of("gold_hybrid", student, teacher, groups)?;
    let (q, p) = (&merged.student, &merged.teacher);
    let (students, teachers): (Vec<_>, Vec<_>) = shared.iter().copied().unzip();
    let [students, teachers] = [
        Vocabulary::of("student", q, &students)?,
        Vocabulary::of("teacher", p, &teachers)?,
    ];
    let share = shared.len() as f64 / teachers.classes.max(1) as f64;
    let (of_shared, of_others) = weights.unwrap_or((share, 1.0 - share));
    let logs = LogProbabilities {
        student: students.shared(q)?.at_least(LEAST)?.f_log()?,
        teacher: teachers.shared(p)?.at_least(LEAST)?.f_log()?,
    };
    let divergences = merged.mean(&jsd(&logs, beta)?)?.times(of_shared)?;
    if students.others.is_empty() || teachers.others.is_empty() {
        return Ok(divergences);
    }
    let distances = sorted_distances(&students.others(q)?, &teachers.others(p)?)?;
    Ok(divergences.f_add(&merged.mean(&distances)?.times(of_others)?)?)
}

/// The tokens of one side, as its classes.
struct Vocabulary<'a> {
    classes: i64,
    shared: &'a [i64],
    others: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    fn of(side: &str, probabilities: &Tensor, shared: &'a [i64]) -> Result<Self> {
        let classes = probabilities.size2()?.1;
        let mut is_shared = vec![false; usize::try_from(classes).unwrap_or_default()];
        for id in shared {
            let known = usize::try_from(*id)
                .ok()
                .and_then(|id| is_shared.get_mut(id));
            let error = |wanted: String| {
                Err(Error::shape(
                    format!("gold_hybrid, shared tokens of the {side}"),
                    wanted,
                    format!("{id}"),
                ))
            };
            match known {
                None => return error(format!("classes of 0..{classes}")),
                Some(true) => return error("each class once".to_owned()),
                Some(known) => *known = true,
            }
        }
        let others = (0..classes)
            .zip(is_shared)
            .filter(|(_, is_shared)| !is_shared);
        Ok(Vocabulary {
            classes,
            shared,
            others: others.map(|(id, _)| id).collect(),
        })
    }

    fn shared(&self, probabilities: &Tensor) -> Result<Tensor> {
        at_classes(probabilities, self.shared)
    }

    fn others(&self, probabilities: &Tensor) -> Result<Tensor> {
        at_classes(probabilities, &self.others)
    }
}

fn at_classes(probabilities: &Tensor, ids: &[i64]) -> Result<Tensor> {
    let ids = on_device(ids, probabilities.device())?;
    Ok(probabilities.f_index_select(1, &ids)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{Temperature, uld};
    use tch::{Device, Kind};

    const TAU: Temperature = Temperature::Constant(1.5);

    fn waves(size: [i64; 3], from: f64) -> Tensor {
        let count = size.iter().product::<i64>();
        let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7 + from;
        (numbers.sin() * 3.0).view(size.as_slice())
    }

    /// Logits of 5 and of 6 classes.
    fn logits() -> (Tensor, Tensor) {
        (waves([2, 4, 5], 0.1), waves([2, 5, 6], 0.6))
    }

    /// Answers of 2 and 3 tokens of the student, and of 4 and 3 of the teacher.
    fn labels() -> (Tensor, Tensor) {
        (
            Tensor::from_slice2(&[[-100, 1, 2, -100], [-100, 1, 4, 2]]),
            Tensor::from_slice2(&[[-100, 5, 1, 3, 2], [-100, -100, 4, 0, 1]]),
        )
    }

    fn singles(count: usize) -> Vec<(Range<usize>, Range<usize>)> {
        (0..count).map(|at| (at..at + 1, at..at + 1)).collect()
    }

    #[test]
    fn with_groups_of_one_token_it_is_uld() {
        let ((student, teacher), (labels, of_teacher)) = (logits(), labels());
        let from_the_start = Tensor::from_slice2(&[[3, 1, 2, -100], [-100, 1, 4, 2]]);
        let each = Temperature::Each(Tensor::from_slice(&[0.5, 2.0]));
        for (labels, groups) in [(labels, [2, 3]), (from_the_start, [3, 3])] {
            let groups = groups.map(singles);
            let (student, teacher) = ((&student, &labels, &each), (&teacher, &of_teacher, &TAU));
            let expected = uld(student, teacher).unwrap().double_value(&[]);
            let got = gold(student, teacher, &groups).unwrap().double_value(&[]);
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
            let of_none = gold_hybrid(student, teacher, &groups, &[], 0.3, None).unwrap();
            assert_eq!(of_none.double_value(&[]), got);
        }
    }

    #[test]
    fn examples_without_groups_count_and_teach_nothing() {
        let ((student, teacher), (labels, of_teacher)) = (logits(), labels());
        let student = student.set_requires_grad(true);
        let loss = |groups: &[Vec<_>; 2]| {
            let (student, teacher) = ((&student, &labels, &TAU), (&teacher, &of_teacher, &TAU));
            gold(student, teacher, groups).unwrap()
        };
        let [first, second] = [vec![(0..2, 0..4)], vec![(0..1, 0..2), (1..3, 2..3)]];
        let both = loss(&[first.clone(), second.clone()]).double_value(&[]);
        let alone = loss(&[first, vec![(0..0, 0..1)]]).double_value(&[]);
        let other = loss(&[vec![], second]).double_value(&[]);
        assert!(alone > 1e-3 && other > 1e-3);
        assert!((both - alone - other).abs() < 1e-12);
        let nothing = loss(&[vec![], vec![]]);
        nothing.backward();
        assert_eq!(nothing.double_value(&[]), 0.0);
        assert_eq!(student.grad(), student.zeros_like());
    }
}
