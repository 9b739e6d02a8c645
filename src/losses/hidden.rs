//! Losses between hidden states of one layer.

use tch::{Reduction, Tensor};

use super::check::{in_students_kind, mask_like, mismatch, same_hidden, sizes};
use super::mean::{mean, mean_of, per_count};
use super::support::masked_mean;
use crate::error::Result;
use crate::scalar::ScalarOps;

/// Keeps the cosine of a zero vector finite: `torch.nn.functional.cosine_embedding_loss`'s.
const EPSILON: f64 = 1e-12;

/// Mean squared error of the hidden states.
///
/// # Shape
/// Student and teacher: `[batch, length, hidden]`, the same; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit; hidden sizes that differ need a projection.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::hidden_mse;
///
/// let student = Tensor::from_slice(&[1.0, 1.0, 9.0, 9.0]).f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[0.0, 3.0, 0.0, 0.0]).f_view([1, 2, 2])?;
/// let mask = Tensor::from_slice2(&[[1, 0]]);
/// let loss = hidden_mse(&student, &teacher, Some(&mask))?;
/// assert_eq!(loss.double_value(&[]), (1.0 + 4.0) / 2.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn hidden_mse(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (size, teacher_size) = sizes("hidden_mse", student, teacher)?;
    same_hidden("hidden_mse", &size, &teacher_size)?;
    let teacher = &in_students_kind("hidden_mse", student, teacher)?;
    let Some(mask) = mask else {
        return Ok(student.f_mse_loss(teacher, mean_of(student))?);
    };
    let (hidden, positions) = last_and_before("hidden_mse", &size)?;
    let mask = mask_like("hidden_mse", mask, positions, student)?;
    // Summed before it is masked: the mask then meets a tensor without the hidden size.
    let sum = student
        .f_mse_loss(teacher, Reduction::None)?
        .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
        .f_mul(&mask)?
        .f_sum(None)?;
    per_count(&sum, &mask.f_sum(None)?.times(hidden)?)
}

/// One minus the cosine of the hidden states, averaged over the positions
/// ([DistilBERT](https://arxiv.org/abs/1910.01108)).
///
/// A zero vector has the cosine 0 with any other. The mask chooses: any number but 0
/// keeps a position whole.
///
/// # Shape
/// Student and teacher: `[batch, length, hidden]`, the same; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit; hidden sizes that differ need a projection.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::cos;
///
/// // One position in the teacher's direction, one at a right angle to it.
/// let student = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0]).f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[2.0, 0.0, 1.0, 0.0]).f_view([1, 2, 2])?;
/// let loss = cos(&student, &teacher, None)?;
/// assert!((loss.double_value(&[]) - 0.5).abs() < 1e-9);
/// let mask = Tensor::from_slice2(&[[1, 0]]);
/// assert!(cos(&student, &teacher, Some(&mask))?.double_value(&[]).abs() < 1e-9);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn cos(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (size, teacher_size) = sizes("cos", student, teacher)?;
    same_hidden("cos", &size, &teacher_size)?;
    let teacher = &in_students_kind("cos", student, teacher)?;
    last_and_before("cos", &size)?;
    let over_hidden = |left: &Tensor, right: &Tensor| -> Result<Tensor> {
        let products = left.f_mul(right)?;
        Ok(products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
    };
    let lengths = over_hidden(student, student)?
        .plus(EPSILON)?
        .f_mul(&over_hidden(teacher, teacher)?.plus(EPSILON)?)?
        .f_sqrt()?;
    let cosines = over_hidden(student, teacher)?.f_div(&lengths)?;
    let losses = cosines.f_neg()?.plus(1.0)?;
    let Some(mask) = mask else {
        return mean(&losses);
    };
    masked_mean("cos", &losses, mask)
}

/// Squared distance of the normalised states at position 0, where BERT has `[CLS]`
/// ([Patient Knowledge Distillation](https://arxiv.org/abs/1908.09355)):
/// `mean over batch of ‖s/‖s‖ − t/‖t‖‖²`.
///
/// The mask is not used. A state of length 0 has no direction and gives NaN.
///
/// # Shape
/// Each side: `[batch, length, hidden]`, of which only position 0 counts, or
/// `[batch, hidden]`, with the same batch and hidden size.
///
/// # Errors
/// When the shapes do not fit; hidden sizes that differ need a projection.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::pkd;
///
/// // At position 0 the directions are at a right angle; position 1 does not count.
/// let student = Tensor::from_slice(&[3.0, 0.0, 9.0, 9.0]).f_view([1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[0.0, 5.0, 0.0, 1.0]).f_view([1, 2, 2])?;
/// assert_eq!(pkd(&student, &teacher, None)?.double_value(&[]), 2.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn pkd(student: &Tensor, teacher: &Tensor, _mask: Option<&Tensor>) -> Result<Tensor> {
    let (given_student, given_teacher) = sizes("pkd", student, teacher)?;
    let unfit = |wanted: &str| mismatch("pkd", wanted, &given_student, &given_teacher);
    let first = |state: &Tensor| -> Result<Tensor> {
        match state.size().as_slice() {
            [_, 0, _] => Err(unfit("at least one position")),
            [_, _, _] => Ok(state.f_select(1, 0)?),
            [_, _] => Ok(state.shallow_clone()),
            _ => Err(unfit("[batch, length, hidden] or [batch, hidden]")),
        }
    };
    let (student, teacher) = (first(student)?, first(teacher)?);
    same_hidden("pkd", &student.size(), &teacher.size())
        .map_err(|_| unfit("student and teacher of one batch and hidden size (add `proj` to the match where hidden sizes differ)"))?;
    let teacher = in_students_kind("pkd", &student, &teacher)?;
    let normalised = |state: &Tensor| -> Result<Tensor> { Ok(state.f_div(&state.length()?)?) };
    let distances = normalised(&student)?
        .f_sub(&normalised(&teacher)?)?
        .f_square()?
        .f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
    mean(&distances)
}

fn last_and_before<'a>(loss: &str, size: &'a [i64]) -> Result<(i64, &'a [i64])> {
    match size.split_last() {
        Some((&hidden, positions)) => Ok((hidden, positions)),
        None => Err(mismatch(loss, "[batch, length, hidden]", size, size)),
    }
}
