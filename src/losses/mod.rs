//! Losses between a student's tensors and a teacher's.

use tch::Tensor;

/// What logits are divided by before the softmax.
#[derive(Debug)]
#[non_exhaustive]
pub enum Temperature {
    /// One number for all.
    Constant(f64),
    /// One for each example (`[batch]`) or position (`[batch, length]`).
    Each(Tensor),
}

impl From<f64> for Temperature {
    fn from(value: f64) -> Self {
        Temperature::Constant(value)
    }
}

impl From<Tensor> for Temperature {
    fn from(value: Tensor) -> Self {
        Temperature::Each(value)
    }
}
