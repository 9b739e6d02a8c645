//! Losses between logits.

use tch::{Reduction, Tensor};

use super::Temperature;
use super::check::{in_students_kind, mismatch};
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// Mean squared error of the logits: `mean((s/τ − t/τ)²)`.
///
/// # Shape
/// Student and teacher: `[batch, classes]` or `[batch, length, classes]`, the same.
/// A temperature of each has the leading dimensions of the logits, `[batch, length]` or
/// only `[batch]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_mse, Temperature};
///
/// let student = Tensor::from_slice2(&[[1.0, 3.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, 5.0]]);
/// let loss = kd_mse(&student, &teacher, &Temperature::Constant(2.0))?;
/// assert_eq!(loss.double_value(&[]), (0.25 + 1.0) / 2.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn kd_mse(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    let teacher = &fitting("kd_mse", student, teacher)?;
    Ok(match temperature {
        // The same as dividing both sides, without two more tensors of the logits' size.
        Temperature::Constant(value) => student
            .f_mse_loss(teacher, Reduction::Mean)?
            .over(value * value)?,
        Temperature::Each(values) => student
            .f_sub(teacher)?
            .f_div(&for_each_class("kd_mse", values, student)?)?
            .f_square()?
            .f_mean(None)?,
    })
}

/// Cross entropy of the student under the teacher:
/// `−mean over positions of Σ softmax(t/τ) log softmax(s/τ)`.
///
/// Its gradients shrink with `1/τ²`. TextBrewer leaves the factor `τ²` of
/// [Hinton et al. 2015](https://arxiv.org/abs/1503.02531) out, and so does this function;
/// [`kd_kl`] has it.
///
/// # Shape
/// As for [`kd_mse`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_ce, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.5, 0.5]]);
/// let teacher = Tensor::from_slice2(&[[2.0, -1.0]]);
/// let loss = kd_ce(&student, &teacher, &Temperature::Constant(8.0))?;
/// assert!((loss.double_value(&[]) - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn kd_ce(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    let teacher = &fitting("kd_ce", student, teacher)?;
    let logs = scaled("kd_ce", student, temperature)?.f_log_softmax(-1, None)?;
    // Otherwise the scaled logits are the model's own.
    let is_copy = !matches!(temperature, Temperature::Constant(value) if *value == 1.0);
    let probabilities = softmax(scaled("kd_ce", teacher, temperature)?, is_copy)?;
    Ok(products_by_row(&probabilities, &logs)?
        .f_mean(None)?
        .f_neg()?)
}

/// Divergence of the student from the teacher, kept in size by `τ²`:
/// `mean over positions of τ² Σ p (log p − log q)`, with `p = softmax(t/τ)` and
/// `q = softmax(s/τ)`.
///
/// This is the loss of [Hinton et al. 2015](https://arxiv.org/abs/1503.02531), whose
/// gradients stay of one size whatever the temperature; it is zero when student and
/// teacher agree. At a constant temperature its gradients are `τ²` times those of
/// [`kd_ce`]. When each position has its own temperature, each has its own `τ²`.
///
/// # Shape
/// As for [`kd_mse`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_ce, kd_kl, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.5, 2.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, -1.0]]);
/// let temperature = Temperature::Constant(3.0);
/// let value = |loss: Tensor| loss.double_value(&[]);
/// assert!(value(kd_kl(&teacher, &teacher, &temperature)?).abs() < 1e-12);
/// // τ² times what the cross entropy is above its minimum.
/// let above = value(kd_ce(&student, &teacher, &temperature)?)
///     - value(kd_ce(&teacher, &teacher, &temperature)?);
/// let divergence = value(kd_kl(&student, &teacher, &temperature)?);
/// assert!((divergence - 9.0 * above).abs() < 1e-12);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn kd_kl(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    let teacher = &fitting("kd_kl", student, teacher)?;
    let logs = scaled("kd_kl", student, temperature)?.f_log_softmax(-1, None)?;
    let mut teacher_logs = scaled("kd_kl", teacher, temperature)?.f_log_softmax(-1, None)?;
    let differences = teacher_logs.f_sub(&logs)?;
    let probabilities = match teacher_logs.requires_grad() {
        true => teacher_logs.f_exp()?,
        false => teacher_logs.f_exp_()?,
    };
    let divergences = products_by_row(&probabilities, &differences)?;
    Ok(match temperature {
        Temperature::Constant(value) => divergences.f_mean(None)?.times(value * value)?,
        Temperature::Each(values) => {
            let values = for_each_class("kd_kl", values, student)?;
            let squares = if values.dim() > 0 {
                values.f_squeeze_dim(-1)?.f_square()?
            } else {
                values.f_square()?
            };
            divergences.f_mul(&squares)?.f_mean(None)?
        }
    })
}

/// The teacher's logits in the student's kind, if they fit.
pub(super) fn fitting(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (size, teacher_size) = (student.size(), teacher.size());
    if size == teacher_size && !size.is_empty() {
        return in_students_kind(loss, student, teacher);
    }
    let wanted = "logits of one shape, [batch, classes] or [batch, length, classes]";
    Err(mismatch(loss, wanted, &size, &teacher_size))
}

pub(super) fn scaled(loss: &str, logits: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    Ok(match temperature {
        Temperature::Constant(value) if *value == 1.0 => logits.shallow_clone(),
        Temperature::Constant(value) => logits.over(*value)?,
        Temperature::Each(values) => logits.f_div(&for_each_class(loss, values, logits)?)?,
    })
}

/// The softmax of `scaled` logits, in place where they are a copy without a history. The matrix
/// is one of the largest of a step.
fn softmax(mut scaled: Tensor, is_copy: bool) -> Result<Tensor> {
    if scaled.requires_grad() || !is_copy {
        return Ok(scaled.f_softmax(-1, None)?);
    }
    let largest = scaled.f_amax([-1i64].as_slice(), true)?;
    let _ = scaled.f_sub_(&largest)?.f_exp_()?;
    let sums = scaled.f_sum_dim_intlist([-1i64].as_slice(), true, None)?;
    Ok(scaled.f_div_(&sums)?)
}

/// `Σ left · right` over the last dimension, without a tensor of the products.
fn products_by_row(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let rows = left.f_unsqueeze(-2)?.f_matmul(&right.f_unsqueeze(-1)?)?;
    Ok(rows.f_squeeze_dim(-1)?.f_squeeze_dim(-1)?)
}

/// Temperatures in a shape that divides the logits; one single number stays as it is.
fn for_each_class(loss: &str, values: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let mut shape = values.size();
    if shape.is_empty() {
        return Ok(values.shallow_clone());
    }
    let size = logits.size();
    let positions = size.split_last().map_or(&[][..], |(_, before)| before);
    if !positions.starts_with(&shape) {
        return Err(Error::shape(
            format!("{loss}, temperature"),
            format!("one for each example or position, {positions:?}, or a single number"),
            format!("{shape:?}"),
        ));
    }
    shape.resize(size.len(), 1);
    Ok(values.f_reshape(shape)?)
}
