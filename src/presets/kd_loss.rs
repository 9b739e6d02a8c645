//! Losses on logits.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use super::KdInput;
use crate::error::{Error, Result};
use crate::losses::Temperature;
use crate::losses::mean::mean;

type OnAll = Rc<dyn Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor>>;
type AtEach = Rc<dyn for<'a> Fn(&KdInput<'a>) -> Result<Tensor>>;

/// A loss between the student's logits and the teacher's, of one of two kinds.
///
/// - **Per position** ([`Presets::kd_loss_per_position`](crate::Presets::kd_loss_per_position)):
///   a function of a [`KdInput`] that says how large the loss is at each position. It may be
///   weighted, and sees the batch. With labels
///   ([`Presets::kd_loss_with_labels`](crate::Presets::kd_loss_with_labels)), at each position
///   that has one.
/// - **On all positions** ([`Presets::kd_loss`](crate::Presets::kd_loss)): a function of student,
///   teacher and temperature that gives one number. Weights are an error.
///
/// A mask selects positions before either.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::{KdInput, KdLoss, Presets};
///
/// let loss: KdLoss = Presets::default().find_kd_loss("kd_loss_type", "mse")?;
/// let (student, teacher) = (Tensor::from_slice2(&[[1.0], [3.0]]), Tensor::from_slice2(&[[2.0], [5.0]]));
/// let input = KdInput::new(&student, &teacher, 1.0)?;
/// assert_eq!(loss.apply(&input)?.double_value(&[]), (1.0 + 4.0) / 2.0);
/// let input = input.with_weights(&Tensor::from_slice(&[1.0, 0.5]));
/// assert_eq!(loss.apply(&input)?.double_value(&[]), (1.0 + 0.5 * 4.0) / 1.5);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct KdLoss(Form);

#[derive(Clone)]
enum Form {
    OnAll(OnAll),
    PerPosition {
        at_each: AtEach,
        /// The mean in one libtorch operator, where it is faster or rounds differently.
        mean: Option<OnAll>,
    },
    AtLabels(AtEach),
}

impl KdLoss {
    pub(super) fn on_all(
        loss: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        KdLoss(Form::OnAll(Rc::new(loss)))
    }

    pub(super) fn per_position(
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        KdLoss(Form::PerPosition {
            at_each: Rc::new(loss),
            mean: None,
        })
    }

    pub(super) fn at_labels(
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        KdLoss(Form::AtLabels(Rc::new(loss)))
    }

    /// A loss per position with a mean of its own for where nothing is weighted.
    pub(super) fn with_mean(
        at_each: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
        mean: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        KdLoss(Form::PerPosition {
            at_each: Rc::new(on_whole_logits(at_each)),
            mean: Some(Rc::new(mean)),
        })
    }

    /// The loss as one number: the mean over the positions, weighted if they have weights.
    /// It is 0, and its gradient as well, where all weights are 0, a mask has kept no position, or
    /// a loss at the labels finds no label; where there is no position the loss is not asked.
    ///
    /// # Errors
    /// When the loss fails, gives another number of losses than there are positions, or cannot
    /// be weighted.
    pub fn apply(&self, input: &KdInput<'_>) -> Result<Tensor> {
        let positions = &input.positions;
        match &self.0 {
            Form::OnAll(_) if positions.are_weighted() => Err(Error::shape(
                "logits_weights",
                "a loss that is computed at each position (`kd_loss_per_position` registers it)",
                "a loss that gives one number for all positions (`kd_loss`)",
            )),
            // No loss need know what to make of nothing.
            _ if input.is_empty() => nothing(input),
            Form::PerPosition {
                mean: Some(on_all), ..
            } if !positions.are_weighted() => on_whole_logits(&**on_all)(input),
            Form::OnAll(on_all) => on_whole_logits(&**on_all)(input),
            Form::PerPosition { at_each, .. } => positions.mean(&at_each(input)?),
            Form::AtLabels(at_each) => {
                let input = input.at_labels()?;
                match input.is_empty() {
                    true => nothing(&input),
                    false => input.positions.mean(&at_each(&input)?),
                }
            }
        }
    }
}

/// 0, with a gradient of 0: the loss at no position.
fn nothing(input: &KdInput<'_>) -> Result<Tensor> {
    mean(&input.student.whole()?)
}

/// A function of the logits of all classes as one of a [`KdInput`].
pub(super) fn on_whole_logits(
    loss: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor>,
) -> impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> {
    move |input| {
        let (student, teacher) = (input.student.whole()?, input.teacher.whole()?);
        loss(&student, &teacher, &input.temperature)
    }
}

impl fmt::Debug for KdLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KdLoss")
            .field("per_position", &!matches!(self.0, Form::OnAll(_)))
            .finish_non_exhaustive()
    }
}
