//! A loss on logits that have not been made yet, some positions at a time.
//!
//! The logits of all positions would be the largest tensor of a step: 1,024 positions of a vocabulary
//! of 151,936 take 600 MB, and their gradient as much again. Here they are made, compared with the
//! teacher's and turned into gradients of the hidden states and the output matrix before the next
//! ones are made. The backward pass has only to multiply.

use tch::{Kind, Tensor};

use super::KdInput;
use super::head_gradients::HeadGradients;
use super::kd_loss::{Besides, Learned};
use super::part::{Labels, Part};
use crate::error::{Error, Result};
use crate::kind::in_kind;
use crate::logits::{FromHidden, Logits};
use crate::losses::Divergence;
use crate::losses::labels::{check_classes, integers};
use crate::losses::mean::at_least_one;
use crate::scalar::ScalarOps;

/// The losses of the positions in a [`KdInput`].
pub(super) type AtEach<'a> = &'a dyn Fn(&KdInput<'_>) -> Result<Tensor>;

/// A loss that has a value at each position.
#[derive(Clone, Copy)]
pub(super) struct LossInParts<'a> {
    pub(super) at_each: AtEach<'a>,
    /// The same as a divergence, whose gradient is known without a graph, and whether it is to be
    /// multiplied by τ².
    pub(super) closed: Option<(Divergence, bool)>,
    pub(super) besides: Besides,
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
) -> Result<Learned> {
    check_positions(input)?;
    // Its gradients would be those of single parts.
    let input = &input.with_logits(&input.student, input.teacher.detached()?);
    let kind = student.kind_of_sums();
    let shares = input.positions.shares(kind)?;
    let labels = match loss.besides.label_weight {
        Some(weight) => Some(labels_of(input, student.classes(), (weight, kind))?),
        None => None,
    };
    if !input.positions.are_weighted() {
        return sum_in_parts(student, input, (&shares, labels.as_ref()), loss);
    }
    // What has no weight and no label is not computed.
    let is_wanted = shares.is_not(0.0)?;
    let is_wanted = match &labels {
        Some(labels) => is_wanted.f_logical_or(&labels.shares.is_not(0.0)?)?,
        None => is_wanted,
    };
    let rows = is_wanted.f_nonzero()?.f_squeeze_dim(-1)?;
    let input = input.at_rows(&rows)?;
    let shares = shares.f_index_select(0, &rows)?;
    let labels = labels.map(|labels| labels.at_rows(&rows)).transpose()?;
    // The hidden states at these rows.
    match &input.student {
        Logits::FromHidden(student) => {
            sum_in_parts(student, &input, (&shares, labels.as_ref()), loss)
        }
        other => Err(Error::other(format!("rows of hidden states: {other:?}"))),
    }
}

/// Rows of other positions would be compared without a word.
fn check_positions(input: &KdInput<'_>) -> Result<()> {
    let (student, teacher) = (input.student.positions()?, input.teacher.positions()?);
    match student == teacher {
        true => Ok(()),
        false => Err(Error::shape(
            "the teacher's logits",
            format!("the student's positions {student:?} (a `logits_mask` is for both adaptors)"),
            format!("{teacher:?}"),
        )),
    }
}

/// The labels of the positions, each with its share in the mean over those that have one.
fn labels_of(input: &KdInput<'_>, classes: i64, (weight, kind): (f64, Kind)) -> Result<Labels> {
    let labels = integers(&input.labels()?, "labels")?.f_reshape([-1i64])?;
    check_classes(&labels, classes)?;
    let is_class = labels.is_below(0)?.f_logical_not()?;
    let shares = is_class.f_to_kind(kind)?;
    Ok(Labels {
        shares: shares.f_div(&at_least_one(&shares.f_sum(None)?)?)?,
        classes: labels.f_contiguous()?,
        weight,
    })
}

/// The sum of the losses times these shares.
fn sum_in_parts(
    student: &FromHidden,
    input: &KdInput<'_>,
    (shares, labels): (&Tensor, Option<&Labels>),
    loss: LossInParts<'_>,
) -> Result<Learned> {
    let count = shares.size1()?;
    let knows_all = matches!(input.teacher, Logits::Whole(_) | Logits::FromHidden(_));
    let closed = loss.closed.filter(|_| knows_all);
    let of_a_part = student.positions_at_once(match closed {
        Some(_) => IN_CLOSED_FORM,
        None => WITH_GRAPH,
    });
    let mut gradients = HeadGradients::new(student, count)?;
    let zero = || Tensor::f_zeros([0i64; 0], (shares.f_kind()?, shares.device()));
    let (mut total, mut of_labels) = (zero()?, zero()?);
    let mut agreement: Option<Tensor> = None;
    let mut start = 0;
    while start < count {
        let length = of_a_part.min(count - start);
        let rows = Tensor::f_arange_start(start, start + length, (Kind::Int64, shares.device()))?;
        let part = Part {
            student,
            input: &input.at_rows(&rows)?,
            shares: &shares.f_narrow(0, start, length)?,
            labels: labels
                .map(|labels| labels.narrow(start, length))
                .transpose()?,
            is_learned: gradients.are_wanted(),
            agreement: loss.besides.agreement.filter(|_| knows_all),
        };
        let done = match closed {
            Some(closed) => part.in_closed_form(closed)?,
            None => part.with_graph(loss.at_each)?,
        };
        let _ = total.f_add_(&done.loss)?;
        if let Some(of_these) = done.label_loss {
            let _ = of_labels.f_add_(&in_kind(&of_these, total.f_kind()?)?)?;
        }
        agreement = match (agreement, done.agreement) {
            (Some(before), Some(of_these)) => Some(before.f_add(&of_these)?),
            (before, of_these) => of_these.or(before),
        };
        if let Some(gradient) = done.gradient {
            gradients.add(start, &gradient)?;
        }
        start += length;
    }
    Ok(Learned {
        loss: gradients.of(&total)?,
        label_loss: labels.map(|_| of_labels),
        agreement,
    })
}
