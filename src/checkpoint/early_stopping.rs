//! Ending a run early.

use super::{Mode, Saved};

/// Ends a run whose metric no longer improves.
///
/// A checkpoint is an improvement if its metric is better than the best before by more than
/// `min_delta`. After `patience` checkpoints in a row without an improvement the run ends.
/// Checkpoints without a metric do not count.
///
/// ```
/// use textbrewer::checkpoint::{EarlyStopping, Mode, Saved};
///
/// let stopping = EarlyStopping::new(2).min_delta(0.01);
/// let stops = |accuracies: &[f64]| {
///     let saved: Vec<_> = (1..).zip(accuracies).map(|(step, a)| Saved::new(step, *a)).collect();
///     stopping.should_stop(&saved, Mode::Max)
/// };
/// assert!(!stops(&[0.80, 0.80, 0.83]));
/// assert!(stops(&[0.80, 0.83, 0.835, 0.82]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
#[non_exhaustive]
pub struct EarlyStopping {
    /// Checkpoints in a row without an improvement that end the run; at least 1.
    pub patience: u64,
    /// By how much a metric must be better to count as an improvement. Default 0.
    pub min_delta: f64,
}

impl EarlyStopping {
    /// Ends a run after `patience` checkpoints in a row without an improvement.
    pub fn new(patience: u64) -> Self {
        EarlyStopping {
            patience,
            min_delta: 0.0,
        }
    }

    /// By how much a metric must be better than the best before to count as an improvement.
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }

    /// Whether the run ends after these checkpoints, oldest first.
    pub fn should_stop(&self, saved: &[Saved], mode: Mode) -> bool {
        self.waited(saved, mode) >= self.patience.max(1)
    }

    /// The number of checkpoints without an improvement since the last improvement.
    fn waited(&self, saved: &[Saved], mode: Mode) -> u64 {
        let mut best: Option<f64> = None;
        let mut waited = 0;
        for metric in saved.iter().filter_map(|saved| saved.metric) {
            let improved = best.is_none_or(|best| {
                let asked = match mode {
                    Mode::Max => best + self.min_delta,
                    Mode::Min => best - self.min_delta,
                };
                mode.is_better(metric, asked)
            });
            if improved {
                best = Some(metric);
                waited = 0;
            } else {
                waited += 1;
            }
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(metrics: &[f64]) -> Vec<Saved> {
        (1..)
            .zip(metrics)
            .map(|(step, m)| Saved::new(step, *m))
            .collect()
    }

    #[test]
    fn small_improvements_add_up() {
        // Each is within 0.1 of the one before, but 0.9 is 0.2 below the best that counted.
        let stopping = EarlyStopping::new(2).min_delta(0.15);
        assert!(!stopping.should_stop(&saved(&[1.1, 1.0, 0.9]), Mode::Min));
        assert!(stopping.should_stop(&saved(&[1.1, 1.0, 0.96]), Mode::Min));
    }

    #[test]
    fn equal_is_no_improvement() {
        let stopping = EarlyStopping::new(1);
        assert!(stopping.should_stop(&saved(&[1.0, 1.0]), Mode::Max));
        assert!(!stopping.should_stop(&saved(&[1.0]), Mode::Max));
        assert!(!stopping.should_stop(&[], Mode::Max));
    }

    #[test]
    fn no_patience_is_patience_for_one() {
        assert!(!EarlyStopping::new(0).should_stop(&saved(&[1.0, 2.0]), Mode::Max));
        assert!(EarlyStopping::new(0).should_stop(&saved(&[2.0, 1.0]), Mode::Max));
    }

    #[test]
    fn checkpoints_without_a_metric_do_not_count() {
        let list = [
            Saved::new(1, 1.0),
            Saved::new(2, None),
            Saved::new(3, None),
            Saved::new(4, 0.5),
        ];
        assert!(!EarlyStopping::new(2).should_stop(&list, Mode::Max));
        assert!(EarlyStopping::new(1).should_stop(&list, Mode::Max));
    }
}
