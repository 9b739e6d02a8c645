//! Sorted probabilities, token by token.

use tch::{Device, Kind, Tensor};

use super::answers::{Answer, answers, on_device};
use crate::error::Result;
use crate::losses::check::{in_students_kind, mismatch, sizes};
use crate::losses::mean::{mean, per_count};
use crate::losses::support::at_least_float32;
use crate::losses::temperature::{Temperature, at_temperature};
use crate::scalar::ScalarOps;

/// Universal logit distillation (ULD, [Boizard et al. 2024](https://arxiv.org/abs/2402.12030)): how far the sorted
/// probabilities of both models are apart, token by token of their answers, whatever the tokens are:
/// `mean over the batch of the mean over tokens of Σ_v |q_(v) − p_(v)|`.
///
/// A side is `(logits, labels, temperature)`. Its answer is where its labels are not −100; these have to stand
/// together. As in the authors'
/// code the logits are those of the positions before, which predict the labels, and the k-th token of one
/// answer is compared with the k-th of the other, as far as both go. A last token to leave out, such as the
/// end of the text, gets the label −100. An answer from position 0 on has no logits of its first token, which
/// is then left out on both sides. The smaller vocabulary is filled with zeros. An example without an answer
/// contributes 0.
///
/// # Shape
/// Logits: `[batch, length, classes]`, labels `[batch, length]`; lengths and classes may differ by side.
/// Labels are integers and are read on the CPU: leave them there, so that no device is waited for.
///
/// # Errors
/// When the shapes, kinds or devices of the logits do not fit, or labels that are not −100 do not stand together.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{uld, Temperature};
///
/// // The same probabilities, of other tokens and in another vocabulary.
/// let student = Tensor::from_slice(&[0.0, 3.0, 9.0, 9.0]).f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[4.0, 4.0, -900.0, 3.0, 0.0, -900.0, 0.0, 0.0, 0.0]).f_view([1, 3, 3])?;
/// let labels = Tensor::from_slice2(&[[-100, 1]]);
/// let teacher_labels = Tensor::from_slice2(&[[-100, -100, 0]]);
/// let tau = Temperature::Constant(1.0);
/// let loss = uld((&student, &labels, &tau), (&teacher, &teacher_labels, &tau))?;
/// assert!(loss.double_value(&[]) < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn uld(
    (student, student_labels, student_temperature): (&Tensor, &Tensor, &Temperature),
    (teacher, teacher_labels, teacher_temperature): (&Tensor, &Tensor, &Temperature),
) -> Result<Tensor> {
    let ([batch, length, _], [_, teachers_length, _]) = of_one_batch("uld", student, teacher)?;
    let teacher = in_students_kind("uld", student, teacher)?;
    let answers = [
        answers("uld", "student", student_labels, [batch, length])?,
        answers("uld", "teacher", teacher_labels, [batch, teachers_length])?,
    ];
    let Rows { first, count } = Rows::of(&answers, student.device())?;
    let most = length.min(teachers_length);
    let options = (Kind::Int64, student.device());
    let tokens = Tensor::f_arange(most, options)?.f_unsqueeze(0)?;
    let probabilities = |logits: &Tensor, first: &Tensor, temperature: &Temperature| {
        let at = first.f_add(&tokens)?;
        let last = logits.size3()?.1 - 1;
        let at = at.at_most(last.max(0))?.f_unsqueeze(2)?;
        let at = at.f_expand([-1, -1, logits.size3()?.2], false)?;
        let logits = at_least_float32(&at_temperature("uld", logits, temperature)?)?;
        let rows = logits.f_gather(1, &at, false)?;
        Result::Ok(rows.f_softmax(-1, None)?)
    };
    let q = probabilities(student, &first[0], student_temperature)?;
    let p = probabilities(&teacher, &first[1], teacher_temperature)?;
    let distances = sorted_distances(&q, &p)?;
    let kept = tokens.f_lt_tensor(&count)?.f_to_kind(distances.f_kind()?)?;
    let sum = |values: &Tensor| values.f_sum_dim_intlist([1i64].as_slice(), false, None);
    mean(&per_count(&sum(&distances.f_mul(&kept)?)?, &sum(&kept)?)?)
}

/// The logits that are compared, `[batch, 1]` each.
struct Rows {
    /// The first position of the student and of the teacher.
    first: [Tensor; 2],
    count: Tensor,
}

impl Rows {
    fn of(answers: &[Vec<Answer>; 2], device: Device) -> Result<Self> {
        let (mut firsts, mut teachers_firsts, mut counts) = (vec![], vec![], vec![]);
        for (student, teacher) in answers[0].iter().zip(&answers[1]) {
            // The first token is left out on both sides where one side has no logits of it.
            let left_out = i64::from(!(student.has_before && teacher.has_before));
            let first = |answer: &Answer| answer.first as i64 + left_out - 1;
            firsts.push(first(student));
            teachers_firsts.push(first(teacher));
            counts.push(student.ids.len().min(teacher.ids.len()) as i64 - left_out);
        }
        // In one tensor, which is copied once.
        let numbers = on_device(&[firsts, teachers_firsts, counts].concat(), device)?;
        let numbers = numbers.f_view([3, answers[0].len() as i64, 1])?;
        Ok(Rows {
            first: [numbers.f_select(0, 0)?, numbers.f_select(0, 1)?],
            count: numbers.f_select(0, 2)?,
        })
    }
}

/// The sizes of logits `[batch, length, classes]` of one batch.
pub(super) fn of_one_batch(
    loss: &str,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<([i64; 3], [i64; 3])> {
    let (size, teacher_size) = sizes(loss, student, teacher)?;
    let (&[batch, length, classes], &[teachers_batch, teachers_length, teachers_classes]) =
        (size.as_slice(), teacher_size.as_slice())
    else {
        let wanted = "logits [batch, length, classes]";
        return Err(mismatch(loss, wanted, &size, &teacher_size));
    };
    if batch != teachers_batch {
        return Err(mismatch(loss, "one batch", &size, &teacher_size));
    }
    Ok((
        [batch, length, classes],
        [teachers_batch, teachers_length, teachers_classes],
    ))
}

/// `Σ |q − p|` over the last dimension, both in falling order; what only one side has is compared with 0.
pub(super) fn sorted_distances(q: &Tensor, p: &Tensor) -> Result<Tensor> {
    let (q, p) = (&q.f_sort(-1, true)?.0, &p.f_sort(-1, true)?.0);
    let classes = |values: &Tensor| values.size().last().copied().unwrap_or(0);
    let common = classes(q).min(classes(p));
    let sum = |values: Tensor| values.f_sum_dim_intlist([-1i64].as_slice(), false, None);
    let both = q
        .f_narrow(-1, 0, common)?
        .f_sub(&p.f_narrow(-1, 0, common)?)?;
    let rest = |values: &Tensor| sum(values.f_narrow(-1, common, classes(values) - common)?);
    Ok(sum(both.f_abs()?)?.f_add(&rest(q)?)?.f_add(&rest(p)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(size: [i64; 3], from: f64) -> Tensor {
        let count = size.iter().product::<i64>();
        let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7 + from;
        (numbers.sin() * 3.0).view(size.as_slice())
    }

    #[test]
    fn an_answer_from_the_start_loses_its_first_token_on_both_sides() {
        let (student, teacher) = (waves([1, 4, 5], 0.1), waves([1, 4, 6], 0.6));
        let tau = Temperature::Constant(1.0);
        let loss = |labels: [i64; 4], teachers: [i64; 4]| {
            let (labels, teachers) = ([labels], [teachers]);
            let (labels, teachers) = (Tensor::from_slice2(&labels), Tensor::from_slice2(&teachers));
            uld((&student, &labels, &tau), (&teacher, &teachers, &tau))
                .unwrap()
                .double_value(&[])
        };
        let got = loss([1, 1, 1, -100], [-100, 1, 1, 1]);
        assert!(got > 1e-3);
        assert_eq!(got, loss([-100, 1, 1, -100], [-100, -100, 1, 1]));
        assert_eq!(loss([1, -100, -100, -100], [-100, 1, 1, 1]), 0.0);
        assert_eq!(loss([-100; 4], [-100, 1, 1, 1]), 0.0);
    }
}
