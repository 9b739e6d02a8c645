//! What a loss on logits is computed from.

use std::any::{Any, type_name};
use std::fmt;

use tch::Tensor;

use crate::batch::Batch;
use crate::error::{Error, Result, Side};
use crate::logits::{Logits, Tail};
use crate::losses::Temperature;
use crate::losses::positions::Positions;
use crate::scalar::ScalarOps;
use crate::step::StepInfo;

/// What a loss on logits is computed from: the logits of both models at the positions that
/// count, and what is known of these positions.
///
/// The distillers make it; for a test of a loss it is made by hand.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::support::at_temperature;
/// use textbrewer::{KdInput, Presets};
///
/// // Where the teacher gives the true class less than one half, it is not followed.
/// let presets = Presets::default().kd_loss_with_labels("careful", |input| {
///     let log = |logits: Tensor| -> textbrewer::Result<Tensor> {
///         let softened = at_temperature("careful", &logits, &input.temperature)?;
///         Ok(softened.f_log_softmax(-1, None)?)
///     };
///     let (q, p) = (log(input.student.whole()?)?, log(input.teacher.whole()?)?.f_exp()?);
///     let labels = input.labels()?.f_unsqueeze(-1)?;
///     let right = p.f_gather(-1, &labels, false)?.f_squeeze_dim(-1)?.f_round()?;
///     let cross_entropy = p.f_mul(&q)?.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
///     Ok(cross_entropy.f_neg()?.f_mul(&right)?)
/// });
/// let loss = presets.find_kd_loss("kd_loss_type", "careful")?;
/// let logits = || Tensor::from_slice2(&[[9.0, 0.0], [9.0, 0.0]]);
/// let labels = Tensor::from_slice(&[1i64, 1]);
/// let input = KdInput::new(logits(), logits(), 1.0)?.with_labels(&labels);
/// assert_eq!(loss.apply(&input)?.double_value(&[]), 0.0);
/// # textbrewer::Result::Ok(())
/// ```
#[non_exhaustive]
pub struct KdInput<'a> {
    /// The student's logits, numbers of at least 32 bits.
    pub student: Logits,
    /// The teacher's, without a gradient.
    pub teacher: Logits,
    /// What to divide both by, with [`at_temperature`](crate::losses::support::at_temperature).
    pub temperature: Temperature,
    /// Where in the training the batch stands.
    pub step: StepInfo,
    pub(super) positions: Positions,
    /// What becomes of the classes that the teacher does not name.
    pub(super) tail: Tail,
    batch: &'a dyn Any,
}

impl KdInput<'static> {
    /// Of all positions of these logits, without labels, weights or a batch, at the beginning of
    /// a training.
    ///
    /// # Errors
    /// When one of them is an undefined tensor.
    pub fn new(
        student: impl Into<Logits>,
        teacher: impl Into<Logits>,
        temperature: impl Into<Temperature>,
    ) -> Result<Self> {
        let (student, teacher) = (student.into(), teacher.into());
        for (side, logits) in [(Side::Student, &student), (Side::Teacher, &teacher)] {
            logits.device().map_err(|error| error.at(side))?;
        }
        Ok(KdInput {
            positions: Positions::of(&student, None)?,
            student,
            teacher,
            temperature: temperature.into(),
            step: StepInfo::new(0, 0, 1, 1),
            tail: Tail::default(),
            batch: &(),
        })
    }
}

impl<'a> KdInput<'a> {
    /// With labels, one for each position.
    #[must_use]
    pub fn with_labels(mut self, labels: &Tensor) -> Self {
        self.positions = self.positions.with_labels(Some(labels));
        self
    }

    /// With weights of 0 or more, one for each position or for each example.
    #[must_use]
    pub fn with_weights(mut self, weights: &Tensor) -> Self {
        self.positions = self.positions.with_weights(Some(weights));
        self
    }

    /// With the batch that the logits are of.
    #[must_use]
    pub fn with_batch<'b, B: Batch>(self, batch: &'b B) -> KdInput<'b> {
        let step = self.step;
        self.of_batch(batch, step)
    }

    /// The labels, one for each position.
    ///
    /// A negative one, such as −100, names no class. A loss that
    /// [`kd_loss_with_labels`](crate::Presets::kd_loss_with_labels) registers sees no such
    /// position; any other finds them here.
    ///
    /// # Errors
    /// When the student's adaptor gave none for these logits, or they do not fit.
    pub fn labels(&self) -> Result<Tensor> {
        let needed_by = "the distillation loss (`kd_loss_type`)";
        let labels = self.positions.labels()?;
        labels.ok_or_else(|| Error::missing(Side::Student, "labels", needed_by))
    }

    /// The batch that the logits are of, whole: a mask selects nothing from it.
    ///
    /// # Errors
    /// When it is of another type than `B`.
    pub fn batch<B: Batch>(&self) -> Result<&'a B> {
        self.batch.downcast_ref().ok_or_else(|| {
            Error::shape(
                "batch of a loss on logits",
                format!("the loader's batches to be `{}`", type_name::<B>()),
                "batches of another type",
            )
        })
    }

    /// The same of other logits at these positions.
    pub(super) fn with_logits(
        &self,
        student: impl Into<Logits>,
        teacher: impl Into<Logits>,
    ) -> KdInput<'a> {
        KdInput {
            student: student.into(),
            teacher: teacher.into(),
            temperature: Temperature::from(&self.temperature),
            step: self.step,
            positions: self.positions.shallow_clone(),
            tail: self.tail,
            batch: self.batch,
        }
    }

    /// The same with this treatment of the classes that the teacher does not name.
    pub(super) fn with_tail(&self, tail: Tail) -> KdInput<'a> {
        KdInput {
            tail,
            ..self.with_logits(&self.student, &self.teacher)
        }
    }

    /// What each position has in the mean, flattened.
    pub(crate) fn shares(&self, kind: tch::Kind) -> Result<Tensor> {
        self.positions.shares(kind)
    }

    /// Whether a mask has kept no position, or there was none.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.are_none()
    }

    /// Sets the positions at which the logits were selected.
    pub(crate) fn at(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self
    }

    /// The same at the positions whose labels are not negative, flattened.
    pub(super) fn at_labels(&self) -> Result<KdInput<'a>> {
        let (labels, selected) = (self.labels()?, self.positions.selected());
        for (side, logits) in [
            (Side::Student, &self.student),
            (Side::Teacher, &self.teacher),
        ] {
            let positions = logits.positions().map_err(|error| error.at(side))?;
            if positions != selected {
                return Err(Error::shape(
                    format!("{side}'s logits"),
                    format!("the positions {selected:?} of the labels"),
                    format!("{positions:?}"),
                ));
            }
        }
        let is_class = labels.is_below(0)?.f_logical_not()?.f_reshape([-1i64])?;
        self.at_rows(&is_class.f_nonzero()?.f_squeeze_dim(-1)?)
    }

    /// The same at some of the flattened positions.
    pub(super) fn at_rows(&self, rows: &Tensor) -> Result<Self> {
        let selected = self.positions.selected();
        // Where they differ, the loss itself names the devices.
        let at_rows = |logits: &Logits| logits.at_rows(Some(&rows.f_to_device(logits.device()?)?));
        Ok(KdInput {
            student: at_rows(&self.student)?,
            teacher: at_rows(&self.teacher)?,
            temperature: self.temperature.at_rows(&selected, rows)?,
            step: self.step,
            positions: self.positions.at_rows(rows)?,
            tail: self.tail,
            batch: self.batch,
        })
    }

    pub(crate) fn of_batch(self, batch: &dyn Any, step: StepInfo) -> KdInput<'_> {
        KdInput {
            student: self.student,
            teacher: self.teacher,
            temperature: self.temperature,
            step,
            positions: self.positions,
            tail: self.tail,
            batch,
        }
    }
}

impl fmt::Debug for KdInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KdInput")
            .field("student", &self.student)
            .field("teacher", &self.teacher)
            .field("temperature", &self.temperature)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
