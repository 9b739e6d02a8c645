//! Where in the training a batch stands, and the weights that depend on it.

use crate::presets::WeightFunction;
use std::fmt;

/// Where in the training a batch stands.
///
/// ```
/// use textbrewer::StepInfo;
///
/// // The seventh batch, after three of twelve optimizer steps, in the first epoch.
/// let step = StepInfo::new(6, 3, 12, 1).with_batch_id(Some(6));
/// assert_eq!(step.progress(), 0.25);
/// assert_eq!(step.batch_id, Some(6));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepInfo {
    /// Batches before this one in the whole run.
    pub forward_step: u64,
    /// Optimizer steps before this batch.
    pub global_step: u64,
    /// Optimizer steps that the whole run is to have.
    pub total_steps: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The number of the batch, where batches are the same in every epoch; teacher outputs are
    /// kept under it.
    pub batch_id: Option<u64>,
}

impl StepInfo {
    /// A point in a run of `total_steps`, for calling a distiller without the engine.
    pub fn new(forward_step: u64, global_step: u64, total_steps: u64, epoch: u64) -> Self {
        StepInfo {
            forward_step,
            global_step,
            total_steps,
            epoch,
            batch_id: None,
        }
    }

    /// The same point, at a batch that has a number.
    #[must_use]
    pub fn with_batch_id(mut self, id: Option<u64>) -> Self {
        self.batch_id = id;
        self
    }

    /// The part of the run that is done, from 0 to 1.
    pub fn progress(&self) -> f64 {
        self.global_step as f64 / self.total_steps.max(1) as f64
    }
}

/// A weight that may change as training goes on.
///
/// As in TextBrewer the first optimizer step uses the configured weight, and from the
/// second on the schedule **replaces** it: the two are not multiplied.
#[derive(Clone)]
pub(super) struct WeightSchedule {
    configured: f64,
    schedule: Option<WeightFunction>,
}

impl WeightSchedule {
    /// The weight `configured`, or what `schedule` makes of the progress.
    pub(super) fn new(configured: f64, schedule: Option<WeightFunction>) -> Self {
        WeightSchedule {
            configured,
            schedule,
        }
    }

    /// The weight of a batch.
    pub(super) fn at(&self, step: &StepInfo) -> f64 {
        match &self.schedule {
            Some(schedule) if step.global_step > 0 => schedule(step.progress()),
            _ => self.configured,
        }
    }
}

impl fmt::Debug for WeightSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightSchedule")
            .field("configured", &self.configured)
            .field("scheduled", &self.schedule.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_first_optimizer_step_uses_the_configured_weight() {
        let weight = WeightSchedule::new(0.5, Some(Rc::new(|x| 1.0 - x)));
        assert_eq!(weight.at(&StepInfo::new(0, 0, 4, 0)), 0.5);
        assert_eq!(weight.at(&StepInfo::new(2, 1, 4, 0)), 0.75);
        assert_eq!(weight.at(&StepInfo::new(6, 3, 4, 0)), 0.25);
    }
}
