//! Where the answers of a batch stand.

use std::ops::Range;

use tch::{Device, Tensor};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::losses::check::size_of;
use crate::losses::labels::{IGNORED, integers};

/// Where an example's answer stands, and its tokens.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where its example starts, counted over the whole batch.
    pub(super) start: usize,
    /// Its first position in its example.
    pub(super) first: usize,
    /// Whether there are logits before it, which predict its first token.
    pub(super) has_before: bool,
    pub(super) ids: Vec<i64>,
}

/// The answers of a side: where its labels are not −100, on the CPU.
pub(super) fn answers(
    loss: &str,
    side: &str,
    labels: &Tensor,
    wanted: [i64; 2],
) -> Result<Vec<Answer>> {
    let what = format!("{loss}, {side}'s labels");
    let size = size_of(loss, &format!("{side}'s labels"), labels)?;
    if size != wanted {
        let wanted = format!("one for each position, {wanted:?}");
        return Err(Error::shape(what, wanted, format!("{size:?}")));
    }
    let labels = integers(labels, &what)?.f_to_device(Device::Cpu)?;
    let labels = Vec::<i64>::try_from(&labels.f_reshape([-1i64])?)?;
    let [batch, length] = wanted.map(|size| usize::try_from(size).unwrap_or_default());
    let mut answers = Vec::with_capacity(batch);
    for example in 0..batch {
        let row = labels.iter().skip(example * length).take(length);
        let from = row.clone().position(|label| *label != IGNORED);
        let from = from.unwrap_or_default();
        let ids: Vec<_> = row
            .clone()
            .filter(|label| **label != IGNORED)
            .copied()
            .collect();
        if row
            .skip(from)
            .take(ids.len())
            .any(|label| *label == IGNORED)
        {
            return Err(Error::shape(
                format!("{what} of example {example}"),
                "an answer in one piece (labels that are not -100 stand together)",
                "one with -100 in it",
            ));
        }
        answers.push(Answer {
            start: example * length,
            first: from,
            has_before: from > 0,
            ids,
        });
    }
    Ok(answers)
}

/// The tokens of all answers have to be classes.
pub(super) fn check_classes(
    loss: &str,
    side: &str,
    answers: &[Answer],
    classes: i64,
) -> Result<()> {
    let mut ids = answers.iter().flat_map(|answer| &answer.ids);
    match ids.find(|id| !(0..classes).contains(*id)) {
        None => Ok(()),
        Some(id) => Err(Error::shape(
            format!("{loss}, {side}'s labels"),
            format!("-100 or a class of 0..{classes}"),
            format!("{id}"),
        )),
    }
}

impl Answer {
    pub(super) fn check(
        &self,
        loss: &str,
        side: &str,
        example: usize,
        tokens: &Range<usize>,
    ) -> Result<()> {
        if tokens.is_empty() || tokens.end <= self.ids.len() {
            return Ok(());
        }
        Err(Error::shape(
            format!("{loss}, groups of example {example}"),
            format!(
                "the {side}'s tokens in its answer of {} (labels that are not -100)",
                self.ids.len()
            ),
            format!("{tokens:?}"),
        ))
    }

    /// Whether there are tokens, and logits that predict each of them.
    pub(super) fn predicts(&self, tokens: &Range<usize>) -> bool {
        !tokens.is_empty() && (tokens.start > 0 || self.has_before)
    }
}

/// Numbers on a device, without waiting for what it does.
pub(super) fn on_device(numbers: &[i64], device: Device) -> Result<Tensor> {
    Batch::to_device(&Tensor::f_from_slice(numbers)?, device)
}
