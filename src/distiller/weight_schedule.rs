//! Weights of losses that change in the course of training.

use std::fmt;

use crate::presets::WeightFunction;
use crate::step::StepInfo;

/// A weight that may change in the course of training.
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
