//! What logits are divided by.

use tch::Tensor;

use super::check::size_of;
use crate::error::{Error, Result};
use crate::scalar::ScalarOps;

/// What logits are divided by before the softmax or sigmoid.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{kd_mse, Temperature};
///
/// let student = Tensor::from_slice2(&[[0.0], [0.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0], [4.0]]);
/// let loss = kd_mse(&student, &teacher, &Temperature::Constant(2.0))?;
/// assert_eq!(loss.double_value(&[]), (1.0 + 4.0) / 2.0);
/// // One for each example: here both come to (2 / 1)² = (4 / 2)².
/// let each = Temperature::from(Tensor::from_slice(&[1.0, 2.0]));
/// assert_eq!(kd_mse(&student, &teacher, &each)?.double_value(&[]), 4.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Temperature {
    /// One number for all.
    Constant(f64),
    /// One for each example (`[batch]`) or position (`[batch, length]`).
    Each(Tensor),
}

impl Temperature {
    /// What the logits at these rows of the flattened positions are divided by.
    pub(crate) fn at_rows(&self, positions: &[i64], rows: &Tensor) -> Result<Temperature> {
        let Temperature::Each(values) = self else {
            return Ok(self.into());
        };
        let mut shape = size_of("logits", "temperature", values)?;
        if shape.is_empty() {
            return Ok(self.into());
        }
        of_positions("logits", &shape, positions)?;
        shape.resize(positions.len(), 1);
        let of_each = values.f_reshape(shape)?.f_expand(positions, false)?;
        let at_rows = of_each.f_reshape([-1i64])?.f_index_select(0, rows)?;
        Ok(Temperature::Each(at_rows))
    }

    /// That of `length` rows from `start`, of one that goes with rows.
    pub(crate) fn of_rows(&self, start: i64, length: i64) -> Result<Temperature> {
        Ok(match self {
            Temperature::Each(values) if values.dim() == 1 => {
                Temperature::Each(values.f_narrow(0, start, length)?)
            }
            other => other.into(),
        })
    }
}

impl From<f64> for Temperature {
    fn from(value: f64) -> Self {
        Temperature::Constant(value)
    }
}

impl From<&Temperature> for Temperature {
    fn from(value: &Temperature) -> Self {
        match value {
            Temperature::Constant(value) => Temperature::Constant(*value),
            Temperature::Each(values) => Temperature::Each(values.shallow_clone()),
        }
    }
}

impl From<Tensor> for Temperature {
    fn from(value: Tensor) -> Self {
        Temperature::Each(value)
    }
}

/// Logits divided by a temperature, of either kind: `z / τ`.
///
/// `loss` is what an error is said to be of.
///
/// # Shape
/// Logits: `[.., classes]`. A temperature of each has their leading dimensions, or the first of
/// these, or none.
///
/// # Errors
/// When the shapes do not fit, or a tensor is undefined.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::at_temperature;
/// use textbrewer::losses::Temperature;
///
/// let logits = Tensor::from_slice2(&[[2.0, 4.0], [3.0, 6.0]]);
/// let halves = at_temperature("my loss", &logits, &Temperature::Constant(2.0))?;
/// assert_eq!(halves, Tensor::from_slice2(&[[1.0, 2.0], [1.5, 3.0]]));
/// let each = Temperature::from(Tensor::from_slice(&[2.0, 3.0]));
/// let divided = at_temperature("my loss", &logits, &each)?;
/// assert_eq!(divided, Tensor::from_slice2(&[[1.0, 2.0], [1.0, 2.0]]));
/// # textbrewer::Result::Ok(())
/// ```
pub fn at_temperature(loss: &str, logits: &Tensor, temperature: &Temperature) -> Result<Tensor> {
    size_of(loss, "logits", logits)?;
    Ok(match temperature {
        Temperature::Constant(value) if *value == 1.0 => logits.shallow_clone(),
        Temperature::Constant(value) => logits.over(*value)?,
        Temperature::Each(values) => logits.f_div(&for_each_class(loss, values, logits)?)?,
    })
}

/// Temperatures in a shape that divides the logits; one single number stays as it is.
pub(super) fn for_each_class(loss: &str, values: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let mut shape = size_of(loss, "temperature", values)?;
    if shape.is_empty() {
        return Ok(values.shallow_clone());
    }
    let size = logits.size();
    let positions = size.split_last().map_or(&[][..], |(_, before)| before);
    of_positions(loss, &shape, positions)?;
    shape.resize(size.len(), 1);
    Ok(values.f_reshape(shape)?)
}

fn of_positions(loss: &str, shape: &[i64], positions: &[i64]) -> Result<()> {
    match positions.starts_with(shape) {
        true => Ok(()),
        false => Err(Error::shape(
            format!("{loss}, temperature"),
            format!("one for each example or position, {positions:?}, or a single number"),
            format!("{shape:?}"),
        )),
    }
}

/// Losses at positions times τ², each with its own τ.
pub(crate) fn times_square(
    loss: &str,
    losses: &Tensor,
    temperature: &Temperature,
) -> Result<Tensor> {
    match temperature {
        Temperature::Constant(value) => Ok(losses.times(value * value)?),
        Temperature::Each(values) => {
            let of_each = for_each_class(loss, values, &losses.f_unsqueeze(-1)?)?;
            let of_each = match of_each.dim() {
                0 => of_each,
                _ => of_each.f_squeeze_dim(-1)?,
            };
            Ok(losses.f_mul(&of_each.f_square()?)?)
        }
    }
}
