//! Losses between features, on one layer a side or on several.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use crate::error::{Error, Result};

type OnOne = Rc<dyn Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>>;
type OnSeveral = Rc<dyn Fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>>;

/// A loss between features of the two models.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::Presets;
///
/// let presets = Presets::default();
/// let state = || Tensor::from_slice(&[1.0, 2.0]).f_view([1, 1, 2]);
/// let on_one = presets.find_match_loss("loss", "hidden_mse")?;
/// assert_eq!(on_one.apply(&[state()?], &[state()?], None)?.double_value(&[]), 0.0);
/// // `fsp` takes two layers a side.
/// let on_two = presets.find_match_loss("loss", "fsp")?;
/// let error = on_two.apply(&[state()?], &[state()?], None).unwrap_err();
/// assert!(error.to_string().contains("2 (a list of 2 layers)"));
/// # Ok::<(), textbrewer::Error>(())
/// ```
#[derive(Clone)]
pub struct MatchLoss(Form);

#[derive(Clone)]
enum Form {
    OnOne(OnOne),
    OnSeveral {
        layers: Option<usize>,
        function: OnSeveral,
    },
}

impl MatchLoss {
    pub(super) fn on_one(
        loss: impl Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor> + 'static,
    ) -> Self {
        MatchLoss(Form::OnOne(Rc::new(loss)))
    }

    pub(super) fn on_several(
        layers: Option<usize>,
        loss: impl Fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor> + 'static,
    ) -> Self {
        let function = Rc::new(loss);
        MatchLoss(Form::OnSeveral { layers, function })
    }

    /// Whether it takes a list of layers a side, not one layer.
    pub fn takes_lists(&self) -> bool {
        matches!(self.0, Form::OnSeveral { .. })
    }

    /// How many layers a side it takes; none when it takes lists of any length.
    pub fn layers(&self) -> Option<usize> {
        match self.0 {
            Form::OnOne(_) => Some(1),
            Form::OnSeveral { layers, .. } => layers,
        }
    }

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
        match &self.0 {
            Form::OnOne(loss) => match (student, teacher) {
                ([student], [teacher]) => loss(student, teacher, mask),
                _ => unfit("1 (one layer, not a list)".to_owned()),
            },
            Form::OnSeveral { layers, function } => match layers {
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
        f.debug_struct("MatchLoss")
            .field("takes_lists", &self.takes_lists())
            .field("layers", &self.layers())
            .finish_non_exhaustive()
    }
}
