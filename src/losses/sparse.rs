//! Log-probabilities of both models where the teacher says only its top k.

use tch::{Kind, Tensor};

use super::check::in_students_kind;
use super::log_probabilities::{LOG_OF_ZERO, LogProbabilities, is_impossible, log_probabilities};
use super::sampled::gathered;
use super::temperature::{Temperature, at_temperature};
use crate::error::Result;
use crate::kind::in_kind;
use crate::logits::{Tail, TopK};
use crate::scalar::ScalarOps;

/// The sum over the last dimension, which stays, of what these are the logarithms of.
fn log_sum(logs: &Tensor) -> Result<Tensor> {
    Ok(logs.f_logsumexp([-1i64].as_slice(), true)?)
}

impl LogProbabilities {
    /// Over the classes that `tail` leaves: the k, the k and one for all others, or all.
    pub(super) fn of_top_k(
        loss: &str,
        student: &Tensor,
        top: &TopK,
        temperature: &Temperature,
        tail: Tail,
    ) -> Result<Self> {
        let given = in_students_kind(loss, student, top.log_probabilities())?;
        let log_tail = in_students_kind(loss, student, top.log_tail())?.f_unsqueeze(-1)?;
        let student = log_probabilities(loss, student, temperature)?;
        let of_student = gathered(loss, &student, top.indices(), "top k")?;
        let classes = Classes::of(&given, top.indices())?;
        let of_student = of_student.filled(&classes.left_out, LOG_OF_ZERO)?;
        let others = match tail {
            Tail::Uniform => Some(classes.others(&student)?),
            _ => None,
        };
        let kind = student.f_kind()?;
        let count = others.as_ref().map(|others| log_count(others, kind));
        let count = count.transpose()?;
        let (kept, rest) = at_other_temperature(
            loss,
            (&given, &log_tail),
            count.as_ref(),
            (top.temperature(), temperature),
        )?;
        let with = |logs: &Tensor, rest: &Tensor| Tensor::f_cat(&[logs, rest], -1);
        Ok(match (tail, others, count) {
            (Tail::Uniform, Some(others), Some(count)) => {
                let nothing = student.f_zeros_like()?.plus(LOG_OF_ZERO)?;
                let each = rest.f_sub(&count)?.at_least(LOG_OF_ZERO)?;
                let spread = each.f_where_self(&others, &nothing)?;
                LogProbabilities {
                    teacher: classes.put(&spread, &classes.first_for_left_out(&kept)?)?,
                    student,
                }
            }
            (Tail::Truncated, ..) => LogProbabilities {
                teacher: kept,
                student: of_student,
            },
            (Tail::Renormalized, ..) => LogProbabilities {
                teacher: with(
                    &kept.f_sub(&log_sum(&kept)?)?,
                    &rest.f_zeros_like()?.plus(LOG_OF_ZERO)?,
                )?,
                student: with(&of_student, &classes.rest_of(&student)?)?,
            },
            _ => LogProbabilities {
                teacher: with(&kept, &rest)?,
                student: with(&of_student, &classes.rest_of(&student)?)?,
            },
        })
    }
}

/// The teacher's k and its tail at the temperature of the loss: `a log p − log(Σ pᵃ + Rᵃ)`, where `a`
/// is their own temperature over that one and `R` the tail, taken as one class, or as `count` (its
/// logarithm) of one size.
fn at_other_temperature(
    loss: &str,
    (kept, tail): (&Tensor, &Tensor),
    count: Option<&Tensor>,
    (from, to): (f64, &Temperature),
) -> Result<(Tensor, Tensor)> {
    let clamped = |logs: &Tensor| -> Result<Tensor> { Ok(logs.at_least(LOG_OF_ZERO)?) };
    if matches!(to, Temperature::Constant(to) if *to == from) {
        return Ok((clamped(kept)?, clamped(tail)?));
    }
    let scaled =
        |logs: &Tensor| -> Result<Tensor> { Ok(at_temperature(loss, logs, to)?.times(from)?) };
    let kept = scaled(kept)?;
    let tail = match count {
        Some(count) => scaled(&tail.f_sub(count)?)?.f_add(count)?,
        None => scaled(tail)?,
    };
    let total = log_sum(&clamped(&Tensor::f_cat(&[&kept, &tail], -1)?)?)?;
    Ok((
        clamped(&kept.f_sub(&total)?)?,
        clamped(&tail.f_sub(&total)?)?,
    ))
}

/// The logarithm of how many of the last dimension there are; of one where there are none.
fn log_count(others: &Tensor, kind: Kind) -> Result<Tensor> {
    let count = others.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?;
    in_kind(&count.at_least(1.0)?.f_log()?, kind)
}

/// The classes that the teacher names at each position.
struct Classes {
    indices: Tensor,
    /// Those without probability, which fill up: they are of the others.
    left_out: Tensor,
    /// Where the likeliest stands, `[.., 1]`.
    best: Tensor,
}

impl Classes {
    fn of(logs: &Tensor, indices: &Tensor) -> Result<Self> {
        let left_out = is_impossible(logs)?;
        let best = logs.f_argmax(-1, true)?;
        let mut classes = Classes {
            indices: indices.f_to_kind(Kind::Int64)?,
            left_out,
            best,
        };
        // An index that fills up may be that of a class that is named: it is not to be written to.
        classes.indices = classes.first_for_left_out(&classes.indices)?;
        Ok(classes)
    }

    /// What is said of the likeliest also for those that are left out.
    fn first_for_left_out(&self, values: &Tensor) -> Result<Tensor> {
        let of_best = values.f_gather(-1, &self.best, false)?;
        Ok(of_best.f_where_self(&self.left_out, values)?)
    }

    /// `values` of all classes, with these for the classes that are named.
    fn put(&self, values: &Tensor, of_named: &Tensor) -> Result<Tensor> {
        Ok(values.f_scatter(-1, &self.indices, of_named)?)
    }

    /// The logarithm of the probability of all classes that are not named, by their own
    /// log-probabilities: 1 less the sum of the others has no digit left where it is small.
    fn rest_of(&self, logs: &Tensor) -> Result<Tensor> {
        let zero = self.indices.f_zeros_like()?;
        let zero = in_kind(&zero, logs.f_kind()?)?.plus(LOG_OF_ZERO)?;
        Ok(log_sum(&self.put(logs, &zero)?)?.at_least(LOG_OF_ZERO)?)
    }

    /// Which classes are not named, of those that the student does not mask.
    fn others(&self, student: &Tensor) -> Result<Tensor> {
        let possible = is_impossible(student)?.f_logical_not()?;
        let named = in_kind(&self.indices.f_zeros_like()?, Kind::Bool)?;
        self.put(&possible, &named)
    }
}
