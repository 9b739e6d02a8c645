//! The position of a run in a checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Saved;
use crate::logging::LogFolder;
use crate::optim::{LossScaling, LossScalingState};

/// The position of a run in a checkpoint, with losses and metrics so far: everything that is
/// neither a tensor nor part of its description.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedPosition {
    /// Optimizer steps done.
    pub(crate) global_step: u64,
    /// Batches trained on.
    pub(crate) forward_step: u64,
    /// The current epoch, counted from 1.
    pub(crate) epoch: u64,
    /// Batches taken from the loader in this epoch.
    pub(crate) batch: u64,
    /// Batches as accumulation counts them.
    pub(crate) counted: u64,
    /// What ended the run early, if it is not to be continued.
    pub(crate) stopped: Option<Stopped>,
    /// The losses of the last batch.
    pub(crate) losses: BTreeMap<String, f64>,
    /// Sum and number of the losses since the previous checkpoint.
    pub(crate) sums: BTreeMap<String, (f64, u64)>,
    /// Every checkpoint so far, removed ones too.
    pub(crate) history: Vec<Point>,
    /// The steps whose students exist.
    pub(crate) kept: Vec<u64>,
    /// The best of the history.
    pub(crate) best: Option<Point>,
    /// The scaling of the loss, if it is scaled.
    pub(crate) scaling: Option<LossScalingState>,
    /// How many processes trained together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) world_size: u64,
    /// The run's TensorBoard log, to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogFolder>,
}

fn one() -> u64 {
    1
}

fn is_one(world_size: &u64) -> bool {
    *world_size == 1
}

/// What ended a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stopped {
    Callback,
    EarlyStopping,
}

/// A checkpoint and its metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    pub(crate) step: u64,
    pub(crate) metric: Option<f64>,
}

impl From<Saved> for Point {
    fn from(saved: Saved) -> Self {
        Point {
            step: saved.step,
            metric: saved.metric,
        }
    }
}

impl From<Point> for Saved {
    fn from(point: Point) -> Self {
        Saved::new(point.step, point.metric)
    }
}

impl SavedPosition {
    /// Why no run can have this position, if none can.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let cannot_scale = |state: LossScalingState| LossScaling::new().set_numbers(state).is_err();
        let rules = [
            (self.epoch == 0, "`epoch` is 0, it counts from 1"),
            (
                self.global_step > self.forward_step,
                "`global_step` is over `forward_step`",
            ),
            (
                self.batch > self.forward_step,
                "`batch` is over `forward_step`",
            ),
            (
                self.counted > self.forward_step,
                "`counted` is over `forward_step`",
            ),
            (
                self.epoch > self.forward_step,
                "`epoch` is over `forward_step`",
            ),
            (
                self.forward_step > i64::MAX as u64,
                "`forward_step` is over 2^63 - 1",
            ),
            (
                self.scaling.is_some_and(cannot_scale),
                "`scaling` has a scale or a tracker that is impossible",
            ),
        ];
        rules.into_iter().find(|(bad, _)| *bad).map(|(_, why)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_positions_are_found() {
        let good = SavedPosition {
            global_step: 2,
            forward_step: 5,
            epoch: 2,
            batch: 1,
            counted: 5,
            ..SavedPosition::default()
        };
        assert_eq!(good.contradiction(), None);
        let mut bad: Vec<SavedPosition> = (0..7).map(|_| good.clone()).collect();
        bad[0].epoch = 0;
        bad[1].global_step = u64::MAX;
        bad[2].batch = 6;
        bad[3].counted = u64::MAX;
        bad[4].epoch = 6;
        bad[5].forward_step = u64::MAX;
        bad[6].scaling =
            Some(serde_json::from_str(r#"{"scale":-1.0,"growth_tracker":0}"#).unwrap());
        assert!(
            bad.iter()
                .all(|position| position.contradiction().is_some())
        );
    }

    #[test]
    fn numbers_come_back_to_the_last_bit() {
        let position = SavedPosition {
            losses: BTreeMap::from([("a".to_owned(), 0.1 + 0.2), ("b".to_owned(), 5e-324)]),
            sums: BTreeMap::from([("a".to_owned(), (1.0 / 3.0, 3))]),
            forward_step: (1 << 62) + 1,
            history: vec![Point {
                step: 1,
                metric: Some(-0.0),
            }],
            ..SavedPosition::default()
        };
        let text = serde_json::to_string(&position).unwrap();
        let back: SavedPosition = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{position:?}"));
    }
}
