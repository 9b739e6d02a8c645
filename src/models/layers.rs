//! The layers that models are made of, initialised as Hugging Face does.

use tch::nn::{self, Init};
use tch::Tensor;

use crate::error::Context;
use crate::models::Activation;
use crate::native::layers as native;
use crate::Result;

/// `x Wᵀ + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Weights from a normal distribution, zero bias.
    pub(crate) fn new(path: &nn::Path<'_>, inputs: i64, outputs: i64, stdev: f64) -> Result<Self> {
        let weight = path.f_var("weight", &[outputs, inputs], normal(stdev))?;
        let bias = path.f_var("bias", &[outputs], Init::Const(0.0))?;
        Ok(Linear { weight, bias })
    }

    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        if let Some(output) = native::fused_linear(input, &self.weight, &self.bias, false)? {
            return Ok(output);
        }
        Ok(input.f_linear(&self.weight, Some(&self.bias))?)
    }

    /// The activation of [`forward`](Self::forward), in one pass where there is a kernel for it.
    pub(crate) fn forward_activated(&self, input: &Tensor, by: Activation) -> Result<Tensor> {
        if by == Activation::Gelu {
            let fused = native::fused_linear(input, &self.weight, &self.bias, true)?;
            if let Some(output) = fused {
                return Ok(output);
            }
        }
        by.forward(&self.forward(input)?)
    }
}

/// Normalises over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(path: &nn::Path<'_>, size: i64, eps: f64) -> Result<Self> {
        Ok(LayerNorm {
            weight: path.f_var("weight", &[size], Init::Const(1.0))?,
            bias: path.f_var("bias", &[size], Init::Const(0.0))?,
            size,
            eps,
        })
    }

    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        Ok(input.f_layer_norm([self.size], weight, bias, self.eps, true)?)
    }
}

/// A row of a matrix for each id.
#[derive(Debug)]
pub(crate) struct Embedding {
    weight: Tensor,
    rows: i64,
    padding: i64,
    name: &'static str,
}

impl Embedding {
    /// The row of `padding`, if any, is zero and gets no gradient.
    pub(crate) fn new(
        path: &nn::Path<'_>,
        name: &'static str,
        size: [i64; 2],
        stdev: f64,
        padding: Option<i64>,
    ) -> Result<Self> {
        let weight = path.f_var("weight", &size, normal(stdev))?;
        if let Some(row) = padding {
            let _no_grad = tch::no_grad_guard();
            let _ = weight.f_narrow(0, row, 1)?.f_zero_()?;
        }
        Ok(Embedding {
            weight,
            rows: size[0],
            padding: padding.unwrap_or(-1),
            name,
        })
    }

    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// On CUDA an id out of range is found by the device, later and less clearly: to look
    /// for it here would make every step wait for the device.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Tensor::f_embedding(&self.weight, ids, self.padding, false, false)
            .context(|| format!("{} must be in 0..{}", self.name, self.rows))
    }

    /// The first `length` rows, without a lookup.
    pub(crate) fn first(&self, length: i64) -> Result<Tensor> {
        Ok(self.weight.f_narrow(0, 0, length)?)
    }
}

/// Drops elements when training; otherwise the same tensor.
pub(crate) fn dropout(input: Tensor, probability: f64, train: bool) -> Result<Tensor> {
    if !train || probability == 0.0 {
        return Ok(input);
    }
    if native::supports(&input)? {
        return Ok(native::dropout(&input, probability)?);
    }
    Ok(input.f_dropout(probability, true)?)
}

fn normal(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}
