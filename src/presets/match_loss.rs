//! Losses between features, on one layer a side or on several.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use crate::{Error, Result};

/// A loss between one tensor of the student and one of the teacher, with a mask.
pub type MatchOnSingle = Rc<dyn Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>>;

/// A loss between several tensors of the student and several of the teacher, with a mask.
pub type MatchOnSeveral = Rc<dyn Fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>>;

/// A loss between features of the two models.
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
