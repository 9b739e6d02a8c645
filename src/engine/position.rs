//! How far a run has come.

use crate::checkpoint::SavedPosition;

/// How far a run has come, in steps and in the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Optimizer steps done.
    pub(super) global_step: u64,
    /// Batches trained on.
    pub(super) forward_step: u64,
    /// The current epoch, counted from 1; 0 before the first.
    pub(super) epoch: u64,
    /// Batches taken from the loader in this epoch.
    pub(super) batch: u64,
    /// Batches that the plan has counted: in this epoch or, for a run of steps, in the run.
    pub(super) counted: u64,
}

impl Position {
    /// The position in a checkpoint.
    pub(super) fn of(saved: &SavedPosition) -> Self {
        Position {
            global_step: saved.global_step,
            forward_step: saved.forward_step,
            epoch: saved.epoch,
            batch: saved.batch,
            counted: saved.counted,
        }
    }

    /// This position for a checkpoint, with nothing else in it yet.
    pub(super) fn to_saved(self) -> SavedPosition {
        SavedPosition {
            global_step: self.global_step,
            forward_step: self.forward_step,
            epoch: self.epoch,
            batch: self.batch,
            counted: self.counted,
            ..SavedPosition::default()
        }
    }
}
