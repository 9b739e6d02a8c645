//! When to step and when to save: arithmetic only, so that it can be tested alone.

use super::position::Position;
use crate::config::TrainingConfig;
use crate::error::{Error, Result};

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Passes over the loader, whose number of batches is known.
    Epochs { epochs: u64, batches: u64 },
    /// Optimizer steps; the loader is started anew as often as needed.
    Steps(u64),
}

/// When to step and when to save.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    length: Length,
    accumulation: u64,
    step_on_remainder: bool,
    checkpoints: Checkpoints,
}

#[derive(Debug, Clone)]
enum Checkpoints {
    /// At these optimizer steps of an epoch (0 is the epoch's end), every so many epochs.
    InEpoch { steps: Vec<u64>, every: u64 },
    /// Every so many optimizer steps, and at the end.
    EverySteps(Option<u64>),
}

impl Plan {
    pub(crate) fn new(config: &TrainingConfig, length: Length) -> Result<Self> {
        let accumulation = config.gradient_accumulation_steps;
        let mut plan = Plan {
            length,
            accumulation,
            step_on_remainder: config.step_on_remainder,
            checkpoints: Checkpoints::EverySteps(config.ckpt_steps),
        };
        if let Length::Epochs { batches, .. } = length {
            let per_epoch = plan.steps_per_epoch(batches);
            if per_epoch == 0 {
                let reason = format!(
                    "{accumulation} batches are needed for one optimizer step, but the loader has \
                     {batches} in an epoch; lower it, or set `step_on_remainder`"
                );
                return Err(Error::config("gradient_accumulation_steps", reason));
            }
            // At most one checkpoint after every step.
            let frequency = config.ckpt_frequency.min(per_epoch);
            // In floating point, as in TextBrewer: for some frequencies the integer quotient is
            // another step.
            let at = |i: u64| (per_epoch as f64 * i as f64 / frequency as f64) as u64;
            plan.checkpoints = Checkpoints::InEpoch {
                steps: (0..frequency).map(at).collect(),
                every: config.ckpt_epoch_frequency,
            };
        }
        Ok(plan)
    }

    /// Optimizer steps of the whole run.
    pub(crate) fn total_steps(&self) -> u64 {
        match self.length {
            Length::Epochs { epochs, batches } => {
                epochs.saturating_mul(self.steps_per_epoch(batches))
            }
            Length::Steps(steps) => steps,
        }
    }

    /// Whether epoch `epoch` (from 0) is still to be run.
    pub(crate) fn has_epoch(&self, epoch: u64) -> bool {
        match self.length {
            Length::Epochs { epochs, .. } => epoch < epochs,
            Length::Steps(_) => true,
        }
    }

    /// Whether a run at this position has nothing left to do. Batches left over at the end make
    /// no step, but their losses are logged.
    pub(crate) fn is_complete_after(&self, at: &Position) -> bool {
        match self.length {
            Length::Epochs { epochs, batches } => {
                at.epoch > epochs || (at.epoch == epochs && at.batch >= batches)
            }
            Length::Steps(steps) => at.global_step >= steps,
        }
    }

    /// Whether a run of this plan can be at this position after a step. A position that is read
    /// from a file decides how many batches are skipped, and the loader may be endless.
    pub(crate) fn has_position(&self, at: &Position) -> bool {
        match self.length {
            Length::Epochs { batches, .. } => {
                let before = at.epoch.saturating_sub(1).checked_mul(batches);
                let so_far = before.and_then(|before| before.checked_add(at.batch));
                at.batch <= batches && at.counted == at.batch && so_far == Some(at.forward_step)
            }
            Length::Steps(_) => {
                let so_far = at.global_step.checked_mul(self.accumulation);
                at.counted == at.forward_step && so_far == Some(at.forward_step)
            }
        }
    }

    /// The position of a run of this plan that is as far as `before` in its epoch, at this batch or
    /// the end of the step before it. A run of steps keeps its number of steps.
    pub(crate) fn at(&self, before: Position, batch: u64) -> Position {
        match self.length {
            Length::Epochs { batches, .. } => {
                let batch = match batch >= batches {
                    true => batches,
                    false => batch - batch % self.accumulation,
                };
                let past = before.epoch.saturating_sub(1);
                let per_epoch = self.steps_per_epoch(batches);
                let steps = match batch == batches {
                    true => per_epoch,
                    false => batch / self.accumulation,
                };
                Position {
                    global_step: past.saturating_mul(per_epoch).saturating_add(steps),
                    forward_step: past.saturating_mul(batches).saturating_add(batch),
                    epoch: before.epoch,
                    batch,
                    counted: batch,
                }
            }
            Length::Steps(_) => {
                let forward_step = before.global_step.saturating_mul(self.accumulation);
                Position {
                    forward_step,
                    counted: forward_step,
                    batch,
                    ..before
                }
            }
        }
    }

    /// How many batches an epoch must have, where that is known.
    pub(crate) fn batches_per_epoch(&self) -> Option<u64> {
        match self.length {
            Length::Epochs { batches, .. } => Some(batches),
            Length::Steps(_) => None,
        }
    }

    /// What the loss of a batch is divided by before it is accumulated. Batches are counted
    /// from 0, in the epoch or, for a run of steps, in the run.
    pub(crate) fn divisor(&self, batch: u64) -> u64 {
        match self.batches_per_epoch() {
            Some(batches) if self.step_on_remainder && self.is_remainder(batch, batches) => {
                batches % self.accumulation
            }
            _ => self.accumulation,
        }
    }

    /// Whether the optimizer steps after this batch.
    pub(crate) fn steps_after(&self, batch: u64) -> bool {
        let is_last_of_remainder = self.step_on_remainder
            && self
                .batches_per_epoch()
                .is_some_and(|batches| batch + 1 == batches);
        (batch + 1).is_multiple_of(self.accumulation) || is_last_of_remainder
    }

    /// Whether the student is saved after this optimizer step (counted from 1) of this epoch.
    pub(crate) fn saves_after(&self, global_step: u64, epoch: u64) -> bool {
        match (&self.checkpoints, self.length) {
            (Checkpoints::InEpoch { steps, every }, Length::Epochs { epochs, batches }) => {
                let epoch = epoch + 1;
                steps.contains(&(global_step % self.steps_per_epoch(batches)))
                    && (epoch.is_multiple_of(*every) || epoch == epochs)
            }
            (Checkpoints::EverySteps(every), _) => {
                global_step == self.total_steps()
                    || every.is_some_and(|every| global_step.is_multiple_of(every))
            }
            _ => false,
        }
    }

    /// Whether the student is saved after this optimizer step (counted from 1).
    pub(crate) fn saves_at(&self, global_step: u64) -> bool {
        let epoch = match self.length {
            Length::Epochs { batches, .. } => {
                let per_epoch = self.steps_per_epoch(batches).max(1);
                global_step.saturating_sub(1) / per_epoch
            }
            Length::Steps(_) => 0,
        };
        (1..=self.total_steps()).contains(&global_step) && self.saves_after(global_step, epoch)
    }

    fn steps_per_epoch(&self, batches: u64) -> u64 {
        if self.step_on_remainder {
            batches.div_ceil(self.accumulation)
        } else {
            batches / self.accumulation
        }
    }

    fn is_remainder(&self, batch: u64, batches: u64) -> bool {
        batch >= batches - batches % self.accumulation
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
