//! The gradients of hidden states, output matrix and bias, from those of some logits at a time.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::kind::in_kind;
use crate::logits::FromHidden;
use crate::native;

/// Whether operations leave a history, which they do not under `no_grad`.
fn are_recorded() -> Result<bool> {
    let leaf = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?;
    Ok(leaf.f_set_requires_grad(true)?.f_neg()?.requires_grad())
}

/// Sums in numbers of at least 32 bits; none of what has no gradient, such as a frozen output matrix.
#[derive(Debug)]
pub(super) struct HeadGradients<'a> {
    logits: &'a FromHidden,
    /// Without history, `[positions, size]`.
    states: Tensor,
    hidden: Option<Tensor>,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl<'a> HeadGradients<'a> {
    /// Of so many positions.
    pub(super) fn new(logits: &'a FromHidden, count: i64) -> Result<Self> {
        let (kind, device) = (logits.kind_of_sums(), logits.hidden().device());
        let zeros = |size: &[i64], wanted: bool| {
            let zeros = || Tensor::f_zeros(size, (kind, device));
            wanted.then(zeros).transpose()
        };
        let are_recorded = are_recorded()?;
        let wants = |tensor: &Tensor| are_recorded && tensor.requires_grad();
        let size = logits.weight().size();
        let width = size.last().copied().unwrap_or(0);
        let bias = logits.output_bias();
        Ok(HeadGradients {
            states: logits.hidden().f_detach()?.f_reshape([count, width])?,
            hidden: zeros(&[count, width], wants(logits.hidden()))?,
            weight: zeros(&size, wants(logits.weight()))?,
            bias: zeros(&[logits.classes()], bias.is_some_and(wants))?,
            logits,
        })
    }

    /// Whether there is any gradient to compute.
    pub(super) fn are_wanted(&self) -> bool {
        self.hidden.is_some() || self.weight.is_some() || self.bias.is_some()
    }

    /// Adds what comes of the gradient `[rows, classes]` of the positions from `start`.
    pub(super) fn add(&mut self, start: i64, gradient: &Tensor) -> Result<()> {
        let _no_history = tch::no_grad_guard();
        let rows = gradient.size2()?.0;
        if let Some(hidden) = &self.hidden {
            // In the matrix's own kind: it is not copied for each of the parts.
            let weight = self.logits.weight();
            let product = in_kind(gradient, weight.f_kind()?)?.f_matmul(weight)?;
            hidden.f_narrow(0, start, rows)?.f_copy_(&product)?;
        }
        if let Some(weight) = &mut self.weight {
            let states = self.states.f_narrow(0, start, rows)?;
            let kind = weight.f_kind()?;
            let _ = weight.f_addmm_(&in_kind(gradient, kind)?.f_tr()?, &in_kind(&states, kind)?)?;
        }
        if let Some(bias) = &mut self.bias {
            let _ = bias.f_add_(&gradient.f_sum_dim_intlist([0i64].as_slice(), false, None)?)?;
        }
        Ok(())
    }

    /// The value `total`, which has these gradients.
    pub(super) fn of(self, total: &Tensor) -> Result<Tensor> {
        let mut gradients = Vec::new();
        let hidden = self.logits.hidden();
        if let Some(gradient) = self.hidden {
            gradients.push((hidden, gradient.f_reshape(hidden.size())?));
        }
        let weight = self.logits.weight();
        if let Some(gradient) = self.weight {
            gradients.push((weight, gradient));
        }
        if let (Some(bias), Some(gradient)) = (self.logits.output_bias(), self.bias) {
            gradients.push((bias, gradient));
        }
        match gradients.is_empty() {
            true => Ok(total.shallow_clone()),
            false => native::with_gradients(total, &gradients),
        }
    }
}
