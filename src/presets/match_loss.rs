//! Losses between features, on one layer a side or on several.

use std::fmt;
use std::rc::Rc;

use tch::Tensor;

use crate::error::{Error, Result};
use crate::losses;

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

/// `minilm` of a layer of queries, keys and values.
pub(super) fn minilm(heads: f64) -> Result<MatchLoss> {
    let heads = count("heads", heads)?;
    Ok(MatchLoss::on_one(move |student, teacher, mask| {
        let (student, teacher) = apart("minilm", student, teacher)?;
        losses::minilm(student.each_ref(), teacher.each_ref(), heads, mask)
    }))
}

/// `minilmv2` of a layer of queries, keys and values.
pub(super) fn minilmv2(relation_heads: f64) -> Result<MatchLoss> {
    let heads = count("relation_heads", relation_heads)?;
    Ok(MatchLoss::on_one(move |student, teacher, mask| {
        let (student, teacher) = apart("minilmv2", student, teacher)?;
        losses::minilmv2(student.each_ref(), teacher.each_ref(), heads, mask)
    }))
}

/// `crd_in_batch`, for which no positions can be left out.
pub(super) fn crd(temperature: f64) -> Result<MatchLoss> {
    if !(temperature.is_finite() && temperature > 0.0) {
        let reason = format!("must be a finite number above 0, is {temperature}");
        return Err(Error::config("temperature", reason));
    }
    Ok(MatchLoss::on_one(move |student, teacher, _| {
        let (size, teacher_size) = (student.size(), teacher.size());
        if size.len() != 2 || size != teacher_size {
            return Err(Error::shape(
                "crd",
                "embeddings [batch, width] of one width: a feature that has no positions, and \
                 `proj` where the widths differ",
                format!("student {size:?} and teacher {teacher_size:?}"),
            ));
        }
        losses::crd_in_batch(student, teacher, temperature)
    }))
}

fn count(parameter: &str, value: f64) -> Result<i64> {
    const MOST: f64 = 65536.0;
    if value.fract() == 0.0 && (1.0..=MOST).contains(&value) {
        return Ok(value as i64);
    }
    let reason = format!("must be a whole number from 1 to {MOST}, is {value}");
    Err(Error::config(parameter, reason))
}

/// Queries, keys and values `[batch, length, width]` of both sides.
fn apart(loss: &str, student: &Tensor, teacher: &Tensor) -> Result<([Tensor; 3], [Tensor; 3])> {
    let (size, teacher_size) = (student.size(), teacher.size());
    let are_together = |size: &[i64]| matches!(size, [_, 3, _, _]);
    if !(are_together(&size) && are_together(&teacher_size)) {
        return Err(Error::shape(
            loss,
            "queries, keys and values of a layer in one tensor, [batch, 3, length, width]",
            format!("student {size:?} and teacher {teacher_size:?}"),
        ));
    }
    let of = |side: &Tensor| -> Result<[Tensor; 3]> {
        let part = |index| side.f_select(1, index);
        Ok([part(0)?, part(1)?, part(2)?])
    };
    Ok((of(student)?, of(teacher)?))
}

impl fmt::Debug for MatchLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatchLoss")
            .field("takes_lists", &self.takes_lists())
            .field("layers", &self.layers())
            .finish_non_exhaustive()
    }
}
