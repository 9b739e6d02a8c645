//! Finds tensors that do not fit before libtorch broadcasts them into nonsense.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::{in_kind, is_floating, undefined};

/// `student` and `teacher` do not fit; `wanted` says what would, and what to do.
pub(super) fn mismatch(loss: &str, wanted: &str, student: &[i64], teacher: &[i64]) -> Error {
    Error::shape(
        loss,
        wanted,
        format!("student {student:?} and teacher {teacher:?}"),
    )
}

/// The shapes of both sides, if both are tensors that have one.
pub(super) fn sizes(
    loss: &str,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<(Vec<i64>, Vec<i64>)> {
    Ok((
        size_of(loss, "student", student)?,
        size_of(loss, "teacher", teacher)?,
    ))
}

/// The shape of a tensor that `loss` was given as `argument`.
pub(super) fn size_of(loss: &str, argument: &str, tensor: &Tensor) -> Result<Vec<i64>> {
    match tensor.defined() {
        true => Ok(tensor.size()),
        false => Err(undefined(format!("{loss}, {argument}"))),
    }
}

/// Hidden states that a loss compares element by element.
pub(super) fn same_hidden(loss: &str, student: &[i64], teacher: &[i64]) -> Result<()> {
    if student == teacher {
        return Ok(());
    }
    let wanted = match (student.split_last(), teacher.split_last()) {
        (Some((_, before)), Some((_, also_before))) if before == also_before => {
            "student and teacher of one hidden size (add `proj` to the match)"
        }
        _ => "student and teacher of one shape",
    };
    Err(mismatch(loss, wanted, student, teacher))
}

/// The teacher's tensor in the student's kind, if both have one shape: libtorch would stretch
/// dimensions of size 1 and go on with nonsense.
///
/// `loss` is what an error is said to be of, `wanted` says in it what would fit.
///
/// # Errors
/// When the shapes differ, and as for the student's kind.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::fitting;
///
/// let (student, teacher) = (Tensor::from_slice2(&[[1.0]]), Tensor::from_slice2(&[[1.0, 2.0]]));
/// let wanted = "logits of one shape";
/// assert_eq!(
///     fitting("my loss", wanted, &student, &teacher).unwrap_err().to_string(),
///     "my loss: expected logits of one shape, got student [1, 1] and teacher [1, 2]"
/// );
/// assert_eq!(fitting("my loss", wanted, &student, &student)?, student);
/// # textbrewer::Result::Ok(())
/// ```
pub fn fitting(loss: &str, wanted: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (size, teacher_size) = sizes(loss, student, teacher)?;
    match size == teacher_size {
        true => in_students_kind(loss, student, teacher),
        false => Err(mismatch(loss, wanted, &size, &teacher_size)),
    }
}

/// The teacher's tensor in the student's kind, which is the one to train in.
///
/// # Errors
/// When one of them is undefined or holds no floating-point numbers, or they are on two devices.
pub(super) fn in_students_kind(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    sizes(loss, student, teacher)?;
    let kinds = (student.f_kind()?, teacher.f_kind()?);
    check_kinds(loss, kinds)?;
    check_devices(loss, (student.device(), teacher.device()))?;
    in_kind(teacher, kinds.0)
}

fn check_kinds(loss: &str, (student, teacher): (Kind, Kind)) -> Result<()> {
    if is_floating(student) && is_floating(teacher) {
        return Ok(());
    }
    Err(Error::shape(
        loss,
        "floating-point numbers on both sides (convert with `to_kind`)",
        format!("student {student:?} and teacher {teacher:?}"),
    ))
}

fn check_devices(loss: &str, (student, teacher): (Device, Device)) -> Result<()> {
    if student == teacher {
        return Ok(());
    }
    Err(Error::shape(
        loss,
        "student and teacher on one device (move one with `to_device`)",
        format!("student on {student:?} and teacher on {teacher:?}"),
    ))
}

/// A mask of exactly the shape `wanted`, as numbers of the kind of `like`, where `like` is.
///
/// # Errors
/// When the mask has another shape, or a tensor is undefined.
///
/// ```
/// use tch::{Kind, Tensor};
/// use textbrewer::losses::support::mask_like;
///
/// let losses = Tensor::from_slice2(&[[0.5f32, 2.0]]);
/// let mask = Tensor::from_slice2(&[[true, false]]);
/// assert_eq!(mask_like("my loss", &mask, &[1, 2], &losses)?.f_kind()?, Kind::Float);
/// let error = mask_like("my loss", &mask, &[2], &losses).unwrap_err();
/// assert!(error.to_string().starts_with("my loss, mask: expected [batch, length] = [2]"));
/// # textbrewer::Result::Ok(())
/// ```
pub fn mask_like(loss: &str, mask: &Tensor, wanted: &[i64], like: &Tensor) -> Result<Tensor> {
    let got = size_of(loss, "mask", mask)?;
    size_of(loss, "what the mask is for", like)?;
    if got != wanted {
        return Err(Error::shape(
            format!("{loss}, mask"),
            format!("[batch, length] = {wanted:?}, one number for each position"),
            format!("{got:?}"),
        ));
    }
    let device = like.device();
    let mask = match mask.device() == device {
        true => mask.shallow_clone(),
        false => mask.f_to_device(device)?,
    };
    in_kind(&mask, like.f_kind()?)
}

/// A number from 0 to 1.
pub(crate) fn share(parameter: impl Into<String>, value: f64) -> Result<f64> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => Err(Error::config(
            parameter,
            format!("must be from 0 to 1, is {value}"),
        )),
    }
}

/// `mask_i * mask_j` for each pair of positions: `[batch, length]` to `[batch, length, length]`.
pub(super) fn pairs(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.f_unsqueeze(2)?.f_mul(&mask.f_unsqueeze(1)?)?)
}

/// How many pairs of positions the mask keeps.
pub(super) fn count_pairs(mask: &Tensor) -> Result<Tensor> {
    let lengths = mask.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
    Ok(lengths.f_square()?.f_sum(None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_devices_that_do_not_fit_are_named() {
        assert!(check_kinds("cos", (Kind::Float, Kind::Half)).is_ok());
        assert_eq!(
            check_kinds("cos", (Kind::Float, Kind::Int64))
                .unwrap_err()
                .to_string(),
            "cos: expected floating-point numbers on both sides (convert with `to_kind`), \
             got student Float and teacher Int64"
        );
        assert!(check_devices("cos", (Device::Cuda(1), Device::Cuda(1))).is_ok());
        assert_eq!(
            check_devices("cos", (Device::Cuda(0), Device::Cpu))
                .unwrap_err()
                .to_string(),
            "cos: expected student and teacher on one device (move one with `to_device`), \
             got student on Cuda(0) and teacher on Cpu"
        );
    }
}
