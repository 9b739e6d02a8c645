//! What the models said of a batch.

use std::cell::RefCell;
use std::rc::Rc;

use tch::Tensor;

use crate::adaptor::AdaptorOutput;
use crate::config::{LayerSelection, Needs};
use crate::error::{Error, Result, Side};
use crate::kind::at_least_float32;
use crate::step::StepInfo;

/// What the models said of a batch: what a [`Term`](super::Term) makes losses of.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::Result;
/// use textbrewer::distiller::Said;
///
/// /// The distance between the last hidden states, of the positions that count.
/// fn distance<B>(said: &Said<'_, B>) -> Result<Tensor> {
///     let teacher = said.teacher_layer(0, "hidden", -1)?;
///     let student = said.student_layer("hidden", -1)?;
///     let mask = said.mask(0, "hidden", &[&student]);
///     textbrewer::losses::hidden_mse(&student, &teacher, mask)
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Said<'b, B> {
    /// The batch itself.
    pub batch: &'b B,
    /// The task that it is of; empty without several tasks.
    pub task: &'b str,
    /// Where in the training it stands.
    pub step: &'b StepInfo,
    /// What each teacher said, without gradients: of its logits, their masks, and its features
    /// what the terms need ([`Needs`]), and nothing else. It is the same whether teacher outputs
    /// are kept or not.
    pub teachers: Vec<AdaptorOutput>,
    /// The logits of all teachers in one, as their [`Ensemble`](super::Ensemble) combines them (of
    /// one teacher its own), with the first teacher's mask. There is nothing else in it, and
    /// `probability_shift` comes later.
    pub ensemble: AdaptorOutput,
    /// What the student said, all of it. In a term, `student_layer`, `teacher_layer` and
    /// `teacher_logits` give what its own needs list.
    pub student: AdaptorOutput,
    /// Those of the term whose turn it is, or else of all together.
    pub(super) needs: RefCell<Rc<Needs>>,
}

/// Who needs a layer that is missing; the term's name comes before the message.
const READER: &str = "a loss of your own";

/// While it lives, the methods are limited to what one term needs.
pub(super) struct Limited<'s> {
    needs: &'s RefCell<Rc<Needs>>,
    before: Rc<Needs>,
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        self.needs.replace(Rc::clone(&self.before));
    }
}

impl<B> Said<'_, B> {
    /// A layer of a teacher's feature, in `float32` at least. A negative index counts from the
    /// end.
    ///
    /// # Errors
    /// When there is no such teacher, feature or layer, or no [`Needs`] lists the layer.
    pub fn teacher_layer(&self, teacher: usize, feature: &str, index: i64) -> Result<Tensor> {
        self.teacher_layer_for(READER, teacher, feature, index)
    }

    /// A layer of a feature of the student's, as [`teacher_layer`](Self::teacher_layer).
    ///
    /// # Errors
    /// When there is no such feature or layer, or no [`Needs`] lists the layer.
    pub fn student_layer(&self, feature: &str, index: i64) -> Result<Tensor> {
        self.student_layer_for(READER, feature, index)
    }

    /// [`teacher_layer`](Self::teacher_layer), with what errors say of who needs it.
    pub(super) fn teacher_layer_for(
        &self,
        needed_by: &str,
        teacher: usize,
        feature: &str,
        index: i64,
    ) -> Result<Tensor> {
        let Some(output) = self.teachers.get(teacher) else {
            let count = self.teachers.len();
            return Err(Error::protocol("needs", absent_teacher(teacher, count)));
        };
        let needs = self.needs.borrow();
        let listed = needs.teachers.get(&teacher);
        let listed = listed.and_then(|layers| layers.get(feature));
        layer(output, listed, Side::Teacher, feature, index, needed_by)
    }

    /// [`student_layer`](Self::student_layer), with what errors say of who needs it.
    pub(super) fn student_layer_for(
        &self,
        needed_by: &str,
        feature: &str,
        index: i64,
    ) -> Result<Tensor> {
        let needs = self.needs.borrow();
        let listed = needs.student.get(feature);
        let output = &self.student;
        layer(output, listed, Side::Student, feature, index, needed_by)
    }

    /// Which positions of the student's `layers` of this feature count, when they are matched
    /// with those of a teacher: the mask of the student's feature, else that of the teacher's,
    /// else the student's `inputs_mask` if the layers have positions.
    pub fn mask(&self, teacher: usize, feature: &str, layers: &[&Tensor]) -> Option<&Tensor> {
        let have_positions = layers.iter().all(|layer| layer.dim() >= 3);
        let teacher = self.teachers.get(teacher);
        self.student.mask_beside(teacher, feature, have_positions)
    }

    /// The student's logits of all classes, `[.., classes]`, in `float32` at least.
    ///
    /// # Errors
    /// When the adaptor did not return so many, or they do not tell of all classes.
    pub fn student_logits(&self, index: usize) -> Result<Tensor> {
        logits(&self.student, Side::Student, index)
    }

    /// The logits of the teachers together, as [`student_logits`](Self::student_logits).
    ///
    /// # Errors
    /// As there; when the [`Needs`] do not list logits.
    pub fn teacher_logits(&self, index: usize) -> Result<Tensor> {
        if !self.needs.borrow().logits {
            return Err(not_listed("the teacher's logits are"));
        }
        logits(&self.ensemble, Side::Teacher, index)
    }

    /// Limits layers and logits to what one term needs.
    pub(super) fn limited_to(&self, needs: &Rc<Needs>) -> Limited<'_> {
        Limited {
            before: self.needs.replace(Rc::clone(needs)),
            needs: &self.needs,
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

fn logits(output: &AdaptorOutput, side: Side, index: usize) -> Result<Tensor> {
    let Some(logits) = output.logits.get(index) else {
        return Err(Error::missing(side, format!("logits[{index}]"), READER));
    };
    logits.at_least_float32()?.whole()
}

/// `listed` is what is needed of the feature.
fn layer(
    output: &AdaptorOutput,
    listed: Option<&LayerSelection>,
    side: Side,
    feature: &str,
    index: i64,
    needed_by: &str,
) -> Result<Tensor> {
    let not_listed = || not_listed(&format!("{side} layer {index} of `{feature}` is"));
    let listed = listed.ok_or_else(not_listed)?;
    let Some(available) = output.features.get(feature) else {
        return Err(Error::missing(side, feature, needed_by));
    };
    let len = available.layers.len();
    let position = if index < 0 { index + len as i64 } else { index };
    let position = usize::try_from(position).unwrap_or(usize::MAX);
    let Some(layer) = available.layers.get(position) else {
        return Err(Error::LayerOutOfRange {
            side,
            feature: feature.to_owned(),
            index,
            len,
            needed_by: needed_by.to_owned(),
        });
    };
    if !listed.contains(position, len) {
        return Err(not_listed());
    }
    if !layer.defined() {
        return Err(Error::LayerNotKept {
            side,
            feature: feature.to_owned(),
            index,
            needed_by: needed_by.to_owned(),
        });
    }
    at_least_float32(layer)
}

fn not_listed(what: &str) -> Error {
    let reason = format!(
        "{what} read but not listed; add it to `Term::needs`, or with `needs` of the builder where \
         the distiller reads it itself"
    );
    Error::protocol("needs", reason)
}

/// `teachers` is how many there are.
pub(super) fn absent_teacher(teacher: usize, teachers: usize) -> String {
    match teachers.checked_sub(1) {
        Some(last) => format!("there is no teacher {teacher}; the last is {last}, counted from 0"),
        None => "there is no teacher at all".to_owned(),
    }
}

/// A match that names a teacher which is not there.
pub(super) fn no_teacher(place: &str, teacher: usize, teachers: usize) -> Error {
    Error::config(
        format!("{place}.teacher"),
        absent_teacher(teacher, teachers),
    )
}
