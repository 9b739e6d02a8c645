//! Losses on logits.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use super::in_parts::{AtEach, LossInParts, mean_in_parts};
use super::{KdInput, SharedSchedule};
use crate::error::{Error, Result};
use crate::logits::{Logits, Tail};
use crate::losses::mean::mean;
use crate::losses::{Divergence, Temperature, times_square};
use crate::scalar::ScalarOps;

type OnAll = Rc<dyn Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor>>;
type SharedAtEach = Rc<dyn for<'a> Fn(&KdInput<'a>) -> Result<Tensor>>;

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
pub struct KdLoss {
    form: Form,
    /// Whether the loss has the factor τ² by its definition.
    has_tau_squared: bool,
    times_tau_squared: bool,
    standardizes: bool,
    /// What becomes of the classes that a teacher does not name.
    tail: Tail,
    /// Whether it is computed for some positions at a time where logits have not been made yet.
    goes_in_parts: bool,
    /// Whether it is a mean over all positions of an optimizer step unless the configuration says
    /// otherwise. TextBrewer's losses are means over each batch.
    is_over_the_step: bool,
    /// What it is, if it is one whose gradient has a closed form.
    closed: Option<Divergence>,
    /// What it looks at that a training moves on.
    schedule: Option<SharedSchedule>,
}

/// What is wanted of the logits besides the loss.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Besides {
    /// How much the mean cross entropy with the labels is learned, relative to the loss.
    pub(crate) label_weight: Option<f64>,
    /// How well the models agree in their likeliest classes, for so many of them.
    pub(crate) agreement: Option<u64>,
}

/// A loss, and what was computed in the same pass.
pub(crate) struct Learned {
    pub(crate) loss: Tensor,
    /// The labels' cross entropy, without a gradient: that is in the gradient of the loss.
    pub(crate) label_loss: Option<Tensor>,
    /// The means of [`Agreement`](losses::Agreement), in its order.
    pub(crate) agreement: Option<Tensor>,
}

impl From<Tensor> for Learned {
    fn from(loss: Tensor) -> Self {
        Learned {
            loss,
            label_loss: None,
            agreement: None,
        }
    }
}

#[derive(Clone)]
enum Form {
    OnAll(OnAll),
    PerPosition {
        at_each: SharedAtEach,
        /// The mean in one libtorch operator, where it is faster or rounds differently.
        mean: Option<OnAll>,
    },
    AtLabels(SharedAtEach),
}

impl From<Form> for KdLoss {
    fn from(form: Form) -> Self {
        KdLoss {
            form,
            has_tau_squared: false,
            times_tau_squared: false,
            standardizes: false,
            tail: Tail::default(),
            goes_in_parts: false,
            is_over_the_step: false,
            closed: None,
            schedule: None,
        }
    }
}

impl KdLoss {
    pub(super) fn on_all(
        loss: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        Form::OnAll(Rc::new(loss)).into()
    }

    pub(super) fn per_position(
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        let form = Form::PerPosition {
            at_each: Rc::new(loss),
            mean: None,
        };
        form.into()
    }

    pub(super) fn at_labels(
        loss: impl for<'a> Fn(&KdInput<'a>) -> Result<Tensor> + 'static,
    ) -> Self {
        Form::AtLabels(Rc::new(loss)).into()
    }

    /// A divergence, from a teacher whose logits are of any kind.
    pub(super) fn divergence(divergence: Divergence) -> Self {
        let at_each = move |input: &KdInput<'_>| {
            let (student, teacher) = (input.student.whole()?, &input.teacher);
            divergence.at_each(&student, teacher, &input.temperature, input.tail)
        };
        let mut loss = KdLoss::per_position(at_each).in_parts();
        loss.closed = Some(divergence);
        match divergence {
            // TextBrewer's are means over a batch.
            Divergence::CrossEntropy | Divergence::Kl => loss,
            _ => loss.over_the_step(),
        }
    }

    /// A loss per position with a mean of its own for where nothing is weighted.
    pub(super) fn with_mean(
        at_each: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
        mean: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        KdLoss::per_position(on_whole_logits(at_each)).and_mean(mean)
    }

    /// The same with a mean of its own for where nothing is weighted and all is known.
    pub(super) fn and_mean(
        mut self,
        on_all: impl Fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor> + 'static,
    ) -> Self {
        if let Form::PerPosition { mean, .. } = &mut self.form {
            *mean = Some(Rc::new(on_all));
        }
        self
    }

    /// Says that the loss has the factor τ² by its definition.
    pub(super) fn with_own_square(mut self) -> Self {
        self.has_tau_squared = true;
        self
    }

    /// Says that the loss looks at whole logits only, and may be given those of some positions at a
    /// time. One of a user's own may look at hidden states and output matrix itself.
    pub(super) fn in_parts(mut self) -> Self {
        self.goes_in_parts = true;
        self
    }

    /// Says that the loss is a mean over all positions of an optimizer step.
    pub(super) fn over_the_step(mut self) -> Self {
        self.is_over_the_step = true;
        self
    }

    /// Whether it was [said](Self::over_the_step) to be a mean over all positions of an optimizer
    /// step.
    pub(crate) fn is_over_the_step(&self) -> bool {
        self.is_over_the_step
    }

    /// How many positions the loss is a mean over, or what they weigh together.
    pub(crate) fn positions(&self, input: &KdInput<'_>) -> Result<Tensor> {
        input
            .positions
            .total(matches!(self.form, Form::AtLabels(_)))
    }

    /// Says that the loss looks at a schedule.
    pub(super) fn with_schedule(mut self, schedule: SharedSchedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// The schedule that it looks at, if it has one. Clones of a loss look at the same.
    pub(crate) fn schedule(&self) -> Option<SharedSchedule> {
        self.schedule.clone()
    }

    /// The loss times the square of the temperature, at each position by its own. Its gradients are
    /// then of one size at every temperature (Hinton et al. 2015).
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::{KdInput, Presets};
    ///
    /// let presets = Presets::default();
    /// let logits = |values: [f64; 2]| Tensor::from_slice(&values).f_view([1, 2]);
    /// let input = KdInput::new(logits([0.0, 1.0])?, logits([2.0, 1.0])?, 4.0)?;
    /// let squared = presets.find_kd_loss("kd_loss_type", "forward_kl")?.times_tau_squared()?;
    /// let kl = presets.find_kd_loss("kd_loss_type", "kl")?;
    /// let difference = squared.apply(&input)?.f_sub(&kl.apply(&input)?)?;
    /// assert!(difference.double_value(&[]).abs() < 1e-12);
    /// assert!(kl.times_tau_squared().is_err()); // It is there already.
    /// # textbrewer::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// When the loss has the factor by its definition.
    pub fn times_tau_squared(mut self) -> Result<Self> {
        if self.has_tau_squared {
            let reason = "this loss has the factor by its definition; leave `tau_squared` out";
            return Err(Error::config("tau_squared", reason));
        }
        self.times_tau_squared = true;
        Ok(self)
    }

    /// The loss between logits that are first brought to mean 0 and standard deviation 1 over the
    /// classes: `z = (x − mean) / (std + 1e-7)`, with `n − 1` in the deviation
    /// ([Sun et al. 2024](https://arxiv.org/abs/2403.01427)).
    #[must_use]
    pub fn on_standardized_logits(mut self) -> Self {
        self.standardizes = true;
        self
    }

    /// The loss with this treatment of the classes that a teacher's
    /// [top k](crate::logits::TopK) leaves out. Without it, [`Tail::Bucket`].
    #[must_use]
    pub fn with_tail(mut self, tail: Tail) -> Self {
        self.tail = tail;
        self
    }

    /// The loss as one number: the mean over the positions, weighted if they have weights.
    /// It is 0, and its gradient as well, where all weights are 0, a mask has kept no position, or
    /// a loss at the labels finds no label; where there is no position the loss is not asked.
    ///
    /// # Errors
    /// When the loss fails, gives another number of losses than there are positions, or cannot
    /// be weighted.
    pub fn apply(&self, input: &KdInput<'_>) -> Result<Tensor> {
        Ok(self.apply_and(input, Besides::default())?.loss)
    }

    /// As [`apply`](Self::apply). Where logits are made in parts, in the same pass the labels' mean
    /// cross entropy is learned, which the gradient of the loss has then times its weight, and
    /// agreement is measured.
    pub(crate) fn apply_and(&self, input: &KdInput<'_>, besides: Besides) -> Result<Learned> {
        let is_top_k = matches!(input.teacher, Logits::TopK(_));
        let with_tail = is_top_k.then(|| input.with_tail(self.tail));
        let input = with_tail.as_ref().unwrap_or(input);
        if self.standardizes && !input.is_empty() && !self.is_made_in_parts(input) {
            return self.of(&standardized(input)?, besides);
        }
        self.of(input, besides)
    }

    /// Whether the student's logits are made some positions at a time.
    pub(crate) fn is_made_in_parts(&self, input: &KdInput<'_>) -> bool {
        self.goes_in_parts && matches!(input.student, Logits::FromHidden(_))
    }

    /// The input at the positions that the loss is a mean over, where these are not all of them.
    pub(crate) fn at_its_positions<'a>(&self, input: &KdInput<'a>) -> Result<Option<KdInput<'a>>> {
        match self.form {
            Form::AtLabels(_) => input.at_labels().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether it has to see the logits of all positions together.
    pub(crate) fn needs_all_positions(&self) -> bool {
        matches!(self.form, Form::OnAll(_))
    }

    fn of(&self, input: &KdInput<'_>, besides: Besides) -> Result<Learned> {
        let alone = match &self.form {
            Form::OnAll(_) if input.positions.are_weighted() => Err(Error::shape(
                "logits_weights",
                "a loss that is computed at each position (`kd_loss_per_position` registers it)",
                "a loss that gives one number for all positions (`kd_loss`)",
            )),
            // No loss need know what to make of nothing.
            _ if input.is_empty() => nothing(input),
            Form::PerPosition {
                mean: Some(on_all), ..
            } if !input.positions.are_weighted()
                && self.is_constant_square(input)
                && !matches!(input.student, Logits::FromHidden(_))
                && !matches!(input.teacher, Logits::TopK(_) | Logits::Sample(_)) =>
            {
                self.squared(&on_whole_logits(&**on_all)(input)?, input)
            }
            Form::OnAll(on_all) => self.squared(&on_whole_logits(&**on_all)(input)?, input),
            Form::PerPosition { at_each, .. } => {
                return self.mean_of(&**at_each, input, besides);
            }
            Form::AtLabels(at_each) => {
                let input = input.at_labels()?;
                match input.is_empty() {
                    true => nothing(&input),
                    false => return self.mean_of(&**at_each, &input, besides),
                }
            }
        };
        Ok(alone?.into())
    }

    /// The mean of what the loss is at each position. Logits that have not been made yet are made
    /// for some positions at a time.
    fn mean_of(
        &self,
        at_each: &dyn for<'a> Fn(&KdInput<'a>) -> Result<Tensor>,
        input: &KdInput<'_>,
        besides: Besides,
    ) -> Result<Learned> {
        let at_each = |input: &KdInput<'_>| self.squared(&at_each(input)?, input);
        let loss = match &input.student {
            Logits::FromHidden(student) if self.goes_in_parts => {
                let of_standardized = |input: &KdInput<'_>| at_each(&standardized(input)?);
                let (at_each, closed): (AtEach<'_>, _) = match self.standardizes {
                    true => (&of_standardized, None),
                    false => (&at_each, self.closed),
                };
                let loss = LossInParts {
                    at_each,
                    closed: closed.map(|closed| (closed, self.times_tau_squared)),
                    besides,
                };
                return mean_in_parts(student, input, loss);
            }
            _ => input.positions.mean(&at_each(input)?)?,
        };
        Ok(loss.into())
    }

    /// Whether a mean can be multiplied by τ² as well as what it is the mean of.
    fn is_constant_square(&self, input: &KdInput<'_>) -> bool {
        !self.times_tau_squared || matches!(input.temperature, Temperature::Constant(_))
    }

    fn squared(&self, losses: &Tensor, input: &KdInput<'_>) -> Result<Tensor> {
        match self.times_tau_squared {
            true => times_square("tau_squared", losses, &input.temperature),
            false => Ok(losses.shallow_clone()),
        }
    }
}

/// The same of logits that are brought to mean 0 and standard deviation 1.
fn standardized<'a>(input: &KdInput<'a>) -> Result<KdInput<'a>> {
    let student = standardize(&input.student.whole()?)?;
    let teacher = standardize(&input.teacher.whole_for("standardize_logits")?)?;
    Ok(input.with_logits(student, teacher))
}

/// `(x − mean) / (std + 1e-7)` over the classes.
fn standardize(logits: &Tensor) -> Result<Tensor> {
    let along = [-1i64];
    let centred = logits.f_sub(&logits.f_mean_dim(along.as_slice(), true, None)?)?;
    let deviation = logits.f_std_dim(along.as_slice(), true, true)?;
    Ok(centred.f_div(&deviation.plus(1e-7)?)?)
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
            .field("per_position", &!matches!(self.form, Form::OnAll(_)))
            .finish_non_exhaustive()
    }
}
