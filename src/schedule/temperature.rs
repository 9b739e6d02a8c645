//! Temperatures that depend on the logits: one for each example or position.
//!
//! The two schedules are those of
//! [Preparing Lessons](https://arxiv.org/abs/1911.07471). Both are computed without
//! gradient: the student cannot lower its loss by changing the temperature.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::kind::defined;
use crate::losses::Temperature;
use crate::scalar::ScalarOps;

/// Keeps the weight finite whatever the largest probability is.
const CONFIDENCE_EPSILON: f64 = 1e-3;

/// The base temperature, whatever the logits.
///
/// # Errors
/// Never.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::Temperature;
/// use textbrewer::schedule::temperature::constant;
///
/// let logits = Tensor::from_slice2(&[[1.0, -1.0]]);
/// let temperature = constant(&logits, &logits, 8.0)?;
/// assert!(matches!(temperature, Temperature::Constant(value) if value == 8.0));
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn constant(_student: &Tensor, _teacher: &Tensor, base: f64) -> Result<Temperature> {
    Ok(Temperature::Constant(base))
}

/// Focal-loss style weights: a lower temperature where student and teacher disagree.
///
/// `w = (1 − cos(s, t))^γ` and `τ = base + β (mean(w) − w)`, where the mean is over all
/// examples and positions, and each vector is divided by its length plus `eps`.
///
/// # Shape
/// Student and teacher logits: `[.., classes]`, the same; temperature: `[..]`.
///
/// # Errors
/// The returned function fails when the shapes differ.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::Temperature;
/// use textbrewer::schedule::temperature::flsw;
///
/// let student = Tensor::from_slice2(&[[1.0, 0.0], [1.0, 0.0]]);
/// let teacher = Tensor::from_slice2(&[[3.0, 0.0], [0.0, 3.0]]);
/// let Temperature::Each(values) = flsw(1.0, 2.0, 1e-4)(&student, &teacher, 4.0)? else {
///     unreachable!()
/// };
/// assert!(values.double_value(&[0]) > 4.4); // they agree
/// assert!(values.double_value(&[1]) < 3.6); // they do not
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn flsw(
    beta: f64,
    gamma: f64,
    eps: f64,
) -> impl Fn(&Tensor, &Tensor, f64) -> Result<Temperature> + Copy + Send + Sync + 'static {
    move |student, teacher, base| {
        defined("temperature schedule `flsw`, student", student)?;
        defined("temperature schedule `flsw`, teacher", teacher)?;
        let (size, teacher_size) = (student.size(), teacher.size());
        if size != teacher_size || size.is_empty() {
            return Err(Error::shape(
                "temperature schedule `flsw`",
                "logits of one shape",
                format!("student {size:?} and teacher {teacher_size:?}"),
            ));
        }
        let direction = |logits: &Tensor| -> Result<Tensor> {
            let logits = logits.f_detach()?;
            let length = logits.length()?;
            Ok(logits.f_div(&length.plus(eps)?)?)
        };
        let weights = direction(student)?
            .f_mul(&direction(teacher)?)?
            .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
            .f_neg()?
            .plus(1.0)?
            // Rounding can leave it just below 0, where a power may not exist.
            .at_least(0.0)?
            .power(gamma)?;
        around(base, beta, &weights)
    }
}

/// Confidence weights: a higher temperature where the student is sure of a class.
///
/// `w = 1 / (max softmax(s) + 0.001)` and `τ = base + β (mean(w) − w)`, where the mean is
/// over all examples and positions. The teacher's logits are not used.
///
/// # Shape
/// Student logits: `[.., classes]`; temperature: `[..]`.
///
/// # Errors
/// The returned function fails when the logits are not a floating-point tensor with at
/// least one dimension.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::Temperature;
/// use textbrewer::schedule::temperature::cwsm;
///
/// // Sure of a class, and not sure at all: weights of about 1 and 2.
/// let student = Tensor::from_slice2(&[[20.0, 0.0], [0.0, 0.0]]);
/// let Temperature::Each(values) = cwsm(1.0)(&student, &student, 4.0)? else {
///     unreachable!()
/// };
/// assert!((values.double_value(&[0]) - 4.5).abs() < 0.01);
/// assert!((values.double_value(&[1]) - 3.5).abs() < 0.01);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn cwsm(
    beta: f64,
) -> impl Fn(&Tensor, &Tensor, f64) -> Result<Temperature> + Copy + Send + Sync + 'static {
    move |student, _teacher, base| {
        defined("temperature schedule `cwsm`, student", student)?;
        if student.dim() == 0 {
            return Err(Error::shape(
                "temperature schedule `cwsm`",
                "logits [batch, classes] or [batch, length, classes]",
                "a single number",
            ));
        }
        let weights = student
            .f_detach()?
            .f_softmax(-1, None)?
            .f_amax([-1i64].as_slice(), false)?
            .plus(CONFIDENCE_EPSILON)?
            .f_reciprocal()?;
        around(base, beta, &weights)
    }
}

fn around(base: f64, beta: f64, weights: &Tensor) -> Result<Temperature> {
    let values = weights
        .f_mean(None)?
        .f_sub(weights)?
        .times(beta)?
        .plus(base)?;
    Ok(Temperature::Each(values))
}
