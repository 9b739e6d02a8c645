//! Losses between logits.

use tch::Tensor;

use super::check::{fitting, mismatch, sizes};
use super::mean::{mean, mean_of};
use super::temperature::{Temperature, at_temperature, times_square};
use crate::error::Result;
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
    let teacher = &fitting_logits("kd_mse", student, teacher)?;
    Ok(match temperature {
        // The same as dividing both sides, without two more tensors of the logits' size.
        Temperature::Constant(value) => student
            .f_mse_loss(teacher, mean_of(student))?
            .over(value * value)?,
        Temperature::Each(_) => mean(&mse_of_each_logit(student, teacher, temperature)?)?,
    })
}

/// [`kd_mse`] at each position: the mean over its classes.
pub(crate) fn mse_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let teacher = &fitting_logits("kd_mse", student, teacher)?;
    let squares = mse_of_each_logit(student, teacher, temperature)?;
    Ok(squares.f_mean_dim([-1i64].as_slice(), false, None)?)
}

fn mse_of_each_logit(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let differences = student.f_sub(teacher)?;
    Ok(at_temperature("kd_mse", &differences, temperature)?.f_square()?)
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
    mean(&ce_at_each(student, teacher, temperature)?)
}

/// [`kd_ce`] at each position.
pub(crate) fn ce_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let teacher = &fitting_logits("kd_ce", student, teacher)?;
    let logs = at_temperature("kd_ce", student, temperature)?.f_log_softmax(-1, None)?;
    // Otherwise the scaled logits are the model's own.
    let is_copy = !matches!(temperature, Temperature::Constant(value) if *value == 1.0);
    let probabilities = softmax(at_temperature("kd_ce", teacher, temperature)?, is_copy)?;
    Ok(products_by_row(&probabilities, &logs)?.f_neg()?)
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
    match temperature {
        Temperature::Constant(value) => {
            Ok(mean(&divergences(student, teacher, temperature)?)?.times(value * value)?)
        }
        Temperature::Each(_) => mean(&kl_at_each(student, teacher, temperature)?),
    }
}

/// [`kd_kl`] at each position.
pub(crate) fn kl_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    let divergences = divergences(student, teacher, temperature)?;
    times_square("kd_kl", &divergences, temperature)
}

/// `Σ p (log p − log q)` at each position.
fn divergences(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    let teacher = &fitting_logits("kd_kl", student, teacher)?;
    let logs = at_temperature("kd_kl", student, temperature)?.f_log_softmax(-1, None)?;
    let mut teacher_logs =
        at_temperature("kd_kl", teacher, temperature)?.f_log_softmax(-1, None)?;
    let differences = teacher_logs.f_sub(&logs)?;
    let probabilities = match teacher_logs.requires_grad() {
        true => teacher_logs.f_exp()?,
        false => teacher_logs.f_exp_()?,
    };
    products_by_row(&probabilities, &differences)
}

/// The teacher's logits in the student's kind, if they fit.
pub(super) fn fitting_logits(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let wanted = "logits of one shape, [batch, classes] or [batch, length, classes]";
    let (size, teacher_size) = sizes(loss, student, teacher)?;
    if size.is_empty() {
        return Err(mismatch(loss, wanted, &size, &teacher_size));
    }
    fitting(loss, wanted, student, teacher)
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
