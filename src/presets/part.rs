//! Some of the positions of a loss that goes in parts: from hidden states to the gradients of logits.

use tch::{Kind, Tensor};

use super::KdInput;
use super::in_parts::AtEach;
use crate::error::Result;
use crate::kind::in_kind;
use crate::logits::FromHidden;
use crate::losses::support::at_temperature;
use crate::losses::{Divergence, agreement, rows_of_a_block, times_square, times_square_of_rows};
use crate::native::divergence as native;
use crate::scalar::ScalarOps;

/// Labels whose cross entropy is learned beside the loss.
#[derive(Debug)]
pub(super) struct Labels {
    /// `[positions]`, negative where there is none.
    pub(super) classes: Tensor,
    /// The share of each in the mean, `[positions]`, 0 where there is none.
    pub(super) shares: Tensor,
    /// What the mean is multiplied by for its gradient.
    pub(super) weight: f64,
}

impl Labels {
    pub(super) fn at_rows(&self, rows: &Tensor) -> Result<Self> {
        Ok(Labels {
            classes: self.classes.f_index_select(0, rows)?,
            shares: self.shares.f_index_select(0, rows)?,
            weight: self.weight,
        })
    }

    pub(super) fn narrow(&self, start: i64, length: i64) -> Result<Self> {
        Ok(Labels {
            classes: self.classes.f_narrow(0, start, length)?,
            shares: self.shares.f_narrow(0, start, length)?,
            weight: self.weight,
        })
    }

    /// `Σ share · −log q(label)` of logits `[positions, classes]`.
    fn cross_entropy(&self, logits: &Tensor) -> Result<Tensor> {
        let logs = logits.f_log_softmax(-1, None)?;
        let classes = self.classes.at_least(0)?.f_unsqueeze(-1)?;
        let of_labels = logs.f_gather(-1, &classes, false)?.f_squeeze_dim(-1)?;
        let has_none = self.classes.is_below(0)?;
        let shares = in_kind(&self.shares, logs.f_kind()?)?;
        Ok(of_labels.filled(&has_none, 0.0)?.f_dot(&shares)?.f_neg()?)
    }

    /// The same, and its gradient of the logits, with the weight. Nothing is recorded.
    fn with_gradient(&self, logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let sum = self.cross_entropy(logits)?;
        let factors = in_kind(&self.shares, logits.f_kind()?)?.times(self.weight)?;
        let factors = factors.f_unsqueeze(-1)?;
        let mut gradient = logits.f_softmax(-1, None)?;
        let _ = gradient.f_mul_(&factors)?;
        let classes = self.classes.at_least(0)?.f_unsqueeze(-1)?;
        let _ = gradient.f_scatter_add_(-1, &classes, &factors.f_neg()?)?;
        Ok((sum, gradient))
    }
}

/// Some of the positions.
pub(super) struct Part<'a> {
    pub(super) student: &'a FromHidden,
    pub(super) input: &'a KdInput<'a>,
    /// The share of each in the loss.
    pub(super) shares: &'a Tensor,
    pub(super) labels: Option<Labels>,
    /// Whether gradients are wanted.
    pub(super) is_learned: bool,
    /// For how many of the likeliest classes agreement is measured, if it is.
    pub(super) agreement: Option<u64>,
}

/// What comes of a part.
pub(super) struct Done {
    /// The sum of the losses times their shares.
    pub(super) loss: Tensor,
    /// That of the cross entropies with the labels.
    pub(super) label_loss: Option<Tensor>,
    /// The gradient of what the output matrix gives, before scale and cap, `[rows, classes]`.
    pub(super) gradient: Option<Tensor>,
    /// Agreement, each number times the shares.
    pub(super) agreement: Option<Tensor>,
}

impl Part<'_> {
    /// Of a loss whose gradient libtorch finds.
    pub(super) fn with_graph(&self, at_each: AtEach<'_>) -> Result<Done> {
        let logits = {
            let _no_history = tch::no_grad_guard();
            self.input.student.whole()?
        };
        let logits = logits.f_detach()?.f_set_requires_grad(self.is_learned)?;
        let losses = at_each(&self.input.with_logits(&logits, &self.input.teacher))?;
        let losses = in_kind(&losses.f_reshape([-1i64])?, self.shares.f_kind()?)?;
        let loss = losses.f_dot(self.shares)?;
        let labels = self.labels.as_ref();
        let label_loss = labels
            .map(|labels| labels.cross_entropy(&logits))
            .transpose()?;
        let mut done = Done {
            loss: loss.f_detach()?,
            label_loss: label_loss.as_ref().map(Tensor::f_detach).transpose()?,
            gradient: None,
            agreement: match self.agreement {
                Some(_) => self.agreement_of(&logits, &self.input.teacher.whole()?)?,
                None => None,
            },
        };
        if self.is_learned {
            match (&label_loss, labels) {
                (Some(label_loss), Some(labels)) => {
                    let label_loss = in_kind(&label_loss.times(labels.weight)?, loss.f_kind()?)?;
                    loss.f_add(&label_loss)?.f_backward()?;
                }
                _ => loss.f_backward()?,
            }
            let _no_history = tch::no_grad_guard();
            let gradient = logits.f_grad()?;
            done.gradient = Some(self.student.gradient_before_head(&logits, &gradient)?);
        }
        Ok(done)
    }

    /// Of a divergence. The gradient takes the place of the student's logits.
    pub(super) fn in_closed_form(
        &self,
        (divergence, is_squared): (Divergence, bool),
    ) -> Result<Done> {
        let _no_history = tch::no_grad_guard();
        let (logits, teacher) = (self.input.student.whole()?, self.input.teacher.whole()?);
        let agreement = self.agreement_of(&logits, &teacher)?;
        let (loss, label_loss) = match native::supports(divergence, &[&logits, &teacher]) {
            true => self.in_one_pass((divergence, is_squared), [&logits, &teacher])?,
            false => self.in_blocks((divergence, is_squared), [&logits, &teacher])?,
        };
        Ok(Done {
            loss,
            label_loss,
            gradient: self.is_learned.then_some(logits),
            agreement,
        })
    }

    fn agreement_of(&self, student: &Tensor, teacher: &Tensor) -> Result<Option<Tensor>> {
        let Some(k) = self.agreement else {
            return Ok(None);
        };
        let k = i64::try_from(k).unwrap_or(i64::MAX);
        Ok(Some(agreement(student, teacher, k)?.sums(self.shares)?))
    }

    /// Some rows at a time, so that what is between logits and gradient stays small.
    fn in_blocks(
        &self,
        (divergence, is_squared): (Divergence, bool),
        [logits, teacher]: [&Tensor; 2],
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (count, classes) = logits.size2()?;
        let of_a_block = rows_of_a_block(classes, logits.device());
        let zero = || Tensor::f_zeros([0i64; 0], (self.shares.f_kind()?, logits.device()));
        let (mut total, mut of_labels) = (zero()?, zero()?);
        let mut start = 0;
        while start < count {
            let length = of_a_block.min(count - start);
            let rows = |tensor: &Tensor| tensor.f_narrow(0, start, length);
            let temperature = self.input.temperature.of_rows(start, length)?;
            let (mut block, shares) = (rows(logits)?, rows(self.shares)?);
            let computed = divergence.closed_form(&block, &rows(teacher)?, &temperature)?;
            let (mut losses, mut gradient) = (computed.losses, computed.gradient);
            if is_squared {
                losses = times_square("tau_squared", &losses, &temperature)?;
                gradient = times_square_of_rows("tau_squared", gradient, &temperature)?;
            }
            let _ = total.f_add_(&in_kind(&losses, shares.f_kind()?)?.f_dot(&shares)?)?;
            let _ = gradient.f_mul_(&in_kind(&shares, gradient.f_kind()?)?.f_unsqueeze(-1)?)?;
            if let Some(labels) = &self.labels {
                let (sum, of_these) = labels.narrow(start, length)?.with_gradient(&block)?;
                let _ = of_labels.f_add_(&in_kind(&sum, of_labels.f_kind()?)?)?;
                let _ = gradient.f_add_(&of_these)?;
            }
            if self.is_learned {
                block.f_copy_(&self.student.gradient_before_head(&block, &gradient)?)?;
            }
            start += length;
        }
        Ok((total, self.labels.is_some().then_some(of_labels)))
    }

    /// All rows by a kernel that does all of it for a row.
    fn in_one_pass(
        &self,
        (divergence, is_squared): (Divergence, bool),
        [logits, teacher]: [&Tensor; 2],
    ) -> Result<(Tensor, Option<Tensor>)> {
        let temperature = &self.input.temperature;
        let shares = in_kind(self.shares, Kind::Float)?;
        let ones = shares.f_ones_like()?;
        let inverse = at_temperature("logits", &ones.f_unsqueeze(-1)?, temperature)?;
        let inverse = in_kind(&inverse.f_squeeze_dim(-1)?, Kind::Float)?;
        let inverse_temperatures = inverse.f_contiguous()?;
        let is_squared = is_squared || divergence == Divergence::Kl;
        let squared = |losses: &Tensor| match is_squared {
            true => times_square("tau_squared", losses, temperature),
            false => Ok(losses.shallow_clone()),
        };
        let factors = squared(&shares)?.f_mul(&inverse_temperatures)?;
        let scale = self.student.factor();
        let factors_of_labels = |labels: &Labels| -> Result<Tensor> {
            let shares = in_kind(&labels.shares, Kind::Float)?;
            Ok(shares.times(labels.weight * scale)?)
        };
        let labels = self.labels.as_ref();
        let label_factors = labels.map(factors_of_labels).transpose()?;
        let rows = native::Rows {
            student: logits,
            teacher,
            inverse_temperatures: &inverse_temperatures,
            factors: &in_kind(&factors.times(scale)?, Kind::Float)?,
            soft_cap: self.student.cap(),
            wants_gradient: self.is_learned,
            labels: labels
                .map(|labels| &labels.classes)
                .zip(label_factors.as_ref()),
        };
        let [losses, of_labels] = native::divergence(divergence, &rows)?;
        let losses = in_kind(&squared(&losses)?, self.shares.f_kind()?)?;
        let label_loss = match labels {
            Some(labels) => {
                let shares = &labels.shares;
                Some(in_kind(&of_labels, shares.f_kind()?)?.f_dot(shares)?)
            }
            None => None,
        };
        Ok((losses.f_dot(self.shares)?, label_loss))
    }
}
