//! TAID, which has a schedule.

use std::cell::RefCell;
use std::rc::Rc;

use super::KdLoss;
use super::kd_loss::on_whole_logits;
use crate::error::{Error, Result};
use crate::losses;
use crate::schedule::TaidSchedule;

/// A schedule that the loss looks at, and whoever trains with it advances.
pub(crate) type SharedSchedule = Rc<RefCell<TaidSchedule>>;

/// [`losses::taid`] with a schedule of its own.
pub(super) fn taid(
    (t_start, t_end): (f64, f64),
    (alpha, beta): (f64, f64),
    disable_adaptive: f64,
) -> Result<KdLoss> {
    let schedule = TaidSchedule::new(t_start, t_end, alpha, beta)?;
    let schedule = match disable_adaptive {
        0.0 => schedule,
        1.0 => schedule.without_adaptation(),
        other => {
            let reason = format!("must be 0 or 1, is {other}");
            return Err(Error::config("disable_adaptive", reason));
        }
    };
    let schedule = Rc::new(RefCell::new(schedule));
    let looked_at = Rc::clone(&schedule);
    let loss = KdLoss::per_position(on_whole_logits(move |student, teacher, temperature| {
        losses::taid_at_each(student, teacher, temperature, looked_at.borrow().t())
    }));
    Ok(loss.in_parts().over_the_step().with_schedule(schedule))
}
