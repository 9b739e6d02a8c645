//! When callbacks are called without a checkpoint.

use crate::error::{Error, Result};

/// When callbacks are called besides the checkpoints, without one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evaluations {
    pub(super) at_start: bool,
    /// Every so many optimizer steps.
    pub(super) every: Option<u64>,
}

impl Evaluations {
    /// Whether they are due after this optimizer step, counted from 1.
    pub(super) fn are_due(self, global_step: u64) -> bool {
        self.every
            .is_some_and(|every| global_step.is_multiple_of(every))
    }

    /// # Errors
    /// When there is nothing to call, or the interval is 0.
    pub(super) fn check(self, callbacks: usize) -> Result<()> {
        let name = match (self.every, self.at_start) {
            (Some(0), _) => return Err(Error::config("evaluate_every", "must be at least 1")),
            (Some(_), _) => "evaluate_every",
            (None, true) => "evaluate_at_start",
            (None, false) => return Ok(()),
        };
        match callbacks {
            0 => Err(Error::config(name, "there is no `callback` to be called")),
            _ => Ok(()),
        }
    }
}
