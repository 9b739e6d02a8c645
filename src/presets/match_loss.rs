//! Losses between features, on one layer a side or on several.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use crate::error::{Error, Result};

/// A loss between one tensor of the student and one of the teacher, with a mask.
///
/// ```
/// use std::rc::Rc;
/// use tch::{Reduction, Tensor};
/// use textbrewer::{MatchLoss, MatchOnSingle};
///
/// let l1: MatchOnSingle = Rc::new(|student, teacher, _mask| {
///     Ok(student.f_l1_loss(teacher, Reduction::Mean)?)
/// });
/// let (student, teacher) = (Tensor::from_slice(&[1.0, 2.0]), Tensor::from_slice(&[1.0, 5.0]));
/// let loss = MatchLoss::Single(l1).apply(&[student], &[teacher], None)?;
/// assert_eq!(loss.double_value(&[]), 1.5);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub type MatchOnSingle = Rc<dyn Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>>;

/// A loss between several tensors of the student and several of the teacher, with a mask.
///
/// ```
/// use std::rc::Rc;
/// use tch::{Reduction, Tensor};
/// use textbrewer::{MatchLoss, MatchOnSeveral};
///
/// // Between the sums of all layers that a match names, however many.
/// let sums: MatchOnSeveral = Rc::new(|student, teacher, _mask| {
///     let sum = |layers| Tensor::f_stack(layers, 0)?.f_sum_dim_intlist(0, false, None);
///     Ok(sum(student)?.f_mse_loss(&sum(teacher)?, Reduction::Mean)?)
/// });
/// let sums = MatchLoss::Several { layers: None, function: sums };
/// let layers = |values: &[f64]| values.iter().map(|&value| Tensor::from(value)).collect::<Vec<_>>();
/// let loss = sums.apply(&layers(&[3.0]), &layers(&[1.0, 1.0, 4.0]), None)?;
/// assert_eq!(loss.double_value(&[]), 9.0);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub type MatchOnSeveral = Rc<dyn Fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>>;

/// A loss between features of the two models.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::Presets;
///
/// let presets = Presets::default();
/// let state = || Tensor::from_slice(&[1.0, 2.0]).view([1, 1, 2]);
/// let on_one = presets.match_loss_named("loss", "hidden_mse")?;
/// assert_eq!(on_one.apply(&[state()], &[state()], None)?.double_value(&[]), 0.0);
/// // `fsp` takes two layers a side.
/// let on_two = presets.match_loss_named("loss", "fsp")?;
/// let error = on_two.apply(&[state()], &[state()], None).unwrap_err();
/// assert!(error.to_string().contains("2 (a list of 2 layers)"));
/// # Ok::<(), textbrewer::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum MatchLoss {
    /// On one layer a side.
    Single(MatchOnSingle),
    /// On a list of layers a side.
    Several {
        /// How many, when the loss takes a certain number.
        layers: Option<usize>,
        /// The loss.
        function: MatchOnSeveral,
    },
}

impl MatchLoss {
    /// The loss between the states of both sides, one for each layer that the match names.
    ///
    /// # Errors
    /// When it takes another number of states, or fails itself.
    pub fn apply(
        &self,
        student: &[Tensor],
        teacher: &[Tensor],
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let unfit = |wanted: String| {
            let got = format!("student {} and teacher {}", student.len(), teacher.len());
            Err(Error::shape("match loss, states a side", wanted, got))
        };
        match self {
            MatchLoss::Single(loss) => match (student, teacher) {
                ([student], [teacher]) => loss(student, teacher, mask),
                _ => unfit("1 (one layer, not a list)".to_owned()),
            },
            MatchLoss::Several { layers, function } => match layers {
                Some(count) if student.len() != *count || teacher.len() != *count => {
                    unfit(format!("{count} (a list of {count} layers)"))
                }
                _ => function(student, teacher, mask),
            },
        }
    }
}

impl fmt::Debug for MatchLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MatchLoss::Single(_) => f.debug_tuple("Single").finish_non_exhaustive(),
            MatchLoss::Several { layers, .. } => f
                .debug_struct("Several")
                .field("layers", layers)
                .finish_non_exhaustive(),
        }
    }
}
