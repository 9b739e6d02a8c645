//! Layers of models, initialised as in Hugging Face's `transformers`.

use tch::Tensor;
use tch::nn::{self, Init};

use crate::error::{Context, Result};
use crate::models::Activation;
use crate::native::layers as native;

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
        if let Some(output) = native::linear(input, &self.weight, &self.bias, false)? {
            return Ok(output);
        }
        Ok(input.f_linear(&self.weight, Some(&self.bias))?)
    }

    /// `forward` followed by an activation, in one pass where there is a kernel for it.
    pub(crate) fn forward_activated(&self, input: &Tensor, by: Activation) -> Result<Tensor> {
        if by == Activation::Gelu {
            let output = native::linear(input, &self.weight, &self.bias, true)?;
            if let Some(output) = output {
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

    /// `LayerNorm(residual + dropout(input))`.
    pub(crate) fn forward_residual(
        &self,
        input: Tensor,
        residual: &Tensor,
        probability: f64,
        train: bool,
    ) -> Result<Tensor> {
        if train && probability > 0.0 && native::supports(&input)? {
            let weights = [&self.weight, &self.bias];
            let (eps, dropout) = (self.eps, probability);
            let output = native::residual_norm(&input, residual, weights, eps, dropout)?;
            return Ok(output);
        }
        self.forward(&dropout(input, probability, train)?.f_add(residual)?)
    }
}

/// A lookup table with a row for each id.
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

    /// Row `p` has `sin(p / 10000^(2i / width))` and its cosine at `2i` and `2i + 1`
    /// ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)). Not trained.
    pub(crate) fn sinusoidal(
        path: &nn::Path<'_>,
        name: &'static str,
        [rows, width]: [i64; 2],
    ) -> Result<Self> {
        let value = |row: i64, column: i64| {
            let angle = row as f64 / 10_000f64.powf((column / 2 * 2) as f64 / width as f64);
            match column % 2 {
                0 => angle.sin(),
                _ => angle.cos(),
            }
        };
        let rows_of = |row| (0..width).map(move |column| value(row, column) as f32);
        let values: Vec<f32> = (0..rows).flat_map(rows_of).collect();
        let weight = Tensor::f_from_slice(&values)?
            .f_reshape([rows, width])?
            .f_to_device(path.device())?
            .f_to_kind(path.kind())?;
        Ok(Embedding {
            weight: path.add("weight", weight, false),
            rows,
            padding: -1,
            name,
        })
    }

    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// On CUDA an id out of range is an error of the device, later and with a less clear
    /// message: checking here would make every step wait for the device.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Tensor::f_embedding(&self.weight, ids, self.padding, false, false)
            .context(|| format!("{} must be in 0..{}", self.name, self.rows))
    }

    /// The first `length` rows, without a lookup.
    pub(crate) fn first(&self, length: i64) -> Result<Tensor> {
        Ok(self.weight.f_narrow(0, 0, length)?)
    }
}

/// Dropout when training; otherwise the same tensor.
pub(crate) fn dropout(input: Tensor, probability: f64, train: bool) -> Result<Tensor> {
    if !train || probability == 0.0 {
        return Ok(input);
    }
    if native::supports(&input)? {
        return Ok(native::dropout(&input, probability)?);
    }
    Ok(input.f_dropout(probability, true)?)
}

pub(crate) fn normal(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}
