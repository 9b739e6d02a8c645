//! Activation functions.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::Result;

/// An activation function, under Hugging Face's names for `hidden_act`.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::models::Activation;
///
/// let activation: Activation = serde_json::from_str(r#""swish""#)?;
/// assert_eq!(activation, Activation::Silu);
/// assert_eq!(Activation::Relu.forward(&Tensor::from(-1.0))?.double_value(&[]), 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x Φ(x)` with the error function ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)).
    #[default]
    Gelu,
    /// The approximation of [`Gelu`](Self::Gelu) by tanh; also `gelu_pytorch_tanh`.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// `max(x, 0)`.
    Relu,
    /// `x σ(x)`; also `swish`.
    #[serde(alias = "swish")]
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies the function to every element.
    ///
    /// # Errors
    /// When libtorch fails, as for integers.
    pub fn forward(self, input: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Gelu => input.f_gelu("none")?,
            Activation::GeluNew => input.f_gelu("tanh")?,
            Activation::Relu => input.f_relu()?,
            Activation::Silu => input.f_silu()?,
            Activation::Tanh => input.f_tanh()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_one() {
        // Φ(1) = 0.841345, σ(1) = 0.731059; the tanh approximation by hand.
        let expected = [
            ("\"gelu\"", 0.841345),
            ("\"gelu_new\"", 0.841192),
            ("\"gelu_pytorch_tanh\"", 0.841192),
            ("\"relu\"", 1.0),
            ("\"silu\"", 0.731059),
            ("\"swish\"", 0.731059),
            ("\"tanh\"", 0.761594),
        ];
        for (name, expected) in expected {
            let activation: Activation = serde_json::from_str(name).unwrap();
            let value = activation.forward(&Tensor::from(1.0f32)).unwrap();
            assert!((value.double_value(&[]) - expected).abs() < 1e-6, "{name}");
        }
    }
}
