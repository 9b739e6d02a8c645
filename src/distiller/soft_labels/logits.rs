//! What adaptors give of logits, and at which positions.

use tch::Tensor;

use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, Side};
use crate::logits::{Logits, kept_rows};
use crate::losses::positions::Positions;

pub(super) fn logits_of(output: &AdaptorOutput, side: Side) -> Result<Vec<Logits>> {
    if output.logits.is_empty() {
        let needed_by = "the distillation loss (`kd_loss_type`)";
        return Err(Error::missing(side, "logits", needed_by));
    }
    output.logits.iter().map(Logits::at_least_float32).collect()
}

/// The rows of the flattened positions that the mask of `output` keeps; none where all are kept.
fn rows_of_mask(logits: &[Logits], output: &AdaptorOutput) -> Result<Vec<Option<Tensor>>> {
    if output.logits_mask.is_empty() {
        return Ok(logits.iter().map(|_| None).collect());
    }
    let places = logits
        .iter()
        .map(|logits| Ok((logits.positions()?, logits.device()?)));
    let places: Vec<_> = places.collect::<Result<_>>()?;
    let places = places
        .iter()
        .map(|(positions, device)| (positions.as_slice(), *device));
    kept_rows(places, &output.logits_mask)
}

/// The logits at the positions that the mask of `output` selects.
pub(super) fn selected(logits: &[Logits], output: &AdaptorOutput) -> Result<Vec<Logits>> {
    let rows = rows_of_mask(logits, output)?;
    let pairs = logits.iter().zip(&rows);
    pairs
        .map(|(logits, rows)| logits.at_rows(rows.as_ref()))
        .collect()
}

/// The positions of the student's logits, with what its adaptor says of them.
pub(super) fn positions_of(logits: &[Logits], student: &AdaptorOutput) -> Result<Vec<Positions>> {
    let (weights, count) = (&student.logits_weights, logits.len());
    if !weights.is_empty() && weights.len() != 1 && weights.len() != count {
        return Err(Error::shape(
            "logits_weights",
            format!("one tensor of weights, or one for each of the {count} tensors of logits"),
            format!("{} tensors", weights.len()),
        ));
    }
    let rows = rows_of_mask(logits, student)?;
    let positions = logits.iter().zip(&rows).enumerate();
    let positions = positions.map(|(index, (logits, rows))| {
        let of_this = if weights.len() == 1 { 0 } else { index };
        let positions = Positions::of(logits, rows.as_ref())?;
        let positions = positions.with_labels(student.labels.get(index));
        Ok(positions.with_weights(weights.get(of_this)))
    });
    positions.collect()
}

/// A mask of one side alone leaves that side with fewer dimensions than the other.
pub(super) fn both_masked(teacher: &AdaptorOutput, student: &AdaptorOutput) -> Result<()> {
    let (lacks, has) = match (
        teacher.logits_mask.is_empty(),
        student.logits_mask.is_empty(),
    ) {
        (true, false) => (Side::Teacher, Side::Student),
        (false, true) => (Side::Student, Side::Teacher),
        _ => return Ok(()),
    };
    let needed_by = format!("the match with the {has}'s masked logits");
    Err(Error::missing(lacks, "logits_mask", needed_by))
}
