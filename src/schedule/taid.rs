//! The schedule of TAID.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::losses::one_number;
use crate::scalar::ScalarOps;

/// Keeps a loss of 0 from being divided by, as in the authors' code.
const EPS: f64 = 1e-15;

/// How the target of [`losses::taid`](crate::losses::taid) moves from the student to the teacher
/// (TAID, [Shing et al. 2025](https://arxiv.org/abs/2501.16937)).
///
/// `t` begins at `t_start`. The first loss J is only remembered. After each later one
///
/// - δ = (J before − J) / (J before + 1e-15), the momentum m ← β m + (1 − β) δ, and
/// - t ← min(`t_end`, max(`t_start` + (`t_end` − `t_start`) · progress, t + α σ(m) (1 − t))).
///
/// So t grows faster while the student gets better, and never more slowly than in a line. A loss
/// that is not a finite number above 0 moves nothing: there was nothing to learn, or nothing came
/// of it.
///
/// All of it is kept as numbers of 64 bits on a device; none is read by the host. A distiller with
/// `"kd_loss_type": "taid"` has a schedule of its own, and advances, saves and restores it.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::{taid, Temperature};
/// use textbrewer::schedule::TaidSchedule;
///
/// let student = Tensor::from_slice2(&[[0.5, 2.0]]);
/// let teacher = Tensor::from_slice2(&[[2.0, -1.0]]);
/// let mut schedule = TaidSchedule::new(0.4, 1.0, 5e-4, 0.99)?;
/// let mut path = Vec::new();
/// for step in 0..5 {
///     let loss = taid(&student, &teacher, &Temperature::Constant(1.0), schedule.t())?;
///     // Here comes an optimizer step.
///     path.push(schedule.t().double_value(&[]));
///     schedule.advance(&loss, f64::from(step) / 5.0)?;
/// }
/// assert_eq!(path.iter().map(|t| format!("{t:.2}")).collect::<Vec<_>>(), [
///     "0.40", "0.40", "0.52", "0.64", "0.76"
/// ]);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TaidSchedule {
    t_start: f64,
    t_end: f64,
    alpha: f64,
    beta: f64,
    is_adaptive: bool,
    /// `t_start` on the device.
    start: Tensor,
    t: Tensor,
    momentum: Tensor,
    /// The last loss; 0 before there is one.
    loss: Tensor,
}

/// Names in the state.
const T: &str = "taid.t";
const MOMENTUM: &str = "taid.momentum";
const LOSS: &str = "taid.loss";

impl TaidSchedule {
    /// From `t_start` to `t_end`, with the size α of a step and the inertia β of its momentum. The
    /// paper has 0.4, 1, 5e-4 and 0.99.
    ///
    /// # Errors
    /// When a number is not from 0 to 1, or `t_start` is above `t_end`. α may be above 1.
    pub fn new(t_start: f64, t_end: f64, alpha: f64, beta: f64) -> Result<Self> {
        for (name, value) in [("t_start", t_start), ("t_end", t_end), ("beta", beta)] {
            if !(0.0..=1.0).contains(&value) {
                let reason = format!("must be from 0 to 1, is {value}");
                return Err(Error::config(name, reason));
            }
        }
        if t_start > t_end {
            let reason = format!("must not be above t_end, {t_end}, is {t_start}");
            return Err(Error::config("t_start", reason));
        }
        if !(alpha.is_finite() && alpha >= 0.0) {
            let reason = format!("must be 0 or more, is {alpha}");
            return Err(Error::config("alpha", reason));
        }
        let start = Tensor::f_from_slice(&[t_start])?.f_reshape([0i64; 0])?;
        Ok(TaidSchedule {
            t_start,
            t_end,
            alpha,
            beta,
            is_adaptive: true,
            t: start.shallow_clone(),
            momentum: start.f_zeros_like()?,
            loss: start.f_zeros_like()?,
            start,
        })
    }

    /// In a line from `t_start` to `t_end`, whatever the losses are.
    #[must_use]
    pub fn without_adaptation(mut self) -> Self {
        self.is_adaptive = false;
        self
    }

    /// Moves its numbers to a device, that of the losses.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn move_to(&mut self, device: Device) -> Result<()> {
        let all = [
            &mut self.start,
            &mut self.t,
            &mut self.momentum,
            &mut self.loss,
        ];
        for tensor in all {
            *tensor = tensor.f_to_device(device)?;
        }
        Ok(())
    }

    /// How far the target is from the student, 0, to the teacher, 1: a tensor without dimensions.
    pub fn t(&self) -> &Tensor {
        &self.t
    }

    /// Moves on after an optimizer step. `loss` is what [`losses::taid`](crate::losses::taid) came to
    /// in it, one number on the device of the schedule; `progress` the part of the training that was
    /// done before it, from 0 to 1.
    ///
    /// # Errors
    /// When the loss is not one number.
    pub fn advance(&mut self, loss: &Tensor, progress: f64) -> Result<()> {
        let _no_history = tch::no_grad_guard();
        let loss = one_number("loss of TAID's schedule", loss)?.f_to_kind(Kind::Double)?;
        let counts = loss.f_isfinite()?.f_logical_and(&loss.is_above(0.0)?)?;
        let moves = counts.f_logical_and(&self.loss.is_above(0.0)?)?;
        let gain = self.loss.f_sub(&loss)?.f_div(&self.loss.plus(EPS)?)?;
        let momentum = self.momentum.times(self.beta)?;
        let momentum = momentum.f_add(&gain.times(1.0 - self.beta)?)?;
        let in_a_line = self.t_start + (self.t_end - self.t_start) * progress;
        let t = match self.is_adaptive {
            true => {
                let rest = self.t.f_neg()?.plus(1.0)?;
                let step = momentum.f_sigmoid()?.f_mul(&rest)?.times(self.alpha)?;
                self.t.f_add(&step)?.at_least(in_a_line)?
            }
            false => self.t.f_zeros_like()?.plus(in_a_line)?,
        };
        let t = t.at_most(self.t_end)?;
        self.t = t.f_where_self(&moves, &self.t)?;
        self.momentum = momentum.f_where_self(&moves, &self.momentum)?;
        self.loss = loss.f_where_self(&counts, &self.loss)?;
        Ok(())
    }

    /// Goes back to the beginning, for another training.
    ///
    /// # Errors
    /// When there is no memory for two numbers.
    pub fn restart(&mut self) -> Result<()> {
        self.t = self.start.shallow_clone();
        self.momentum = self.start.f_zeros_like()?;
        self.loss = self.start.f_zeros_like()?;
        Ok(())
    }

    /// What it remembers, by name: for a checkpoint.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let named = [(T, &self.t), (MOMENTUM, &self.momentum), (LOSS, &self.loss)];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        named.into()
    }

    /// Puts back what [`state`](Self::state) gave. When it fails, nothing is changed.
    ///
    /// # Errors
    /// When a number is missing, unexpected, or cannot be one of such a schedule.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let known = [T, MOMENTUM, LOSS];
        if let Some(name) = state.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(wrong(format!("`{name}`: unexpected")));
        }
        let number = |name: &str| {
            let Some(tensor) = state.get(name) else {
                return Err(wrong(format!("`{name}`: missing")));
            };
            let wanted = "expected one finite number of 64 bits";
            let (kind, size) = (tensor.f_kind()?, tensor.size());
            if kind != Kind::Double || !size.is_empty() {
                return Err(wrong(format!(
                    "`{name}`: {wanted}, found {kind:?} {size:?}"
                )));
            }
            let number = f64::try_from(tensor)?;
            match number.is_finite() {
                true => Ok((tensor.f_to_device(self.start.device())?, number)),
                false => Err(wrong(format!("`{name}`: {wanted}, found {number}"))),
            }
        };
        let ((t, place), (momentum, _), (loss, last)) =
            (number(T)?, number(MOMENTUM)?, number(LOSS)?);
        if !(self.t_start..=self.t_end).contains(&place) {
            let (from, to) = (self.t_start, self.t_end);
            return Err(wrong(format!(
                "`{T}`: expected a number from {from} to {to}, found {place}"
            )));
        }
        if last < 0.0 {
            return Err(wrong(format!(
                "`{LOSS}`: expected a loss of 0 or more, found {last}"
            )));
        }
        (self.t, self.momentum, self.loss) = (t, momentum, loss);
        Ok(())
    }
}

fn wrong(difference: String) -> Error {
    Error::WeightsMismatch {
        origin: "the state of TAID's schedule".to_owned(),
        differences: vec![difference],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Tensor {
        Tensor::from_slice(&[value]).reshape([0i64; 0])
    }

    fn numbers(schedule: &TaidSchedule) -> Vec<f64> {
        let state = schedule.state();
        state
            .values()
            .map(|value| value.double_value(&[]))
            .collect()
    }

    #[test]
    fn losses_of_nothing_move_nothing() {
        let mut schedule = TaidSchedule::new(0.2, 0.9, 0.3, 0.5).unwrap();
        let nothing = [0.0, -1.0, f64::NAN, f64::INFINITY];
        for first in nothing {
            schedule.advance(&number(first), 0.5).unwrap();
        }
        assert_eq!(numbers(&schedule), [0.0, 0.0, 0.2]);
        schedule.advance(&number(3.0), 0.1).unwrap();
        assert_eq!(numbers(&schedule), [3.0, 0.0, 0.2]);
        schedule.advance(&number(2.0), 0.1).unwrap();
        let moved = numbers(&schedule);
        assert!(moved[2] > 0.2);
        for later in nothing {
            schedule.advance(&number(later), 0.5).unwrap();
        }
        assert_eq!(numbers(&schedule), moved);
        schedule.restart().unwrap();
        assert_eq!(numbers(&schedule), [0.0, 0.0, 0.2]);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_by_name() {
        for ((start, end, alpha, beta), expected) in [
            (
                (-0.1, 1.0, 0.1, 0.9),
                "t_start: must be from 0 to 1, is -0.1",
            ),
            (
                (0.0, f64::NAN, 0.1, 0.9),
                "t_end: must be from 0 to 1, is NaN",
            ),
            (
                (0.5, 0.4, 0.1, 0.9),
                "t_start: must not be above t_end, 0.4, is 0.5",
            ),
            ((0.0, 1.0, -1.0, 0.9), "alpha: must be 0 or more, is -1"),
            ((0.0, 1.0, 0.1, 1.1), "beta: must be from 0 to 1, is 1.1"),
        ] {
            let error = TaidSchedule::new(start, end, alpha, beta).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_state_of_something_else_is_refused_and_changes_nothing() {
        let mut schedule = TaidSchedule::new(0.2, 0.9, 0.3, 0.5).unwrap();
        schedule.advance(&number(3.0), 0.0).unwrap();
        schedule.advance(&number(2.5), 0.5).unwrap();
        let good = schedule.state();
        let mut other = TaidSchedule::new(0.2, 0.9, 0.3, 0.5).unwrap();
        for (name, value, expected) in [
            (T, None, "`taid.t`: missing"),
            (MOMENTUM, Some(number(f64::NAN)), "found NaN"),
            (LOSS, Some(number(-1.0)), "a loss of 0 or more, found -1"),
            (T, Some(number(0.1)), "a number from 0.2 to 0.9, found 0.1"),
            (T, Some(Tensor::from_slice(&[0.3])), "found Double [1]"),
            (T, Some(number(0.3).to_kind(Kind::Float)), "found Float []"),
            ("more", Some(number(0.0)), "`more`: unexpected"),
        ] {
            let mut state = other.state();
            state.extend(schedule.state());
            match value {
                Some(value) => state.insert(name.to_owned(), value),
                None => state.remove(name),
            };
            let error = other.load_state(&state).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(numbers(&other), [0.0, 0.0, 0.2]);
        }
        other.load_state(&good).unwrap();
        assert_eq!(numbers(&other), numbers(&schedule));
    }
}
