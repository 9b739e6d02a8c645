//! Losses between Gram matrices: how two layers of the student relate to each other,
//! against how two layers of the teacher do.

use tch::Tensor;

use super::check::{count_pairs, in_students_kind, mask_like, pairs, size_of};
use super::mean::{mean, per_count};
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// Mean squared error of the flows between two layers:
/// `mean((S₁ᵀS₂/length − T₁ᵀT₂/length)²)`, matrices of hidden size by hidden size.
///
/// A variant of [Yim et al. 2017](https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html).
/// With a mask, masked positions are left out of the products and of the lengths. An
/// example of which the mask keeps nothing contributes 0. Registered as `fsp` and `gram`.
///
/// # Shape
/// Each side: two states `[batch, length, hidden]`. The hidden sizes of student and
/// teacher are the same; the lengths as well when there is a mask `[batch, length]`.
///
/// # Errors
/// When there are not two states a side, or the shapes do not fit.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::losses::fsp;
///
/// let state = |length, value| Tensor::full([2, length, 4], value, (Kind::Float, Device::Cpu));
/// // All entries of the student's flow are 1 · 3, of the teacher's 1 · 1: lengths may differ.
/// let student = [state(5, 1.0), state(5, 3.0)];
/// let teacher = [state(7, 1.0), state(7, 1.0)];
/// let loss = fsp(&student, &teacher, None)?;
/// assert!((loss.double_value(&[]) - 4.0).abs() < 1e-5);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn fsp(student: &[Tensor], teacher: &[Tensor], mask: Option<&Tensor>) -> Result<Tensor> {
    let student = Two::new("fsp", "student", student)?;
    let teacher = in_kind_of("fsp", student.first, teacher)?;
    let teacher = Two::new("fsp", "teacher", &teacher)?;
    let grams = |two: &Two| [two.batch, two.hidden[0], two.hidden[1]];
    if grams(&student) != grams(&teacher) {
        let wanted = "student and teacher of one batch and hidden size (add `proj` to the match)";
        return Err(student.unlike("fsp", &teacher, wanted));
    }
    let Some(mask) = mask else {
        let difference = difference(
            (student.first, student.second, student.length),
            (teacher.first, teacher.second, teacher.length),
            |first, second| Ok((first.f_transpose(1, 2)?, second.shallow_clone())),
        )?;
        return mean(&difference.f_square()?);
    };
    if student.length != teacher.length {
        let wanted = "with a mask, student and teacher of one length";
        return Err(student.unlike("fsp", &teacher, wanted));
    }
    let positions = [student.batch, student.length];
    let mask = mask_like("fsp", mask, &positions, student.first)?;
    // Both factors are masked, and the product divided by the length: one weight for each
    // position, put onto one factor.
    let lengths = mask.f_sum_dim_intlist([1i64].as_slice(), true, None)?;
    let weights = per_count(&mask.f_square()?, &lengths)?.f_unsqueeze(2)?;
    let difference = difference(
        (student.first, student.second, 1),
        (teacher.first, teacher.second, 1),
        |first, second| {
            Ok((
                first.f_mul(&weights)?.f_transpose(1, 2)?,
                second.shallow_clone(),
            ))
        },
    )?;
    mean(&difference.f_square()?)
}

/// Mean squared error of the similarities between two layers' positions:
/// `mean((S₁S₂ᵀ/d − T₁T₂ᵀ/d)²)`, matrices of length by length.
///
/// A variant of [Neuron Selectivity Transfer](https://arxiv.org/abs/1707.01219), whose
/// maximum mean discrepancy gave it its name. With a mask, a pair of positions counts
/// when the mask keeps both. Student and teacher may have different hidden sizes.
/// Registered as `mmd` and `nst`.
///
/// The divisor `d` is each side's hidden size without a mask, and the length, padding
/// included, with one. That is what TextBrewer 0.2.1 computes; a weight found without
/// masks is therefore not the right one with them.
///
/// # Shape
/// Each side: two states `[batch, length, hidden]`; mask: `[batch, length]`.
///
/// # Errors
/// When there are not two states a side, or the shapes do not fit.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::losses::mmd;
///
/// let states = |hidden| Tensor::ones([2, 5, hidden], (Kind::Float, Device::Cpu));
/// let loss = mmd(&[states(3), states(3)], &[states(8), states(8)], None)?;
/// assert_eq!(loss.double_value(&[]), 0.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn mmd(student: &[Tensor], teacher: &[Tensor], mask: Option<&Tensor>) -> Result<Tensor> {
    let student = Two::new("mmd", "student", student)?;
    let teacher = in_kind_of("mmd", student.first, teacher)?;
    let teacher = Two::new("mmd", "teacher", &teacher)?;
    for side in [&student, &teacher] {
        if side.hidden[0] != side.hidden[1] {
            let wanted = "two layers of one hidden size on each side";
            return Err(student.unlike("mmd", &teacher, wanted));
        }
    }
    if (student.batch, student.length) != (teacher.batch, teacher.length) {
        let wanted = "student and teacher of one batch and length";
        return Err(student.unlike("mmd", &teacher, wanted));
    }
    let divisors = match mask {
        None => (student.hidden[0], teacher.hidden[0]),
        Some(_) => (student.length, teacher.length),
    };
    let mut squares = difference(
        (student.first, student.second, divisors.0),
        (teacher.first, teacher.second, divisors.1),
        |first, second| Ok((first.shallow_clone(), second.f_transpose(1, 2)?)),
    )?
    .f_square()?;
    let Some(mask) = mask else {
        return mean(&squares);
    };
    let positions = [student.batch, student.length];
    let mask = mask_like("mmd", mask, &positions, student.first)?;
    let sum = squares.f_mul_(&pairs(&mask)?)?.f_sum(None)?;
    per_count(&sum, &count_pairs(&mask)?)
}

/// `student's product / divisor − teacher's product / divisor`, in place, so that no matrix
/// is made just to be divided or subtracted.
fn difference(
    (student_first, student_second, student_divisor): (&Tensor, &Tensor, i64),
    (teacher_first, teacher_second, teacher_divisor): (&Tensor, &Tensor, i64),
    factors: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
) -> Result<Tensor> {
    let (left, right) = factors(teacher_first, teacher_second)?;
    let mut teacher = left.f_bmm(&right)?;
    let (left, right) = factors(student_first, student_second)?;
    let mut student = left.f_bmm(&right)?;
    for (product, divisor) in [
        (&mut teacher, teacher_divisor),
        (&mut student, student_divisor),
    ] {
        if divisor != 1 {
            product.over_(divisor as f64)?;
        }
    }
    Ok(student.f_sub_(&teacher)?)
}

fn in_kind_of(loss: &str, student: &Tensor, teacher: &[Tensor]) -> Result<Vec<Tensor>> {
    let convert = |state| in_students_kind(loss, student, state);
    teacher.iter().map(convert).collect()
}

/// Two states of one model.
struct Two<'a> {
    first: &'a Tensor,
    second: &'a Tensor,
    batch: i64,
    length: i64,
    hidden: [i64; 2],
}

impl<'a> Two<'a> {
    fn new(loss: &str, side: &str, states: &'a [Tensor]) -> Result<Self> {
        let [first, second] = states else {
            return Err(Error::shape(
                format!("{loss}, {side}"),
                "two states (name two layers a side, as in `\"layer_S\": [0, 2]`)",
                format!("{}", states.len()),
            ));
        };
        let size = |state| size_of(loss, side, state);
        let sizes = (size(first)?, size(second)?);
        match (sizes.0.as_slice(), sizes.1.as_slice()) {
            (&[batch, length, one], &[also_batch, also_length, two])
                if (batch, length) == (also_batch, also_length) =>
            {
                Ok(Two {
                    first,
                    second,
                    batch,
                    length,
                    hidden: [one, two],
                })
            }
            _ => Err(Error::shape(
                format!("{loss}, {side}"),
                "two states [batch, length, hidden] of one batch and length",
                format!("{:?} and {:?}", sizes.0, sizes.1),
            )),
        }
    }

    fn unlike(&self, loss: &str, teacher: &Two<'_>, wanted: &str) -> Error {
        Error::shape(
            loss,
            wanted,
            format!("student {} and teacher {}", self.shapes(), teacher.shapes()),
        )
    }

    fn shapes(&self) -> String {
        if self.hidden[0] == self.hidden[1] {
            format!("{:?}", self.first.size())
        } else {
            format!("{:?} with {:?}", self.first.size(), self.second.size())
        }
    }
}
