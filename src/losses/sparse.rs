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
        let classes = Classes::of(&given, top.indices())?;
        let of_student = gathered(loss, &student, &classes.indices, "top k")?;
        let of_student = of_student
            .filled(&classes.left_out, LOG_OF_ZERO)?
            .at_least(LOG_OF_ZERO)?;
        let spread = match tail {
            Tail::Uniform => Some(Spread::over(classes.others(&student)?, student.f_kind()?)?),
            _ => None,
        };
        let (kept, rest) = at_other_temperature(
            loss,
            (&given, &log_tail),
            spread.as_ref(),
            (top.temperature(), temperature),
        )?;
        if let Some(spread) = spread {
            let others = spread.of(&rest, &student)?;
            return Ok(LogProbabilities {
                teacher: classes.put(&others, &classes.first_for_left_out(&kept)?)?,
                student: student.at_least(LOG_OF_ZERO)?,
            });
        }
        if tail == Tail::Truncated {
            return Ok(LogProbabilities {
                teacher: kept,
                student: of_student,
            });
        }
        let (kept, rest) = match tail {
            // Where nothing is named the sum is that of zeros: what is divided by it is none.
            Tail::Renormalized => (
                kept.f_sub(&log_sum(&kept)?)?
                    .filled(&classes.left_out, LOG_OF_ZERO)?,
                rest.f_zeros_like()?.plus(LOG_OF_ZERO)?,
            ),
            _ => (kept, rest),
        };
        Ok(LogProbabilities {
            teacher: Tensor::f_cat(&[kept, rest], -1)?,
            student: Tensor::f_cat(&[of_student, classes.rest_of(&student)?], -1)?,
        })
    }
}

/// The teacher's k and its tail at the temperature of the loss: `a log p − log(Σ pᵃ + Rᵃ)`, where `a`
/// is their own temperature over that one and `R` the tail, taken as one class, or as all those that it
/// is spread over.
fn at_other_temperature(
    loss: &str,
    (kept, tail): (&Tensor, &Tensor),
    spread: Option<&Spread>,
    (from, to): (f64, &Temperature),
) -> Result<(Tensor, Tensor)> {
    let clamped = |logs: &Tensor| -> Result<Tensor> { Ok(logs.at_least(LOG_OF_ZERO)?) };
    if matches!(to, Temperature::Constant(to) if *to == from) {
        return Ok((clamped(kept)?, clamped(tail)?));
    }
    let scaled =
        |logs: &Tensor| -> Result<Tensor> { Ok(at_temperature(loss, logs, to)?.times(from)?) };
    let kept = scaled(kept)?;
    let tail = match spread {
        Some(Spread { log_count, .. }) => scaled(&tail.f_sub(log_count)?)?.f_add(log_count)?,
        None => scaled(tail)?,
    };
    let total = log_sum(&clamped(&Tensor::f_cat(&[&kept, &tail], -1)?)?)?;
    Ok((
        clamped(&kept.f_sub(&total)?)?,
        clamped(&tail.f_sub(&total)?)?,
    ))
}

/// The classes that a tail is divided among evenly.
struct Spread {
    others: Tensor,
    /// The logarithm of how many there are at each position, `[.., 1]`; of one where there are none.
    log_count: Tensor,
}

impl Spread {
    fn over(others: Tensor, kind: Kind) -> Result<Self> {
        let count = others.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?;
        Ok(Spread {
            log_count: in_kind(&count.at_least(1.0)?.f_log()?, kind)?,
            others,
        })
    }

    /// Each one's part of the tail, in a tensor of all classes like `like`.
    fn of(&self, log_tail: &Tensor, like: &Tensor) -> Result<Tensor> {
        let each = log_tail.f_sub(&self.log_count)?.at_least(LOG_OF_ZERO)?;
        let nothing = like.f_zeros_like()?.plus(LOG_OF_ZERO)?;
        Ok(each.f_where_self(&self.others, &nothing)?)
    }
}

/// The classes that the teacher names at each position.
struct Classes {
    /// Those of no probability have that of the likeliest, or 0 where there is none.
    indices: Tensor,
    /// Those without probability, which fill up: they are of the others.
    left_out: Tensor,
    /// Where the likeliest stands, `[.., 1]`.
    best: Tensor,
    /// Where nothing is named, `[.., 1]`.
    is_empty: Tensor,
}

impl Classes {
    fn of(logs: &Tensor, indices: &Tensor) -> Result<Self> {
        let left_out = is_impossible(logs)?;
        let mut classes = Classes {
            indices: indices.f_to_kind(Kind::Int64)?,
            best: logs.f_argmax(-1, true)?,
            is_empty: left_out.f_all_dim(-1, true)?,
            left_out,
        };
        // An index that fills up may be that of a class that is named, or of none that there is.
        let indices = classes.first_for_left_out(&classes.indices)?;
        classes.indices = indices.filled(&classes.is_empty, 0)?;
        Ok(classes)
    }

    /// What is said of the likeliest also for those that are left out.
    fn first_for_left_out(&self, values: &Tensor) -> Result<Tensor> {
        let of_best = values.f_gather(-1, &self.best, false)?;
        Ok(of_best.f_where_self(&self.left_out, values)?)
    }

    /// `values` of all classes, with these for the classes that are named. They have no gradient.
    fn put(&self, values: &Tensor, of_named: &Tensor) -> Result<Tensor> {
        let own = values.f_gather(-1, &self.indices, false)?;
        let of_named = own.f_where_self(&self.is_empty, of_named)?;
        Ok(values.f_scatter(-1, &self.indices, &of_named)?)
    }

    /// The logarithm of the probability of all classes that are not named, by their own
    /// log-probabilities: 1 less the sum of the others has no digit left where it is small.
    fn rest_of(&self, logs: &Tensor) -> Result<Tensor> {
        let zero = self.indices.f_zeros_like()?;
        let zero = in_kind(&zero, logs.f_kind()?)?.plus(LOG_OF_ZERO)?;
        let others = logs.f_scatter(-1, &self.indices, &zero)?;
        // All classes together have 1.
        let rest = log_sum(&others)?.filled(&self.is_empty, 0.0)?;
        Ok(rest.at_least(LOG_OF_ZERO)?)
    }

    /// Which classes are not named, of those that the student does not mask.
    fn others(&self, student: &Tensor) -> Result<Tensor> {
        let possible = is_impossible(student)?.f_logical_not()?;
        let named = in_kind(&self.indices.f_zeros_like()?, Kind::Bool)?;
        self.put(&possible, &named)
    }
}
