//! A loss on logits that have not been made yet, some positions at a time.
//!
//! The logits of all positions would be the largest tensor of a step: 1,024 positions of a vocabulary
//! of 151,936 take 600 MB, and their gradient as much again. Here they are made, compared with the
//! teacher's and turned into gradients of the hidden states and the output matrix before the next
//! ones are made. The backward pass has only to multiply.

use tch::{Device, Kind, Tensor};

use super::KdInput;
use super::head_gradients::HeadGradients;
use crate::error::Result;
use crate::kind::in_kind;
use crate::logits::{FromHidden, Logits};
use crate::losses::support::at_temperature;
use crate::losses::{Divergence, times_square, times_square_of_rows};
use crate::native::divergence as native;
use crate::scalar::ScalarOps;

/// The losses of the positions in a [`KdInput`].
type AtEach<'a> = &'a dyn Fn(&KdInput<'_>) -> Result<Tensor>;

/// A loss that has a value at each position.
#[derive(Clone, Copy)]
pub(super) struct LossInParts<'a> {
    pub(super) at_each: AtEach<'a>,
    /// The same as a divergence, whose gradient is known without a graph, and whether it is to be
    /// multiplied by τ².
    pub(super) closed: Option<(Divergence, bool)>,
}

/// How many tensors of the size of the logits a loss with a graph has at a time, roughly: logits,
/// probabilities and gradients of both models.
const WITH_GRAPH: i64 = 8;
/// Without one: the logits of both models.
const IN_CLOSED_FORM: i64 = 2;

/// The weighted mean of the losses at the positions.
pub(super) fn mean_in_parts(
    student: &FromHidden,
    input: &KdInput<'_>,
    loss: LossInParts<'_>,
) -> Result<Tensor> {
    let shares = input.positions.shares(student.kind_of_sums())?;
    if !input.positions.are_weighted() {
        return sum_in_parts(student, input, &shares, loss);
    }
    // What has no weight is not computed.
    let rows = shares.f_nonzero()?.f_squeeze_dim(-1)?;
    let input = input.at_rows(&rows)?;
    match &input.student {
        Logits::FromHidden(student) => {
            sum_in_parts(student, &input, &shares.f_index_select(0, &rows)?, loss)
        }
        _ => sum_in_parts(student, &input, &shares, loss),
    }
}

/// The sum of the losses times these shares.
fn sum_in_parts(
    student: &FromHidden,
    input: &KdInput<'_>,
    shares: &Tensor,
    loss: LossInParts<'_>,
) -> Result<Tensor> {
    let count = shares.size1()?;
    let knows_all = matches!(input.teacher, Logits::Whole(_) | Logits::FromHidden(_));
    let closed = loss.closed.filter(|_| knows_all);
    let of_a_part = student.positions_at_once(match closed {
        Some(_) => IN_CLOSED_FORM,
        None => WITH_GRAPH,
    });
    let mut gradients = HeadGradients::new(student, count)?;
    let total = Tensor::f_zeros([0i64; 0], (shares.f_kind()?, shares.device()))?;
    let mut start = 0;
    while start < count {
        let length = of_a_part.min(count - start);
        let rows = Tensor::f_arange_start(start, start + length, (Kind::Int64, shares.device()))?;
        let part = Part {
            input: &input.at_rows(&rows)?,
            shares: &shares.f_narrow(0, start, length)?,
        };
        let (sum, gradient) = match closed {
            Some(closed) => part.in_closed_form(student, closed, gradients.are_wanted())?,
            None => part.with_graph(student, loss.at_each, gradients.are_wanted())?,
        };
        let _ = total.shallow_clone().f_add_(&sum)?;
        if let Some(gradient) = gradient {
            gradients.add(start, &gradient)?;
        }
        start += length;
    }
    gradients.of(&total)
}

/// Some of the positions.
struct Part<'a> {
    input: &'a KdInput<'a>,
    shares: &'a Tensor,
}

/// The sum of the losses times their shares, and its gradient of what the output matrix gives, before
/// scale and cap, `[rows, classes]`.
type SumAndGradient = (Tensor, Option<Tensor>);

impl Part<'_> {
    fn with_graph(
        &self,
        student: &FromHidden,
        at_each: AtEach<'_>,
        is_wanted: bool,
    ) -> Result<SumAndGradient> {
        let logits = tch::no_grad(|| self.input.student.whole())?;
        let logits = logits.f_detach()?.f_set_requires_grad(is_wanted)?;
        let losses = at_each(&self.input.with_logits(&logits, &self.input.teacher))?;
        let losses = in_kind(&losses.f_reshape([-1i64])?, self.shares.f_kind()?)?;
        let sum = losses.f_dot(self.shares)?;
        if !is_wanted {
            return Ok((sum.f_detach()?, None));
        }
        sum.f_backward()?;
        let _no_history = tch::no_grad_guard();
        let gradient = student.gradient_before_head(&logits, &logits.f_grad()?)?;
        Ok((sum.f_detach()?, Some(gradient)))
    }

    /// Some rows at a time, so that what is between logits and gradient stays in the cache; the
    /// gradient takes the place of the student's logits.
    fn in_closed_form(
        &self,
        student: &FromHidden,
        (divergence, is_squared): (Divergence, bool),
        is_wanted: bool,
    ) -> Result<SumAndGradient> {
        let _no_history = tch::no_grad_guard();
        let (logits, teacher) = (self.input.student.whole()?, self.input.teacher.whole()?);
        if native::supports(divergence, &[&logits, &teacher]) {
            let losses = self.in_one_pass(
                student,
                (divergence, is_squared),
                is_wanted,
                [&logits, &teacher],
            )?;
            return Ok((losses, is_wanted.then_some(logits)));
        }
        let (count, classes) = logits.size2()?;
        let of_a_block = rows_of_a_block(classes, logits.device());
        let total = Tensor::f_zeros([0i64; 0], (self.shares.f_kind()?, logits.device()))?;
        let mut start = 0;
        while start < count {
            let length = of_a_block.min(count - start);
            let rows = |tensor: &Tensor| tensor.f_narrow(0, start, length);
            let temperature = self.input.temperature.of_rows(start, length)?;
            let block = rows(&logits)?;
            let computed = divergence.closed_form(&block, &rows(&teacher)?, &temperature)?;
            let (mut losses, mut gradient) = (computed.losses, computed.gradient);
            if is_squared {
                losses = times_square("tau_squared", &losses, &temperature)?;
                gradient = times_square_of_rows("tau_squared", gradient, &temperature)?;
            }
            let shares = rows(self.shares)?;
            let losses = in_kind(&losses, shares.f_kind()?)?;
            let _ = total.shallow_clone().f_add_(&losses.f_dot(&shares)?)?;
            if is_wanted {
                let _ = gradient.f_mul_(&in_kind(&shares, gradient.f_kind()?)?.f_unsqueeze(-1)?)?;
                let gradient = student.gradient_before_head(&block, &gradient)?;
                block.shallow_clone().f_copy_(&gradient)?;
            }
            start += length;
        }
        Ok((total, is_wanted.then_some(logits)))
    }
}

impl Part<'_> {
    /// As [`in_closed_form`](Self::in_closed_form), where a kernel does all of it for a row.
    fn in_one_pass(
        &self,
        student: &FromHidden,
        (divergence, is_squared): (Divergence, bool),
        wants_gradient: bool,
        [logits, teacher]: [&Tensor; 2],
    ) -> Result<Tensor> {
        let temperature = &self.input.temperature;
        let shares = in_kind(self.shares, Kind::Float)?;
        let ones = shares.f_ones_like()?;
        let inverse = at_temperature("logits", &ones.f_unsqueeze(-1)?, temperature)?;
        let inverse_temperatures = inverse.f_squeeze_dim(-1)?.f_contiguous()?;
        let is_squared = is_squared || divergence == Divergence::Kl;
        let squared = |losses: &Tensor| match is_squared {
            true => times_square("tau_squared", losses, temperature),
            false => Ok(losses.shallow_clone()),
        };
        let factors = squared(&shares)?.f_mul(&inverse_temperatures)?;
        let losses = native::divergence(
            divergence,
            &native::Rows {
                student: logits,
                teacher,
                inverse_temperatures: &inverse_temperatures,
                factors: &factors.times(student.factor())?,
                soft_cap: student.cap(),
                wants_gradient,
            },
        )?;
        let losses = in_kind(&squared(&losses)?, self.shares.f_kind()?)?;
        Ok(losses.f_dot(self.shares)?)
    }
}

/// Of how many rows a processor's cache holds the few tensors that a closed form makes, or a device
/// has enough to do.
fn rows_of_a_block(classes: i64, device: Device) -> i64 {
    let bytes = match device {
        Device::Cpu => 1 << 20,
        _ => 32 << 20,
    };
    // A softmax divides rows among threads.
    let least = match device {
        Device::Cpu => i64::from(tch::get_num_threads()),
        _ => 1,
    };
    (bytes / (4 * classes.max(1))).max(least).max(1)
}
