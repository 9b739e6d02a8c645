//! How far two models agree, beside any loss.

use tch::{Device, Kind, Tensor};

use super::check::size_of;
use super::kd::fitting_logits;
use super::log_probabilities::{LOG_OF_ZERO, log_probabilities, over_classes};
use super::support::at_least_float32;
use super::temperature::Temperature;
use crate::error::{Error, Result};
use crate::kind::in_kind;
use crate::scalar::ScalarOps;

/// How far a student agrees with its teacher at each position; made by [`agreement`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Agreement {
    /// 1 where both find the same class likeliest, 0 elsewhere: `argmax s = argmax t`.
    pub best: Tensor,
    /// Which part of the teacher's k likeliest classes is among the student's k likeliest:
    /// `|T ∩ S| / k`.
    pub top_k: Tensor,
    /// The student's entropy in nats: `−Σ q log q`.
    pub student_entropy: Tensor,
    /// The teacher's entropy in nats: `−Σ p log p`.
    pub teacher_entropy: Tensor,
    /// The student's probability of the teacher's k likeliest classes: `Σ q` over `T`.
    pub student_mass: Tensor,
}

/// How far a student agrees with its teacher: to be looked at, not learned from.
///
/// With `q = softmax(s)` and `p = softmax(t)`, at temperature 1, and `S` and `T` the k likeliest
/// classes of either model:
///
/// - [`best`](Agreement::best): `argmax s = argmax t`, of equal logits the first
/// - [`top_k`](Agreement::top_k): `|T ∩ S| / k`
/// - [`student_entropy`](Agreement::student_entropy): `−Σ q log q`
/// - [`teacher_entropy`](Agreement::teacher_entropy): `−Σ p log p`
/// - [`student_mass`](Agreement::student_mass): `Σ q` over `T`
///
/// A class with a logit of −∞ adds 0 to an entropy. Where more classes share the k-th largest logit
/// than there is room for, `S` and `T` have some of them. No gradient is recorded. Logits of 16 bits
/// are compared in `float32`.
///
/// # Shape
/// Student and teacher: `[.., classes]`, the same. The results: `[..]`.
///
/// # Errors
/// When the shapes do not fit, or k is not a number of classes: below 1, or above all of them.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::agreement;
///
/// // Probabilities of 1/2, 1/4 and 1/4, and of 1/4, 1/4 and 1/2.
/// let student = Tensor::from_slice2(&[[2f64.ln(), 0.0, -1e-9]]);
/// let teacher = Tensor::from_slice2(&[[0.0, -1e-9, 2f64.ln()]]);
/// let agreement = agreement(&student, &teacher, 2)?;
/// let value = |tensor: &Tensor| tensor.double_value(&[0]);
/// assert_eq!(value(&agreement.best), 0.0);
/// // Of the teacher's best two, the last and the first, the student has the first among its own.
/// assert_eq!(value(&agreement.top_k), 0.5);
/// assert!((value(&agreement.student_mass) - 0.75).abs() < 1e-8);
/// assert!((value(&agreement.student_entropy) - 1.5 * 2f64.ln()).abs() < 1e-8);
/// # textbrewer::Result::Ok(())
/// ```
pub fn agreement(student: &Tensor, teacher: &Tensor, k: i64) -> Result<Agreement> {
    let _no_history = tch::no_grad_guard();
    size_of(NAME, "student", student)?;
    size_of(NAME, "teacher", teacher)?;
    // Before the teacher's are brought to the student's kind, which may hold less of them.
    let student = at_least_float32(student)?;
    let teacher = fitting_logits(NAME, &student, &at_least_float32(teacher)?)?;
    let classes = student.size().last().copied().unwrap_or(0);
    if !(1..=classes).contains(&k) {
        return Err(Error::shape(
            format!("{NAME}, k"),
            format!("how many of the {classes} classes to compare, at least 1"),
            k.to_string(),
        ));
    }
    let size = student.size();
    let positions = size.split_last().map_or(&[][..], |(_, before)| before);
    let rows = |logits: &Tensor| logits.f_reshape([-1, classes]);
    let (student, teacher) = (rows(&student)?, rows(&teacher)?);
    let count = student.size2()?.0;
    let of_a_block = rows_of_a_block(classes, student.device());
    let mut blocks = Vec::new();
    let mut start = 0;
    // Once where there is no position, too.
    while start < count || blocks.is_empty() {
        let length = of_a_block.min(count - start);
        let rows = |logits: &Tensor| logits.f_narrow(0, start, length);
        blocks.push(numbers(&rows(&student)?, &rows(&teacher)?, k)?);
        start += length;
    }
    let all = Tensor::f_cat(&blocks, -1)?;
    let number =
        |index: i64| -> Result<Tensor> { Ok(all.f_select(0, index)?.f_reshape(positions)?) };
    Ok(Agreement {
        best: number(0)?,
        top_k: number(1)?,
        student_entropy: number(2)?,
        teacher_entropy: number(3)?,
        student_mass: number(4)?,
    })
}

/// The five numbers of each row, `[5, rows]`.
fn numbers(student: &Tensor, teacher: &Tensor, k: i64) -> Result<Tensor> {
    let kind = student.f_kind()?;
    let (_, of_student) = student.f_topk(k, -1, true, true)?;
    let (_, of_teacher) = teacher.f_topk(k, -1, true, true)?;
    let best = student
        .f_argmax(-1, false)?
        .f_eq_tensor(&teacher.f_argmax(-1, false)?)?;
    let logs = finite_logs(student)?;
    let mass = logs.f_gather(-1, &of_teacher, false)?.f_exp()?;
    Ok(Tensor::f_stack(
        &[
            in_kind(&best, kind)?,
            in_kind(&in_both(&of_student, &of_teacher)?, kind)?.over(k as f64)?,
            entropy(&logs)?,
            entropy(&finite_logs(teacher)?)?,
            over_classes(&mass)?,
        ],
        0,
    )?)
}

/// How many rows to compute at a time: as many as fit into a processor's cache with what is computed of
/// them, or as keep a device busy.
pub(crate) fn rows_of_a_block(classes: i64, device: Device) -> i64 {
    let bytes = match device {
        Device::Cpu => 1 << 20,
        _ => 32 << 20,
    };
    // A softmax divides rows among threads.
    let least = match device {
        Device::Cpu => i64::from(tch::get_num_threads()),
        _ => 1,
    };
    (bytes / (4 * classes.max(1))).max(least).max(1)
}

const NAME: &str = "agreement";

/// At temperature 1, with a finite number for the logarithm of 0.
fn finite_logs(logits: &Tensor) -> Result<Tensor> {
    let logs = log_probabilities(NAME, logits, &Temperature::Constant(1.0))?;
    Ok(logs.at_least(LOG_OF_ZERO)?)
}

fn entropy(logs: &Tensor) -> Result<Tensor> {
    let products = logs.f_exp()?.f_mul_(logs)?;
    Ok(over_classes(&products)?.f_neg()?)
}

/// How many classes are in both lists, neither of which has one twice. What is in both stands side
/// by side when they are sorted together, without a tensor of all classes or of all pairs.
fn in_both(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (sorted, _) = Tensor::f_cat(&[one, other], -1)?.f_sort(-1, false)?;
    let pairs = 2 * one.size().last().copied().unwrap_or(0) - 1;
    let first = sorted.f_narrow(-1, 0, pairs)?;
    let is_again = first.f_eq_tensor(&sorted.f_narrow(-1, 1, pairs)?)?;
    Ok(is_again.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64)?)
}

/// How many numbers an [`Agreement`] has at a position.
pub(crate) const NUMBERS: usize = 5;

impl Agreement {
    /// Under which names the numbers are logged, in the order of [`sums`](Self::sums).
    pub(crate) fn names(k: u64) -> [String; NUMBERS] {
        [
            "best_agreement".to_owned(),
            format!("top{k}_overlap"),
            "student_entropy".to_owned(),
            "teacher_entropy".to_owned(),
            format!("student_mass_on_top{k}"),
        ]
    }

    /// `Σ share · number` over the positions for each of the numbers, `[5]`, of the kind of the
    /// shares: where positions come in parts, the sums of the parts add up to the mean.
    pub(crate) fn sums(&self, shares: &Tensor) -> Result<Tensor> {
        let _no_history = tch::no_grad_guard();
        let Agreement {
            best,
            top_k,
            student_entropy,
            teacher_entropy,
            student_mass,
        } = self;
        let numbers = [best, top_k, student_entropy, teacher_entropy, student_mass];
        let numbers = Tensor::f_stack(&numbers, 0)?.f_reshape([NUMBERS as i64, -1])?;
        Ok(in_kind(&numbers, shares.f_kind()?)?.f_mv(&shares.f_reshape([-1i64])?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of positions give the mean over all that have a weight.
    #[test]
    fn sums_of_parts_are_a_weighted_mean() {
        let student = Tensor::from_slice2(&[[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [9.0, 0.0, 0.0]]);
        let teacher = Tensor::from_slice2(&[[2.0, 0.5, 1.0], [2.0, 1.0, 0.0], [0.0, 7.0, 0.0]]);
        let all = agreement(&student, &teacher, 2).unwrap();
        let shares = Tensor::from_slice(&[0.25f32, 0.75, 0.0]);
        let mut sums = Tensor::zeros([NUMBERS as i64], (Kind::Float, shares.device()));
        for (start, length) in [(0, 2), (2, 1)] {
            let rows = |tensor: &Tensor| tensor.narrow(0, start, length);
            let part = agreement(&rows(&student), &rows(&teacher), 2).unwrap();
            sums += part.sums(&rows(&shares)).unwrap();
        }
        let value = |tensor: &Tensor, at: i64| tensor.double_value(&[at]);
        let numbers = [
            (&all.best, "best_agreement"),
            (&all.top_k, "top2_overlap"),
            (&all.student_entropy, "student_entropy"),
            (&all.teacher_entropy, "teacher_entropy"),
            (&all.student_mass, "student_mass_on_top2"),
        ];
        for (index, (number, name)) in numbers.into_iter().enumerate() {
            let mean = 0.25 * value(number, 0) + 0.75 * value(number, 1);
            let sum = value(&sums, index as i64);
            assert!((sum - mean).abs() < 1e-6, "{name}: {sum} and {mean}");
            assert_eq!(Agreement::names(2)[index], name);
        }
        assert_eq!(value(&sums, 0), 0.25);
        // Of two classes each, one is in both at the first position and two at the second.
        assert_eq!(value(&sums, 1), 0.25 * 0.5 + 0.75 * 0.5);
    }
}
