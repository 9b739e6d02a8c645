//! Losses between attentions.
//!
//! Padding had attention scores of −10000 in the models that TextBrewer was written for,
//! before the softmax. That is why its losses take any value of at most −1e-3 for
//! padding when no mask says where the padding is.

use tch::{Reduction, Tensor};

use super::check::{count_pairs, in_students_kind, mask_like, mismatch, pairs, sizes};
use super::mean::{mean, mean_of, per_count};
use crate::error::Result;
use crate::scalar::ScalarOps;

const PADDING: f64 = -1e-3;

/// Mean squared error of the attentions, head by head.
///
/// With a mask, a pair of positions counts when the mask keeps both: the squares are
/// summed over those pairs and divided by their number, `Σ over batch and heads of
/// (Σ mask)²`. Without a mask every element counts, and values of at most −1e-3 are set
/// to 0 on both sides, with no gradient: harmless for probabilities, not for scores
/// before the softmax.
///
/// # Shape
/// Student and teacher: `[batch, heads, length, length]`, the same; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit. For different numbers of heads see [`attention_mse_sum`].
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::attention_mse;
///
/// let student = Tensor::from_slice(&[0.5, 0.5, 1.0, 0.0]).f_view([1, 1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[0.75, 0.25, 0.0, 1.0]).f_view([1, 1, 2, 2])?;
/// let loss = attention_mse(&student, &teacher, None)?;
/// assert_eq!(loss.double_value(&[]), (2.0 * 0.0625 + 2.0) / 4.0);
/// // Without the second position one pair is left.
/// let mask = Tensor::from_slice2(&[[1, 0]]);
/// let loss = attention_mse(&student, &teacher, Some(&mask))?;
/// assert_eq!(loss.double_value(&[]), 0.0625);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn attention_mse(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    same_heads("attention_mse", "attention_mse_sum", student, teacher)?;
    let teacher = in_students_kind("attention_mse", student, teacher)?;
    mse("attention_mse", student, &teacher, mask)
}

/// Mean squared error of the attentions summed over the heads.
///
/// Otherwise as [`attention_mse`]: the masking, and what happens without a mask, which
/// is applied to the sums.
///
/// # Shape
/// Each side: `[batch, heads, length, length]`, with its own number of heads, or
/// `[batch, length, length]`; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::losses::attention_mse_sum;
///
/// let ones = |heads| Tensor::ones([1, heads, 3, 3], (Kind::Float, Device::Cpu));
/// // Two heads against three: their sums are 2 and 3 everywhere.
/// let loss = attention_mse_sum(&ones(2), &ones(3), None)?;
/// assert_eq!(loss.double_value(&[]), 1.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn attention_mse_sum(
    student: &Tensor,
    teacher: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let teacher = &in_students_kind("attention_mse_sum", student, teacher)?;
    let over_heads = |attention: &Tensor| -> Result<Tensor> {
        Ok(match attention.dim() {
            4 => attention.f_sum_dim_intlist([1i64].as_slice(), false, None)?,
            _ => attention.shallow_clone(),
        })
    };
    let (student, teacher) = (over_heads(student)?, over_heads(teacher)?);
    same_positions("attention_mse_sum", &student, &teacher)?;
    mse("attention_mse_sum", &student, &teacher, mask)
}

/// Cross entropy of the attentions, head by head: `−mean over rows of
/// Σ softmax(teacher) log softmax(student)`.
///
/// The softmax over the last dimension is applied to whatever is given. It is meant for
/// attention scores before the model's softmax; probabilities run, as in TextBrewer,
/// but then it is a softmax of a softmax, and the targets are nearly uniform.
///
/// With a mask, the terms of masked positions are left out after the softmax, in both
/// directions, and the mean is over the rows that the mask keeps. Without a mask every
/// row counts, and the teacher's probability is set to 0 where its score is at most
/// −1e-3, which drops negative scores even when they belong to no padding.
///
/// # Shape
/// Student and teacher: `[batch, heads, length, length]`, the same; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit. For different numbers of heads see [`attention_ce_mean`].
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::attention_ce;
///
/// // Scores before the softmax. A student that looks everywhere alike is equally wrong
/// // whatever the teacher looks at.
/// let student = Tensor::from_slice(&[0.0, 0.0, 0.0, 0.0]).f_view([1, 1, 2, 2])?;
/// let teacher = Tensor::from_slice(&[4.0, -1.0, 0.5, 2.0]).f_view([1, 1, 2, 2])?;
/// let mask = Tensor::from_slice2(&[[1, 1]]);
/// let loss = attention_ce(&student, &teacher, Some(&mask))?;
/// assert!((loss.double_value(&[]) - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn attention_ce(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    same_heads("attention_ce", "attention_ce_mean", student, teacher)?;
    let teacher = in_students_kind("attention_ce", student, teacher)?;
    cross_entropy("attention_ce", student, &teacher, mask)
}

/// Cross entropy of the attentions averaged over the heads.
///
/// Otherwise as [`attention_ce`]: the softmax, the masking, and what happens without a
/// mask, which are applied to the averages.
///
/// # Shape
/// Each side: `[batch, heads, length, length]`, with its own number of heads, or
/// `[batch, length, length]`; mask: `[batch, length]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{attention_ce, attention_ce_mean};
///
/// // Two heads of the teacher, whose mean the student's one head has.
/// let teacher = Tensor::from_slice(&[3.0, 1.0, 0.0, 2.0, 1.0, 1.0, 4.0, 2.0]).f_view([1, 2, 2, 2])?;
/// let student = Tensor::from_slice(&[2.0, 1.0, 2.0, 2.0]).f_view([1, 1, 2, 2])?;
/// let loss = attention_ce_mean(&student, &teacher, None)?;
/// let least = attention_ce(&student, &student, None)?;
/// assert!((loss.double_value(&[]) - least.double_value(&[])).abs() < 1e-12);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn attention_ce_mean(
    student: &Tensor,
    teacher: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let teacher = &in_students_kind("attention_ce_mean", student, teacher)?;
    let over_heads = |attention: &Tensor| -> Result<Tensor> {
        Ok(match attention.dim() {
            4 => attention.f_mean_dim([1i64].as_slice(), false, None)?,
            _ => attention.shallow_clone(),
        })
    };
    let (student, teacher) = (over_heads(student)?, over_heads(teacher)?);
    same_positions("attention_ce_mean", &student, &teacher)?;
    cross_entropy("attention_ce_mean", &student, &teacher, mask)
}

fn mse(loss: &str, student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let Some(mask) = mask else {
        let student = student.filled(&student.is_at_most(PADDING)?, 0.0)?;
        let teacher = teacher.filled(&teacher.is_at_most(PADDING)?, 0.0)?;
        return Ok(student.f_mse_loss(&teacher, mean_of(&student))?);
    };
    let (mask, heads) = mask_for(loss, student, mask)?;
    let mut squares = student.f_mse_loss(teacher, Reduction::None)?;
    let sum = squares
        .f_mul_(&broadcast_over_heads(pairs(&mask)?, student)?)?
        .f_sum(None)?;
    per_count(&sum, &count_pairs(&mask)?.times(heads)?)
}

fn cross_entropy(
    loss: &str,
    student: &Tensor,
    teacher: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let probabilities = teacher.f_softmax(-1, None)?;
    let Some(mask) = mask else {
        let of_rows = probabilities
            .filled(&teacher.is_at_most(PADDING)?, 0.0)?
            .f_mul(&student.f_log_softmax(-1, None)?)?
            .f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
        return Ok(mean(&of_rows)?.f_neg()?);
    };
    let (mask, heads) = mask_for(loss, student, mask)?;
    // The pairs go onto the teacher's side, where no gradient has to be kept for.
    let sum = probabilities
        .f_mul(&broadcast_over_heads(pairs(&mask)?, student)?)?
        .f_mul(&student.f_log_softmax(-1, None)?)?
        .f_sum(None)?;
    Ok(per_count(&sum, &mask.f_sum(None)?.times(heads)?)?.f_neg()?)
}

/// The mask as numbers, and how many heads it holds for.
fn mask_for(loss: &str, attention: &Tensor, mask: &Tensor) -> Result<(Tensor, i64)> {
    let size = attention.size();
    let (batch, heads, length) = match *size.as_slice() {
        [batch, heads, rows, columns] if rows == columns => (batch, heads, columns),
        [batch, rows, columns] if rows == columns => (batch, 1, columns),
        _ => {
            let wanted = "with a mask, [batch, heads, length, length] or [batch, length, length]";
            return Err(mismatch(loss, wanted, &size, &size));
        }
    };
    Ok((mask_like(loss, mask, &[batch, length], attention)?, heads))
}

fn broadcast_over_heads(pairs: Tensor, attention: &Tensor) -> Result<Tensor> {
    Ok(match attention.dim() {
        4 => pairs.f_unsqueeze(1)?,
        _ => pairs,
    })
}

fn same_heads(loss: &str, alternative: &str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    let (student, teacher) = sizes(loss, student, teacher)?;
    if student == teacher {
        return Ok(());
    }
    let only_heads_differ = match (student.as_slice(), teacher.as_slice()) {
        ([batch, _, rest @ ..], [also_batch, _, also_rest @ ..]) => {
            rest.len() == 2 && batch == also_batch && rest == also_rest
        }
        _ => false,
    };
    let wanted = if only_heads_differ {
        format!("student and teacher with as many heads (or use `{alternative}`)")
    } else {
        "student and teacher of one shape, [batch, heads, length, length]".to_owned()
    };
    Err(mismatch(loss, &wanted, &student, &teacher))
}

fn same_positions(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    let (student, teacher) = sizes(loss, student, teacher)?;
    if student == teacher {
        return Ok(());
    }
    let wanted = "without their heads, student and teacher of one shape [batch, length, length]";
    Err(mismatch(loss, wanted, &student, &teacher))
}
