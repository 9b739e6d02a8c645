//! Losses between how the positions of a sequence relate to each other: MiniLM.

use tch::{Kind, Tensor};

use super::check::{in_students_kind, mask_like, mismatch, sizes};
use super::log_probabilities::LOG_OF_ZERO;
use super::mean::{mean, per_count};
use super::support::at_least_float32;
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// The relations of MiniLM ([Wang et al. 2020](https://arxiv.org/abs/2002.10957)), of the last layer of each side:
/// the [`self_relation`] of queries with keys, which are the attentions, and of values with values.
///
/// The number of heads is that of both models. Take [`minilmv2`] where they differ.
///
/// # Shape
/// Each side: queries, keys and values `[batch, length, width]`, its heads beside each other in the
/// width; the widths of student and teacher may differ. Mask: `[batch, length]`. Registered as `minilm`,
/// with the argument `heads`, it takes them as one layer `[batch, 3, length, width]`.
///
/// # Errors
/// As for [`self_relation`].
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::losses::minilm;
///
/// let state = |width| Tensor::ones([2, 3, width], (Kind::Float, Device::Cpu));
/// let (student, teacher) = (state(4), state(8));
/// let heads = 2;
/// let loss = minilm([&student; 3], [&teacher; 3], heads, None)?;
/// assert!(loss.double_value(&[]).abs() < 1e-6);
/// # textbrewer::Result::Ok(())
/// ```
pub fn minilm(
    student: [&Tensor; 3],
    teacher: [&Tensor; 3],
    heads: i64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let [queries, keys, values] = student;
    let [queries_t, keys_t, values_t] = teacher;
    let attentions = relation("minilm", [queries, keys], [queries_t, keys_t], heads, mask)?;
    let of_values = relation("minilm", [values; 2], [values_t; 2], heads, mask)?;
    Ok(attentions.f_add(&of_values)?)
}

/// The relations of MiniLMv2 ([Wang et al. 2021](https://arxiv.org/abs/2012.15828)): the [`self_relation`]s of
/// queries with queries, keys with keys, and values with values, added.
///
/// The widths are cut anew into any number of `relation_heads`, so the models may have different numbers of
/// heads. The paper uses 48 or 64, and an upper layer of the teacher that is not the last. For other relations
/// or weights call [`self_relation`] for each.
///
/// # Shape
/// As for [`minilm`]; registered as `minilmv2`, with the argument `relation_heads`, 48 by default.
///
/// # Errors
/// As for [`self_relation`].
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::losses::minilmv2;
///
/// let state = |width| Tensor::ones([2, 3, width], (Kind::Float, Device::Cpu));
/// let (student, teacher) = (state(4), state(8));
/// let mask = Tensor::from_slice2(&[[1, 1, 0], [1, 1, 1]]);
/// let relation_heads = 4;
/// let loss = minilmv2([&student; 3], [&teacher; 3], relation_heads, Some(&mask))?;
/// assert!(loss.double_value(&[]).abs() < 1e-6);
/// # textbrewer::Result::Ok(())
/// ```
pub fn minilmv2(
    student: [&Tensor; 3],
    teacher: [&Tensor; 3],
    relation_heads: i64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let [queries, keys, values] = student.map(|state| [state; 2]);
    let [queries_t, keys_t, values_t] = teacher.map(|state| [state; 2]);
    relation("minilmv2", queries, queries_t, relation_heads, mask)?
        .f_add(&relation("minilmv2", keys, keys_t, relation_heads, mask)?)?
        .f_add(&relation(
            "minilmv2",
            values,
            values_t,
            relation_heads,
            mask,
        )?)
        .map_err(Into::into)
}

/// How far the student's relation between two states is from the teacher's:
/// `mean over batch, heads and positions of KL(R(T)‖R(S))`, with `R = softmax(XYᵀ/√d)`.
///
/// Both states are cut into `relation_heads` parts of width `d` each. A position that the mask leaves out
/// relates to no other, and no other to it. The mean is first that of an example's positions, then over the
/// batch, so an example counts the same whatever its length; one of which the mask keeps nothing contributes
/// 0. Padding may be on either side; the references cut each row to its first positions, which is right
/// for padding on the right only.
///
/// It does not mix examples, but its mean is over the examples, not over the positions of the batch.
///
/// # Shape
/// Each side: two states `[batch, length, width]` of one width, which `relation_heads` divides; the
/// widths of student and teacher may differ. Mask: `[batch, length]`; any number but 0 keeps a position.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::self_relation;
///
/// let states = |values: [f64; 4]| Tensor::from_slice(&values).f_view([1, 2, 2]);
/// let (student, teacher) = (states([1.0, 0.0, 0.0, 1.0])?, states([0.0, 2.0, 1.0, 0.0])?);
/// let relation_heads = 1;
/// let loss = self_relation([&student; 2], [&teacher; 2], relation_heads, None)?;
/// assert!(loss.double_value(&[]) > 0.01);
/// # textbrewer::Result::Ok(())
/// ```
pub fn self_relation(
    student: [&Tensor; 2],
    teacher: [&Tensor; 2],
    relation_heads: i64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    relation("self_relation", student, teacher, relation_heads, mask)
}

fn relation(
    loss: &str,
    student: [&Tensor; 2],
    teacher: [&Tensor; 2],
    heads: i64,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    check(loss, student, teacher, heads)?;
    let teacher = [
        in_students_kind(loss, student[0], teacher[0])?,
        in_students_kind(loss, student[0], teacher[1])?,
    ];
    let size = student[0].size();
    let positions = size.get(..2).unwrap_or_default();
    let like = at_least_float32(student[0])?;
    let kept = match mask {
        None => None,
        Some(mask) => Some(mask_like(loss, mask, positions, &like)?.is_not(0.0)?),
    };
    // Beside [batch, heads, length, length].
    let unkept = match &kept {
        None => None,
        Some(kept) => Some(kept.f_logical_not()?.f_unsqueeze(1)?.f_unsqueeze(1)?),
    };
    let student = logs(student, heads, unkept.as_ref())?;
    let teacher = logs([&teacher[0], &teacher[1]], heads, unkept.as_ref())?;
    let at_each = teacher
        .f_exp()?
        .f_mul(&teacher.f_sub(&student)?)?
        .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
        .f_sum_dim_intlist([1i64].as_slice(), false, None)?
        .over(heads)?;
    let Some(kept) = kept else {
        return mean(&at_each);
    };
    let kept = kept.f_to_kind(at_each.f_kind()?)?;
    let sum = |values: &Tensor| values.f_sum_dim_intlist([1i64].as_slice(), false, None);
    mean(&per_count(&sum(&at_each.f_mul(&kept)?)?, &sum(&kept)?)?)
}

/// The logarithms of a side's relation: `[batch, heads, length, length]`.
fn logs(states: [&Tensor; 2], heads: i64, unkept: Option<&Tensor>) -> Result<Tensor> {
    let cut = |state: &Tensor| -> Result<Tensor> {
        let (batch, length, width) = state.size3()?;
        let parts = at_least_float32(state)?.f_reshape([batch, length, heads, width / heads])?;
        Ok(parts.f_transpose(1, 2)?)
    };
    let [one, other] = states;
    let (one, other) = (cut(one)?, cut(other)?);
    let width = one.size().last().copied().unwrap_or(1).max(1) as f64;
    let scores = one
        .f_matmul(&other.f_transpose(-2, -1)?)?
        .over(width.sqrt())?;
    let scores = match unkept {
        None => scores,
        Some(unkept) => scores.filled(unkept, LOG_OF_ZERO)?,
    };
    Ok(scores.f_log_softmax(-1, None::<Kind>)?)
}

fn check(loss: &str, student: [&Tensor; 2], teacher: [&Tensor; 2], heads: i64) -> Result<()> {
    for (one, other) in [(student[0], teacher[0]), (student[1], teacher[1])] {
        sizes(loss, one, other)?;
    }
    // Kind and device of the second of the student's; those of the teacher are seen to later.
    let _ = in_students_kind(loss, student[0], student[1])?;
    let of = |[one, other]: [&Tensor; 2]| (one.size(), other.size());
    let ((size, second), (teacher_size, second_t)) = (of(student), of(teacher));
    if size != second || teacher_size != second_t {
        return Err(Error::shape(
            loss,
            "states of one shape on each side",
            format!("student {size:?} and {second:?}, teacher {teacher_size:?} and {second_t:?}"),
        ));
    }
    let divides = |width: i64| heads > 0 && width % heads == 0;
    match (size.as_slice(), teacher_size.as_slice()) {
        (&[batch, length, width], &[batch_t, length_t, width_t])
            if (batch, length) == (batch_t, length_t) =>
        {
            if divides(width) && divides(width_t) {
                return Ok(());
            }
            let argument = match loss {
                "minilm" => "heads",
                _ => "relation_heads",
            };
            let wanted =
                format!("widths that can be cut into {heads} heads (`{argument}`, at least 1)");
            Err(mismatch(loss, &wanted, &size, &teacher_size))
        }
        _ => {
            let wanted = "[batch, length, width] with one batch and length";
            Err(mismatch(loss, wanted, &size, &teacher_size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn waves(size: [i64; 3], from: f64) -> Tensor {
        let count = size.iter().product::<i64>();
        let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7 + from;
        numbers.sin().view(size.as_slice())
    }

    fn loss(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Tensor {
        self_relation([student; 2], [teacher; 2], 2, mask).unwrap()
    }

    #[test]
    fn padding_on_either_side_is_as_none() {
        let (student, teacher) = (waves([2, 3, 4], 0.1), waves([2, 3, 8], 0.5));
        let expected = loss(&student, &teacher, None).double_value(&[]);
        assert!(expected > 1e-3);
        let pad = |state: &Tensor, left: i64| {
            let width = state.size()[2];
            let full = Tensor::full([2, left, width], 77.0, (Kind::Double, Device::Cpu));
            let after = Tensor::full([2, 2 - left, width], -55.0, (Kind::Double, Device::Cpu));
            Tensor::cat(&[full, state.shallow_clone(), after], 1)
        };
        for left in 0..=2 {
            let mask: Vec<i64> = (0..5)
                .map(|at| i64::from(at >= left && at < left + 3))
                .collect();
            let mask = Tensor::from_slice(&mask).repeat([2, 1]);
            let student = pad(&student, left).set_requires_grad(true);
            let got = loss(&student, &pad(&teacher, left), Some(&mask));
            assert!((got.double_value(&[]) - expected).abs() < 1e-12, "{left}");
            got.backward();
            let gradient = student.grad();
            let padded = gradient
                .abs()
                .sum_dim_intlist([2i64].as_slice(), false, Kind::Double);
            assert_eq!((padded * mask.logical_not()).max().double_value(&[]), 0.0);
        }
    }

    #[test]
    fn nothing_kept_is_zero() {
        for kind in [Kind::Float, Kind::Double, Kind::Half] {
            let student = waves([2, 3, 4], 0.1).to_kind(kind).set_requires_grad(true);
            let mask = Tensor::zeros([2, 3], (Kind::Int64, Device::Cpu));
            let got = loss(&student, &waves([2, 3, 8], 0.5), Some(&mask));
            got.backward();
            assert_eq!(got.double_value(&[]), 0.0);
            assert_eq!(student.grad().abs().max().double_value(&[]), 0.0);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let state = |size: [i64; 3]| waves(size, 0.1);
        let error = |student: [&Tensor; 2], teacher: [&Tensor; 2], heads| {
            self_relation(student, teacher, heads, None)
                .unwrap_err()
                .to_string()
        };
        let (one, other) = (state([2, 3, 4]), state([2, 3, 6]));
        assert_eq!(
            error([&one; 2], [&other; 2], 4),
            "self_relation: expected widths that can be cut into 4 heads (`relation_heads`, at least 1), \
             got student [2, 3, 4] and teacher [2, 3, 6]"
        );
        assert!(error([&one; 2], [&other; 2], 0).contains("at least 1)"));
        assert!(error([&one, &other], [&one; 2], 2).contains("one shape on each side"));
        assert!(error([&one; 2], [&state([2, 4, 4]); 2], 2).contains("one batch and length"));
    }
}
