//! Correlations between the probabilities of both models.

use tch::Tensor;

use super::kd::fitting_logits;
use super::temperature::{Temperature, at_temperature};
use crate::error::Result;
use crate::scalar::ScalarOps;

/// The least length that is divided by: what is constant has none, and no correlation.
const LEAST: f64 = 1e-8;

/// Distillation from a stronger teacher (DIST, [Huang et al. 2022](https://arxiv.org/abs/2205.10536)):
/// `τ² [β (1 − mean over rows of ρ(q_i, p_i)) + γ (1 − mean over classes of ρ(q_·c, p_·c))]`, with
/// Pearson's correlation ρ.
///
/// The second part looks at a class in all rows of the batch. It **mixes examples**: the mean of two
/// halves of a batch is not the loss of the batch, so it is not the same with gradient accumulation or
/// several processes. The paper uses β = γ = 1, and 2 on ImageNet. Positions are rows.
///
/// # Shape
/// Student and teacher: `[batch, classes]` or `[batch, length, classes]`, the same.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{dist, Temperature};
///
/// let logits = Tensor::from_slice2(&[[2.0, -1.0, 0.0], [0.0, 1.0, 3.0]]);
/// let loss = dist(&logits, &logits, &Temperature::Constant(2.0), 1.0, 1.0)?;
/// assert!(loss.double_value(&[]).abs() < 1e-6);
/// # textbrewer::Result::Ok(())
/// ```
pub fn dist(
    student: &Tensor,
    teacher: &Tensor,
    temperature: &Temperature,
    beta: f64,
    gamma: f64,
) -> Result<Tensor> {
    let teacher = fitting_logits("dist", student, teacher)?;
    let rows = |logits: &Tensor| -> Result<Tensor> {
        let scaled = at_temperature("dist", logits, temperature)?;
        let classes = scaled.size().last().copied().unwrap_or(1);
        Ok(scaled.f_softmax(-1, None)?.f_reshape([-1, classes])?)
    };
    let (q, p) = (rows(student)?, rows(&teacher)?);
    let of_rows = distance(&q, &p, 1)?.times(beta)?;
    let of_classes = distance(&q, &p, 0)?.times(gamma)?;
    let sum = of_rows.f_add(&of_classes)?;
    match temperature {
        Temperature::Constant(value) => Ok(sum.times(value * value)?),
        // One number for all, as the loss is: the mean of their squares.
        Temperature::Each(values) => Ok(sum.f_mul(&values.f_square()?.f_mean(None)?)?),
    }
}

/// `1 − mean of ρ` along a dimension.
fn distance(one: &Tensor, other: &Tensor, dimension: i64) -> Result<Tensor> {
    let along = [dimension];
    let centred = |values: &Tensor| -> Result<Tensor> {
        let means = values.f_mean_dim(along.as_slice(), true, None)?;
        Ok(values.f_sub(&means)?)
    };
    let sum = |values: Tensor| values.f_sum_dim_intlist(along.as_slice(), false, None);
    let (one, other) = (centred(one)?, centred(other)?);
    let products = sum(one.f_mul(&other)?)?;
    // Never 0, where a root has no gradient.
    let length = |values: &Tensor| -> Result<Tensor> {
        Ok(sum(values.f_square()?)?.at_least(LEAST * LEAST)?.f_sqrt()?)
    };
    let lengths = length(&one)?.f_mul(&length(&other)?)?;
    let correlation = products.f_div(&lengths)?.f_mean(None)?;
    Ok(correlation.f_neg()?.plus(1.0)?)
}
