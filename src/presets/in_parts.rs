//! A loss on logits that have not been made yet, some positions at a time.
//!
//! The logits of all positions would be the largest tensor of a step: 1,024 positions of a vocabulary
//! of 151,936 take 600 MB, and their gradient as much again. Here they are made, compared with the
//! teacher's and turned into gradients of the hidden states and the output matrix before the next
//! ones are made. The backward pass has only to multiply.

use tch::{Kind, Tensor};

use super::KdInput;
use crate::error::Result;
use crate::kind::in_kind;
use crate::logits::FromHidden;
use crate::native;

/// The losses of the positions in a [`KdInput`].
type AtEach<'a> = &'a dyn Fn(&KdInput<'_>) -> Result<Tensor>;

/// The weighted mean of the losses at the positions.
pub(super) fn mean_in_parts(
    student: &FromHidden,
    input: &KdInput<'_>,
    at_each: AtEach<'_>,
) -> Result<Tensor> {
    let shares = input.positions.shares(student.kind_of_sums())?;
    let count = shares.size1()?;
    let mut parts = Parts::new(student, count)?;
    let of_a_part = student.positions_at_once();
    let mut start = 0;
    while start < count {
        let length = of_a_part.min(count - start);
        let rows = Tensor::f_arange_start(start, start + length, (Kind::Int64, shares.device()))?;
        parts.add(
            &input.at_rows(&rows)?,
            &shares.f_narrow(0, start, length)?,
            start,
            at_each,
        )?;
        start += length;
    }
    parts.finish()
}

/// The sum so far, and its gradients.
struct Parts<'a> {
    logits: &'a FromHidden,
    kind: Kind,
    total: Tensor,
    hidden: Option<Tensor>,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl<'a> Parts<'a> {
    fn new(logits: &'a FromHidden, count: i64) -> Result<Self> {
        let (kind, device) = (logits.kind_of_sums(), logits.hidden().device());
        let zeros = |size: &[i64], wanted: bool| {
            let zeros = || Tensor::f_zeros(size, (kind, device));
            wanted.then(zeros).transpose()
        };
        // A view asks for gradients only where they are recorded.
        let wants = |tensor: &Tensor| tensor.f_alias().is_ok_and(|view| view.requires_grad());
        let size = logits.weight().size();
        let width = size.last().copied().unwrap_or(0);
        let bias = logits.output_bias();
        Ok(Parts {
            total: Tensor::f_zeros([0i64; 0], (kind, device))?,
            hidden: zeros(&[count, width], wants(logits.hidden()))?,
            weight: zeros(&size, wants(logits.weight()))?,
            bias: zeros(&[logits.classes()], bias.is_some_and(wants))?,
            logits,
            kind,
        })
    }

    fn has_gradients(&self) -> bool {
        self.hidden.is_some() || self.weight.is_some() || self.bias.is_some()
    }

    fn add(
        &mut self,
        input: &KdInput<'_>,
        shares: &Tensor,
        start: i64,
        at_each: AtEach<'_>,
    ) -> Result<()> {
        let logits = tch::no_grad(|| input.student.whole())?;
        let logits = logits
            .f_detach()?
            .f_set_requires_grad(self.has_gradients())?;
        let part = input.with_logits(&logits, &input.teacher);
        let losses = in_kind(&at_each(&part)?.f_reshape([-1i64])?, self.kind)?;
        let sum = losses.f_dot(shares)?;
        let _ = self.total.f_add_(&sum.f_detach()?)?;
        if !self.has_gradients() {
            return Ok(());
        }
        sum.f_backward()?;
        let _no_history = tch::no_grad_guard();
        let gradient = self
            .logits
            .gradient_before_head(&logits, &logits.f_grad()?)?;
        if let Some(hidden) = &self.hidden {
            let weight = in_kind(self.logits.weight(), self.kind)?;
            let mut rows = hidden.f_narrow(0, start, gradient.size2()?.0)?;
            let _ = rows.f_addmm_(&gradient, &weight)?;
        }
        let rows = gradient.size2()?.0;
        let hidden = self.flat_hidden()?.f_narrow(0, start, rows)?;
        if let Some(weight) = &mut self.weight {
            let _ = weight.f_addmm_(&gradient.f_tr()?, &in_kind(&hidden, self.kind)?)?;
        }
        if let Some(bias) = &mut self.bias {
            let _ = bias.f_add_(&gradient.f_sum_dim_intlist([0i64].as_slice(), false, None)?)?;
        }
        Ok(())
    }

    fn flat_hidden(&self) -> Result<Tensor> {
        let hidden = self.logits.hidden();
        let width = hidden.size().last().copied().unwrap_or(1);
        Ok(hidden.f_detach()?.f_reshape([-1, width])?)
    }

    fn finish(self) -> Result<Tensor> {
        let mut gradients = Vec::new();
        let hidden = self.logits.hidden();
        if let Some(gradient) = self.hidden {
            let gradient = gradient.f_reshape(hidden.size())?;
            gradients.push((hidden, in_kind(&gradient, hidden.f_kind()?)?));
        }
        let weight = self.logits.weight();
        if let Some(gradient) = self.weight {
            gradients.push((weight, in_kind(&gradient, weight.f_kind()?)?));
        }
        if let (Some(bias), Some(gradient)) = (self.logits.output_bias(), self.bias) {
            gradients.push((bias, in_kind(&gradient, bias.f_kind()?)?));
        }
        match gradients.is_empty() {
            true => Ok(self.total),
            false => native::with_gradients(&self.total, &gradients),
        }
    }
}
