//! Which checkpoints are kept.

use std::collections::BTreeSet;

/// Whether a metric is better when it is larger or smaller.
///
/// ```
/// use textbrewer::checkpoint::Mode;
///
/// assert!(Mode::Max.is_better(0.9, 0.8)); // accuracy
/// assert!(Mode::Min.is_better(0.1, 0.2)); // a loss
/// assert!(!Mode::Max.is_better(f64::NAN, 0.8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Larger is better, as for an accuracy.
    #[default]
    Max,
    /// Smaller is better, as for a loss.
    Min,
}

impl Mode {
    /// Whether `new` is better than `old`; false if either is NaN.
    pub fn is_better(self, new: f64, old: f64) -> bool {
        match self {
            Mode::Max => new > old,
            Mode::Min => new < old,
        }
    }
}

/// A saved student, with the metric that a callback returned for it.
///
/// ```
/// use textbrewer::checkpoint::Saved;
///
/// assert_eq!(Saved::new(20, 0.9).metric, Some(0.9));
/// assert_eq!(Saved::new(20, None).metric, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Saved {
    /// The optimizer step.
    pub step: u64,
    /// The metric, if a callback returned one.
    pub metric: Option<f64>,
}

impl Saved {
    /// A student saved at this step, with its metric if there is one.
    pub fn new(step: u64, metric: impl Into<Option<f64>>) -> Self {
        Saved {
            step,
            metric: metric.into(),
        }
    }
}

/// Which of the saved students are kept in the folder.
///
/// All of them by default, as in TextBrewer. Policies are combined with [`or`](Self::or). The
/// newest student and the best one are always kept.
///
/// ```
/// use textbrewer::checkpoint::{Keep, Mode, Saved};
///
/// let saved: Vec<_> = [(10, 0.7), (20, 0.9), (30, 0.8), (40, 0.6), (50, 0.5)]
///     .map(|(step, accuracy)| Saved::new(step, accuracy))
///     .into();
/// assert!(Keep::all().to_remove(&saved, Mode::Max).is_empty());
/// // The last two, and the best.
/// assert_eq!(Keep::last(2).to_remove(&saved, Mode::Max), [10, 30]);
/// assert_eq!(Keep::best(2).to_remove(&saved, Mode::Max), [10, 40]);
/// assert_eq!(Keep::every(30).or(Keep::last(1)).to_remove(&saved, Mode::Max), [10, 40]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Keep {
    all: bool,
    last: u64,
    best: u64,
    /// Multiples of any of these are kept.
    every: BTreeSet<u64>,
}

impl Keep {
    const NEWEST: Keep = Keep {
        all: false,
        last: 1,
        best: 1,
        every: BTreeSet::new(),
    };

    /// Keeps all students.
    pub fn all() -> Self {
        Keep {
            all: true,
            ..Keep::NEWEST
        }
    }

    /// Keeps the last `count`.
    pub fn last(count: u64) -> Self {
        Keep {
            last: count.max(1),
            ..Keep::NEWEST
        }
    }

    /// Keeps the `count` with the best metric. Of equal ones the earlier is better.
    pub fn best(count: u64) -> Self {
        Keep {
            best: count.max(1),
            ..Keep::NEWEST
        }
    }

    /// Keeps those at multiples of `steps` optimizer steps.
    pub fn every(steps: u64) -> Self {
        Keep {
            every: BTreeSet::from([steps.max(1)]),
            ..Keep::NEWEST
        }
    }

    /// Keeps what this or `other` keeps.
    pub fn or(mut self, other: Keep) -> Self {
        self.all |= other.all;
        self.last = self.last.max(other.last);
        self.best = self.best.max(other.best);
        self.every.extend(other.every);
        self
    }

    /// The steps of the students to remove. `saved` is all of them, oldest first, and the steps
    /// are in that order.
    pub fn to_remove(&self, saved: &[Saved], mode: Mode) -> Vec<u64> {
        if self.all {
            return Vec::new();
        }
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let mut kept: BTreeSet<u64> = saved
            .iter()
            .rev()
            .take(count(self.last))
            .map(|saved| saved.step)
            .collect();
        let mut ranked: Vec<(f64, u64)> = saved
            .iter()
            .filter_map(|saved| Some((saved.metric.filter(|m| !m.is_nan())?, saved.step)))
            .collect();
        // The sort is stable: of equal ones the earlier stays in front.
        ranked.sort_by(|a, b| match mode {
            Mode::Max => b.0.total_cmp(&a.0),
            Mode::Min => a.0.total_cmp(&b.0),
        });
        kept.extend(ranked.iter().take(count(self.best)).map(|(_, step)| step));
        let is_multiple = |step: u64| self.every.iter().any(|every| step.is_multiple_of(*every));
        let stays = |step: u64| kept.contains(&step) || is_multiple(step);
        let steps = saved.iter().map(|saved| saved.step);
        steps.filter(|step| !stays(*step)).collect()
    }
}

impl Default for Keep {
    fn default() -> Self {
        Keep::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(list: &[(u64, Option<f64>)]) -> Vec<Saved> {
        list.iter().map(|(s, m)| Saved::new(*s, *m)).collect()
    }

    #[test]
    fn the_newest_and_the_best_always_stay() {
        let saved = saved(&[(1, Some(0.9)), (2, Some(0.5)), (3, None), (4, Some(0.1))]);
        assert_eq!(Keep::last(0).to_remove(&saved, Mode::Max), [2, 3]);
        assert_eq!(Keep::best(0).to_remove(&saved, Mode::Min), [1, 2, 3]);
        assert_eq!(Keep::every(0).to_remove(&saved, Mode::Max), [0; 0]);
        assert!(Keep::last(3).to_remove(&[], Mode::Max).is_empty());
    }

    #[test]
    fn of_equal_metrics_the_earlier_is_better_and_nan_is_the_worst() {
        let saved = saved(&[
            (1, Some(f64::NAN)),
            (2, Some(0.5)),
            (3, Some(0.5)),
            (4, None),
        ]);
        for mode in [Mode::Max, Mode::Min] {
            assert_eq!(Keep::best(1).to_remove(&saved, mode), [1, 3]);
        }
    }

    #[test]
    fn a_union_keeps_what_either_keeps() {
        let saved: Vec<_> = (1..=12)
            .map(|step| Saved::new(step, (step % 5) as f64))
            .collect();
        let policies = [
            Keep::last(3),
            Keep::best(4),
            Keep::every(4),
            Keep::every(6),
            Keep::every(4).or(Keep::every(5)),
            Keep::all(),
        ];
        for a in &policies {
            for b in &policies {
                let removed = a.clone().or(b.clone()).to_remove(&saved, Mode::Max);
                let (only_a, only_b) = (
                    a.to_remove(&saved, Mode::Max),
                    b.to_remove(&saved, Mode::Max),
                );
                let expected: Vec<u64> = only_a
                    .into_iter()
                    .filter(|step| only_b.contains(step))
                    .collect();
                assert_eq!(removed, expected, "{a:?} or {b:?}");
            }
        }
    }

    #[test]
    fn of_many_intervals_each_is_kept() {
        let saved: Vec<_> = (1..=24).map(|step| Saved::new(step, None)).collect();
        let keep = Keep::every(4).or(Keep::every(6)).or(Keep::every(10));
        let removed = keep.to_remove(&saved, Mode::Max);
        let kept: Vec<u64> = (1..=24).filter(|step| !removed.contains(step)).collect();
        assert_eq!(kept, [4, 6, 8, 10, 12, 16, 18, 20, 24]);
    }
}
