//! One distribution for each group of tokens.

use std::ops::Range;

use tch::{Device, Tensor};

use super::uld::of_one_batch;
use crate::error::{Error, Result};
use crate::losses::check::{in_students_kind, size_of};
use crate::losses::labels::{IGNORED, integers};
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
        let answers = answers(loss, "student", student.1, [size[0], size[1]])?;
        let teachers = [teachers_size[0], teachers_size[1]];
        let teachers_answers = self::answers(loss, "teacher", teacher.1, teachers)?;
        let (mut students_pieces, mut teachers_pieces, mut shares) = (vec![], vec![], vec![]);
        let examples = groups.iter().zip(answers.iter().zip(&teachers_answers));
        for (example, (groups, (student, teacher))) in examples.enumerate() {
            for (students, teachers) in groups {
                student.check(loss, "student", example, students)?;
                teacher.check(loss, "teacher", example, teachers)?;
            }
            let both = |(students, teachers): &&(Range<usize>, Range<usize>)| {
                student.predicts(students) && teacher.predicts(teachers)
            };
            let groups: Vec<_> = groups.iter().filter(both).collect();
            students_pieces.extend(groups.iter().map(|(tokens, _)| student.piece(tokens)));
            teachers_pieces.extend(groups.iter().map(|(_, tokens)| teacher.piece(tokens)));
            let share = 1.0 / (groups.len() * batch) as f64;
            shares.extend(groups.iter().map(|_| share));
        }
        let of_student = merged(loss, "student", student.0, student.2, &students_pieces)?;
        let of_teacher = merged(
            loss,
            "teacher",
            &teachers_logits,
            teacher.2,
            &teachers_pieces,
        )?;
        let shares = Tensor::f_from_slice(&shares)?
            .f_to_device(of_student.device())?
            .f_to_kind(of_student.f_kind()?)?;
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

/// Where an example's answer stands, and its tokens.
#[derive(Debug)]
struct Answer {
    /// Its first position, counted over the whole batch.
    first: usize,
    /// Whether there are logits before it, which predict its first token.
    has_before: bool,
    ids: Vec<i64>,
}

/// The tokens of a group.
#[derive(Debug)]
struct Piece {
    /// Positions of the logits that predict all but the last token, and these tokens.
    earlier: Vec<(i64, i64)>,
    /// The position of the logits that predict the last token.
    last: i64,
}

/// The answers of a side: where its labels are not −100, on the CPU.
fn answers(loss: &str, side: &str, labels: &Tensor, wanted: [i64; 2]) -> Result<Vec<Answer>> {
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
            first: example * length + from,
            has_before: from > 0,
            ids,
        });
    }
    Ok(answers)
}

impl Answer {
    fn check(&self, loss: &str, side: &str, example: usize, tokens: &Range<usize>) -> Result<()> {
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
    fn predicts(&self, tokens: &Range<usize>) -> bool {
        !tokens.is_empty() && (tokens.start > 0 || self.has_before)
    }

    /// Of tokens that it [`predicts`](Self::predicts) and that are in its answer.
    fn piece(&self, tokens: &Range<usize>) -> Piece {
        let predicting = |token: usize| (self.first + token) as i64 - 1;
        let last = tokens.end - 1;
        let earlier = (tokens.start..last).zip(&self.ids[tokens.start..last]);
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
    side: &str,
    logits: &Tensor,
    temperature: &Temperature,
    pieces: &[Piece],
) -> Result<Tensor> {
    let (batch, length, classes) = logits.size3()?;
    let flat = logits.f_reshape([batch * length, classes])?;
    let on_device = |numbers: &[i64]| Tensor::f_from_slice(numbers)?.f_to_device(logits.device());
    let rows = |positions: &[i64]| -> Result<Tensor> {
        let positions = on_device(positions)?;
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
    if let Some(id) = ids.iter().find(|id| !(0..classes).contains(*id)) {
        return Err(Error::shape(
            format!("{loss}, {side}'s labels"),
            format!("-100 or a class of 0..{classes}"),
            format!("{id}"),
        ));
    }
    let ids = on_device(&ids)?.f_unsqueeze(1)?;
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
        &[
            &logs,
            &logs.f_new_zeros([1], (logs.f_kind()?, logs.device()))?,
        ],
        0,
    )?;
    let logs = logs.f_index_select(0, &on_device(&places)?)?;
    let logs = logs.f_reshape([pieces.len() as i64, most as i64])?;
    let product = logs
        .f_sum_dim_intlist([1i64].as_slice(), true, None)?
        .f_exp()?;
    Ok(probabilities.f_mul(&product)?)
}
