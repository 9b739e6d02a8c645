//! Finds tensors that do not fit before libtorch broadcasts them into nonsense.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// `student` and `teacher` do not fit; `wanted` says what would, and what to do.
pub(super) fn mismatch(loss: &str, wanted: &str, student: &[i64], teacher: &[i64]) -> Error {
    Error::shape(
        loss,
        wanted,
        format!("student {student:?} and teacher {teacher:?}"),
    )
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

/// The teacher's tensor in the student's kind, which is the one to train in.
pub(super) fn in_students_kind(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let kinds = (student.f_kind()?, teacher.f_kind()?);
    check_kinds(loss, kinds)?;
    check_devices(loss, (student.device(), teacher.device()))?;
    in_kind(teacher, kinds.0)
}

/// Numbers of 16 bits as `float32`, others as they are: a model's output may be of 16 bits,
/// but sums over thousands of elements need more.
pub(crate) fn at_least_float32(tensor: &Tensor) -> Result<Tensor> {
    match tensor.f_kind()? {
        Kind::Half | Kind::BFloat16 => Ok(tensor.f_to_kind(Kind::Float)?),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// A conversion to what a tensor is already would still pass through libtorch's dispatcher.
fn in_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match tensor.f_kind()? == kind {
        true => tensor.shallow_clone(),
        false => tensor.f_to_kind(kind)?,
    })
}

fn check_kinds(loss: &str, (student, teacher): (Kind, Kind)) -> Result<()> {
    let floating = |kind| {
        matches!(
            kind,
            Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double
        )
    };
    if floating(student) && floating(teacher) {
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
pub(super) fn mask_like(
    loss: &str,
    mask: &Tensor,
    wanted: &[i64],
    like: &Tensor,
) -> Result<Tensor> {
    let got = mask.size();
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
