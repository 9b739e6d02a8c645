//! One distribution for each group of tokens.

use std::ops::Range;

use tch::Tensor;

use super::answers::{Answer, answers, check_classes, on_device};
use super::uld::of_one_batch;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::losses::check::in_students_kind;
use crate::losses::support::at_least_float32;
use crate::losses::temperature::{Temperature, at_temperature};
use crate::scalar::ScalarOps;

/// The logits of a model, their labels, and what the logits are divided by.
pub(super) type Side<'a> = (&'a Tensor, &'a Tensor, &'a Temperature);

/// What no probability is below that others are multiplied with, or whose logarithm is taken.
pub(super) const LEAST: f64 = 1e-8;

/// The distributions of both models at all groups of a batch that both have tokens in:
/// `[groups, classes]` each. They do not add up to 1 where a group has several tokens.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) student: Tensor,
    pub(super) teacher: Tensor,
    /// What each group counts: one by the groups of its example, by the examples.
    shares: Tensor,
}

impl Merged {
    pub(super) fn of(
        loss: &str,
        student: Side<'_>,
        teacher: Side<'_>,
        groups: &[Vec<(Range<usize>, Range<usize>)>],
    ) -> Result<Self> {
        let (size, teachers_size) = of_one_batch(loss, student.0, teacher.0)?;
        let teachers_logits = in_students_kind(loss, student.0, teacher.0)?;
        let batch = usize::try_from(size[0]).unwrap_or_default();
        if groups.len() != batch {
            return Err(Error::shape(
                format!("{loss}, groups"),
                format!("a list for each of {batch} examples"),
                format!("{}", groups.len()),
            ));
        }
        let of_side = |side, labels, [batch, length, classes]: [i64; 3]| {
            let answers = answers(loss, side, labels, [batch, length])?;
            check_classes(loss, side, &answers, classes)?;
            Result::Ok(answers)
        };
        let students_answers = of_side("student", student.1, size)?;
        let teachers_answers = of_side("teacher", teacher.1, teachers_size)?;
        let (mut students_pieces, mut teachers_pieces, mut shares) = (vec![], vec![], vec![]);
        let examples = groups
            .iter()
            .zip(students_answers.iter().zip(&teachers_answers));
        for (example, (groups, (student, teacher))) in examples.enumerate() {
            for (students, teachers) in groups {
                student.check(loss, "student", example, students)?;
                teacher.check(loss, "teacher", example, teachers)?;
            }
            let both = |(students, teachers): &&(Range<usize>, Range<usize>)| {
                student.predicts(students) && teacher.predicts(teachers)
            };
            let groups: Vec<_> = groups.iter().filter(both).collect();
            students_pieces.extend(groups.iter().map(|(tokens, _)| Piece::of(student, tokens)));
            teachers_pieces.extend(groups.iter().map(|(_, tokens)| Piece::of(teacher, tokens)));
            let share = 1.0 / (groups.len() * batch) as f64;
            shares.extend(groups.iter().map(|_| share));
        }
        let of_student = merged(loss, student.0, student.2, &students_pieces)?;
        let of_teacher = merged(loss, &teachers_logits, teacher.2, &teachers_pieces)?;
        let shares = Tensor::f_from_slice(&shares)?.f_to_kind(of_student.f_kind()?)?;
        let shares = Batch::to_device(&shares, of_student.device())?;
        Ok(Merged {
            student: of_student,
            teacher: of_teacher,
            shares,
        })
    }

    /// The mean over the examples of the means over their groups.
    pub(super) fn mean(&self, losses: &Tensor) -> Result<Tensor> {
        Ok(losses.f_mul(&self.shares)?.f_sum(None)?)
    }
}

/// The tokens of a group.
#[derive(Debug)]
struct Piece {
    /// Positions of the logits that predict all but the last token, and these tokens.
    earlier: Vec<(i64, i64)>,
    /// The position of the logits that predict the last token.
    last: i64,
}

impl Piece {
    /// Of tokens that an answer [`predicts`](Answer::predicts) and that are in it.
    fn of(answer: &Answer, tokens: &Range<usize>) -> Self {
        let predicting = |token: usize| (answer.start + answer.first + token) as i64 - 1;
        let last = tokens.end - 1;
        let earlier = (tokens.start..last).zip(&answer.ids[tokens.start..last]);
        Piece {
            earlier: earlier
                .map(|(token, id)| (predicting(token), *id))
                .collect(),
            last: predicting(last),
        }
    }
}

/// For each piece the probabilities of its last token, times those that its earlier tokens have.
fn merged(
    loss: &str,
    logits: &Tensor,
    temperature: &Temperature,
    pieces: &[Piece],
) -> Result<Tensor> {
    let (batch, length, classes) = logits.size3()?;
    let flat = logits.f_reshape([batch * length, classes])?;
    let device = logits.device();
    let rows = |positions: &[i64]| -> Result<Tensor> {
        let positions = on_device(positions, device)?;
        let temperature = temperature.at_rows(&[batch, length], &positions)?;
        let rows = flat.f_index_select(0, &positions)?;
        at_least_float32(&at_temperature(loss, &rows, &temperature)?)
    };
    let last: Vec<_> = pieces.iter().map(|piece| piece.last).collect();
    let probabilities = rows(&last)?.f_softmax(-1, None)?;
    let earlier = pieces.iter().flat_map(|piece| &piece.earlier).copied();
    let (positions, ids): (Vec<_>, Vec<_>) = earlier.unzip();
    if ids.is_empty() {
        return Ok(probabilities);
    }
    let ids = on_device(&ids, device)?.f_unsqueeze(1)?;
    let logs = rows(&positions)?.f_log_softmax(-1, None)?;
    let logs = logs.f_gather(1, &ids, false)?.f_squeeze_dim(1)?;
    let logs = logs.at_least(LEAST.ln())?;
    // Pieces have as many earlier tokens as the longest, the ones that are not there with a logarithm of 0.
    let none = positions.len() as i64;
    let most = pieces.iter().map(|piece| piece.earlier.len()).max();
    let most = most.unwrap_or_default();
    let (mut places, mut next) = (Vec::with_capacity(pieces.len() * most), 0);
    for piece in pieces {
        let count = piece.earlier.len();
        places.extend(next..next + count as i64);
        places.extend(std::iter::repeat_n(none, most - count));
        next += count as i64;
    }
    let logs = Tensor::f_cat(
        &[&logs, &logs.f_new_zeros([1], (logs.f_kind()?, device))?],
        0,
    )?;
    let logs = logs.f_index_select(0, &on_device(&places, device)?)?;
    let logs = logs.f_reshape([pieces.len() as i64, most as i64])?;
    let product = logs
        .f_sum_dim_intlist([1i64].as_slice(), true, None)?
        .f_exp()?;
    Ok(probabilities.f_mul(&product)?)
}
