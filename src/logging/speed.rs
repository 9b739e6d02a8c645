//! How fast a run is.

use std::time::Duration;

/// The time over which the current speed is a mean, at least.
const WINDOW: Duration = Duration::from_secs(10);

/// How fast a run is, from the times at which steps were done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    begin: Mark,
    /// The last two beginnings of a window.
    before: Mark,
    last: Mark,
}

/// A step, and the time when it was done.
#[derive(Debug, Clone, Copy)]
struct Mark {
    step: u64,
    at: Duration,
}

impl Mark {
    /// Steps per second from then on, if there is any.
    fn speed_to(self, step: u64, now: Duration) -> Option<f64> {
        let seconds = now.checked_sub(self.at)?.as_secs_f64();
        let steps = step.checked_sub(self.step)?;
        (steps > 0 && seconds > 0.0).then(|| steps as f64 / seconds)
    }
}

impl Speed {
    pub(super) fn begin(step: u64, at: Duration) -> Self {
        let begin = Mark { step, at };
        Speed {
            begin,
            before: begin,
            last: begin,
        }
    }

    /// Notes that a step is done.
    pub(super) fn note(&mut self, step: u64, at: Duration) {
        if at >= self.last.at + WINDOW {
            self.before = self.last;
            self.last = Mark { step, at };
        }
    }

    /// Steps per second of late.
    pub(super) fn current(&self, step: u64, now: Duration) -> Option<f64> {
        self.before.speed_to(step, now)
    }

    /// Steps per second since the beginning.
    pub(super) fn overall(&self, step: u64, now: Duration) -> Option<f64> {
        self.begin.speed_to(step, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_speed_forgets_and_a_resumed_run_begins_where_it_is() {
        let seconds = Duration::from_secs;
        let mut speed = Speed::begin(1000, seconds(0));
        assert_eq!(speed.current(1000, seconds(1)), None);
        assert_eq!(speed.current(1002, seconds(1)), Some(2.0));
        // Two steps a second for 20 seconds, then ten.
        for second in 1..=20 {
            speed.note(1000 + 2 * second, seconds(second));
        }
        for second in 21..=40 {
            speed.note(1040 + 10 * (second - 20), seconds(second));
        }
        assert_eq!(speed.current(1240, seconds(40)), Some(10.0));
        assert_eq!(speed.overall(1240, seconds(40)), Some(6.0));
    }
}
