//! Losses between outputs that are no choice of one class: several labels, or numbers.

use tch::{Reduction, Tensor};

use super::check::fitting;
use super::kd::fitting_logits;
use super::mean::mean_of;
use super::temperature::{Temperature, at_temperature};
use crate::error::Result;

/// Binary cross entropy of the student under the teacher, for several labels that each may
/// be true or not: `mean(−p log q − (1 − p) log(1 − q))`, with `p = σ(t/τ)` and
/// `q = σ(s/τ)`.
///
/// The mean is over examples **and** labels; multiply the weight by the number of labels
/// for a sum over labels. As [`kd_ce`](super::kd_ce) it has no factor `τ²`, and its
/// gradients shrink with `1/τ²`. It is computed from the logits, without sigmoids that
/// could become 0 or 1: no finite logit makes it infinite. `probability_shift` and the
/// temperature schedulers are made for one true class, and mean nothing here.
///
/// # Shape
/// Student and teacher: `[batch, labels]` or `[batch, length, labels]`, the same.
/// A temperature of each has the leading dimensions of the logits, `[batch, length]` or
/// only `[batch]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_bce, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.0, 0.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[3.0, 1.0, -2.0]]);
/// let loss = kd_bce(&student, &teacher, &Temperature::Constant(4.0))?;
/// assert!((loss.double_value(&[]) - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn kd_bce(student: &Tensor, teacher: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    bce(student, teacher, temperature, mean_of)
}

/// [`kd_bce`] at each position: the mean over its labels.
pub(crate) fn bce_at_each(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    over_last(&bce(student, teacher, temperature, |_| Reduction::None)?)
}

fn bce(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    reduction: fn(&Tensor) -> Reduction,
) -> Result<Tensor> {
    let teacher = &fitting_logits("kd_bce", student, teacher)?;
    let probabilities = at_temperature("kd_bce", teacher, temperature)?.f_sigmoid()?;
    let logits = at_temperature("kd_bce", student, temperature)?;
    Ok(logits.f_binary_cross_entropy_with_logits(
        &probabilities,
        None::<&Tensor>,
        None::<&Tensor>,
        reduction(&logits),
    )?)
}

/// Mean squared error of numbers: `mean((s − t)²)`, for regression.
///
/// Other than [`kd_mse`](super::kd_mse) it knows no temperature: numbers are no logits, and
/// a temperature would only make the loss smaller by `τ²`.
///
/// # Shape
/// Student and teacher: `[batch, targets]`, or any other shape, the same.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::regression_mse;
///
/// let student = Tensor::from_slice2(&[[1.0, 3.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, 5.0]]);
/// assert_eq!(regression_mse(&student, &teacher)?.double_value(&[]), 2.5);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn regression_mse(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let teacher = fitting_outputs("regression_mse", student, teacher)?;
    Ok(student.f_mse_loss(&teacher, mean_of(student))?)
}

/// [`regression_mse`] at each position: the mean over its targets.
pub(crate) fn regression_mse_at_each(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let teacher = fitting_outputs("regression_mse", student, teacher)?;
    over_last(&student.f_mse_loss(&teacher, Reduction::None)?)
}

/// A squared error that grows only linearly for differences above 1, for regression whose
/// teacher is far off at times: the mean of `d²/2` where `d = |s − t| < 1` and `d − 1/2`
/// elsewhere ([Huber 1964](https://doi.org/10.1214/aoms/1177703732)). Without temperature.
///
/// # Shape
/// As for [`regression_mse`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::smooth_l1;
///
/// let student = Tensor::from_slice2(&[[1.0, 3.0]]);
/// let teacher = Tensor::from_slice2(&[[1.5, 5.0]]);
/// assert_eq!(smooth_l1(&student, &teacher)?.double_value(&[]), (0.125 + 1.5) / 2.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn smooth_l1(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let teacher = fitting_outputs("smooth_l1", student, teacher)?;
    Ok(student.f_smooth_l1_loss(&teacher, mean_of(student), 1.0)?)
}

/// [`smooth_l1`] at each position: the mean over its targets.
pub(crate) fn smooth_l1_at_each(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let teacher = fitting_outputs("smooth_l1", student, teacher)?;
    over_last(&student.f_smooth_l1_loss(&teacher, Reduction::None, 1.0)?)
}

fn over_last(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_mean_dim([-1i64].as_slice(), false, None)?)
}

/// The teacher's outputs in the student's kind, if they fit: libtorch would broadcast
/// `[batch, 1]` and `[batch]` to all pairs of examples.
fn fitting_outputs(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    fitting(
        loss,
        "outputs of one shape, such as [batch, targets]",
        student,
        teacher,
    )
}
