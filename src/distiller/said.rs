//! What the models said of a batch.

use tch::Tensor;

use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, Side};
use crate::feature::FeatureMask;
use crate::losses::at_least_float32;
use crate::step::StepInfo;

/// What the models said of a batch: what a [`Term`](super::Term) makes losses of.
///
/// ```
/// use textbrewer::Result;
/// use textbrewer::distiller::Said;
/// use tch::Tensor;
///
/// /// The distance between the last hidden states.
/// fn distance<B>(said: &Said<'_, B>) -> Result<Tensor> {
///     let teacher = said.teacher_layer(0, "hidden", -1, "my term")?;
///     let student = said.student_layer("hidden", -1, "my term")?;
///     textbrewer::losses::hidden_mse(&student, &teacher, said.mask("hidden", 0, &[&student]))
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Said<'b, B> {
    /// The batch itself.
    pub batch: &'b B,
    /// Where in the training it stands.
    pub step: &'b StepInfo,
    /// What each teacher said, without gradients.
    pub teachers: Vec<AdaptorOutput>,
    /// The logits of all teachers in one, as their [`Ensemble`](super::Ensemble) combines them,
    /// with the first teacher's mask.
    pub ensemble: AdaptorOutput,
    /// What the student said.
    pub student: AdaptorOutput,
}

impl<B> Said<'_, B> {
    /// A layer of a teacher's feature, in `float32` at least. A negative index counts from the
    /// end. `needed_by` is named in the error.
    ///
    /// # Errors
    /// When there is no such teacher, feature or layer, or the layer was not kept.
    pub fn teacher_layer(
        &self,
        teacher: usize,
        feature: &str,
        index: i64,
        needed_by: &str,
    ) -> Result<Tensor> {
        let count = self.teachers.len();
        let Some(output) = self.teachers.get(teacher) else {
            return Err(no_teacher(needed_by, teacher, count));
        };
        layer(output, Side::Teacher, feature, index, needed_by)
    }

    /// A layer of a feature of the student's, as [`teacher_layer`](Self::teacher_layer).
    ///
    /// # Errors
    /// When there is no such feature or layer, or the layer was not kept.
    pub fn student_layer(&self, feature: &str, index: i64, needed_by: &str) -> Result<Tensor> {
        layer(&self.student, Side::Student, feature, index, needed_by)
    }

    /// Which positions of the student's `layers` of this feature count, when they are matched
    /// with those of a teacher: the mask of the student's feature, else that of the teacher's,
    /// else the student's `inputs_mask` if the layers have positions.
    pub fn mask(&self, feature: &str, teacher: usize, layers: &[&Tensor]) -> Option<&Tensor> {
        let student = self.student.features.get(feature).map(|f| &f.mask);
        let teacher = self.teachers.get(teacher);
        let teacher = teacher.and_then(|output| output.features.get(feature));
        match (student, teacher.map(|f| &f.mask)) {
            (Some(FeatureMask::Own(mask)), _) => Some(mask),
            (Some(FeatureMask::Unmasked), _) => None,
            (_, Some(FeatureMask::Own(mask))) => Some(mask),
            (_, Some(FeatureMask::Unmasked)) => None,
            _ => {
                let have_positions = layers.iter().all(|layer| layer.dim() >= 3);
                let mask = self.student.inputs_mask.as_ref();
                mask.filter(|_| have_positions)
            }
        }
    }

    /// Fails unless both sides returned logits.
    pub(super) fn require_logits(&self) -> Result<()> {
        let sides = [
            (&self.student, Side::Student),
            (&self.ensemble, Side::Teacher),
        ];
        match sides.iter().find(|(output, _)| output.logits.is_empty()) {
            None => Ok(()),
            Some((_, side)) => {
                let needed_by = "the distillation loss (`kd_loss_type`)";
                Err(Error::missing(*side, "logits", needed_by))
            }
        }
    }
}

fn layer(
    output: &AdaptorOutput,
    side: Side,
    feature: &str,
    index: i64,
    needed_by: &str,
) -> Result<Tensor> {
    let Some(available) = output.features.get(feature) else {
        return Err(Error::missing(side, feature, needed_by));
    };
    let len = available.layers.len();
    let position = if index < 0 { index + len as i64 } else { index };
    let position = usize::try_from(position).ok();
    match position.and_then(|position| available.layers.get(position)) {
        Some(layer) if layer.defined() => at_least_float32(layer),
        Some(_) => Err(Error::LayerNotKept {
            side,
            feature: feature.to_owned(),
            index,
            needed_by: needed_by.to_owned(),
        }),
        None => Err(Error::LayerOutOfRange {
            side,
            feature: feature.to_owned(),
            index,
            len,
            needed_by: needed_by.to_owned(),
        }),
    }
}

/// `teachers` is how many there are.
pub(super) fn no_teacher(place: &str, teacher: usize, teachers: usize) -> Error {
    let reason = match teachers.checked_sub(1) {
        Some(last) => format!("there is no teacher {teacher}; the last is {last}, counted from 0"),
        None => "there is no teacher at all".to_owned(),
    };
    Error::config(format!("{place}.teacher"), reason)
}
