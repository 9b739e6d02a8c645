//! The logs of a run.

use std::time::Instant;

use super::learning_rates::LearningRates;
use super::position::Position;
use crate::error::Result;
use crate::logging::{self, LogAxis, LogFolder, LogSink, RunStart};

/// Where a value stands: what was done before it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) forward_step: u64,
    pub(super) global_step: u64,
}

impl At {
    pub(super) fn of(position: &Position) -> Self {
        At {
            forward_step: position.forward_step,
            global_step: position.global_step,
        }
    }

    /// The last batch that was trained on, from 0.
    pub(super) fn last_batch(position: &Position) -> Self {
        At {
            forward_step: position.forward_step.saturating_sub(1),
            global_step: position.global_step,
        }
    }

    fn on(self, axis: LogAxis) -> u64 {
        match axis {
            LogAxis::ForwardStep => self.forward_step,
            LogAxis::OptimizerStep => self.global_step,
        }
    }
}

/// What a run logs to, and what it says there besides the values of its steps.
pub(super) struct RunLogs<'a> {
    pub(super) logs: Logs<'a>,
    /// The configurations, by name.
    pub(super) texts: Vec<(String, String)>,
    /// The TensorBoard log, by which a resumed run finds it.
    pub(super) folder: Option<LogFolder>,
    pub(super) rates: LearningRates,
}

/// The logs of a run. Each sink gets its values by the axis that it counts by.
///
/// A sink that fails is reported and dropped: a full disk under the logs must not end the
/// training.
pub(super) struct Logs<'a> {
    sinks: Vec<(LogAxis, Box<dyn LogSink + 'a>)>,
    /// Of the batches since the last optimizer step: name, sum and number of each loss.
    sums: Vec<(String, f64, u64)>,
    sums_at: At,
    /// Whether something was logged since the last flush.
    has_unflushed: bool,
    /// Since when, and since which batch, no speed was logged.
    unmeasured: Option<(u64, Instant)>,
    batches_of_a_step: u64,
}

impl<'a> Logs<'a> {
    /// Logs that all count by `axis`, or each by its own.
    pub(super) fn new(
        sinks: Vec<Box<dyn LogSink + 'a>>,
        axis: Option<LogAxis>,
        batches_of_a_step: u64,
    ) -> Self {
        let sinks = sinks.into_iter();
        let sinks = sinks.map(|sink| (axis.unwrap_or_else(|| sink.axis()), sink));
        Logs {
            sinks: sinks.collect(),
            sums: Vec::new(),
            sums_at: At {
                forward_step: 0,
                global_step: 0,
            },
            has_unflushed: false,
            unmeasured: None,
            batches_of_a_step,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Tells the sinks what begins, at this position if it was resumed.
    pub(super) fn begin(&mut self, at: &Position, is_resumed: bool, texts: &[(String, String)]) {
        self.keep_working(|axis, sink| {
            let step = is_resumed.then(|| At::of(at).on(axis));
            sink.begin(&RunStart::new(step, texts.to_vec()))
        });
        self.restart_clock(at);
    }

    /// Logs a value.
    pub(super) fn scalar(&mut self, name: &str, value: f64, at: At) {
        self.has_unflushed = true;
        let tag = tag(name);
        self.keep_working(|axis, sink| sink.scalar(&tag, value, at.on(axis)));
    }

    /// Logs the losses of a batch. On the axis of optimizer steps there is one value for all
    /// batches of a step, their mean; after this batch the step is done, or not.
    pub(super) fn losses(&mut self, named: &[(String, f64)], at: At, ends_step: bool) {
        self.has_unflushed = true;
        for (name, value) in named {
            let tag = tag(name);
            self.keep_working(|axis, sink| match axis {
                LogAxis::ForwardStep => sink.scalar(&tag, *value, at.forward_step),
                LogAxis::OptimizerStep => Ok(()),
            });
        }
        let has_means = |(axis, _): &(LogAxis, _)| *axis == LogAxis::OptimizerStep;
        if !self.sinks.iter().any(has_means) {
            return;
        }
        self.sums_at = at;
        for (name, value) in named {
            match self.sums.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.sums.push((name.clone(), *value, 1)),
            }
        }
        if ends_step {
            self.means();
        }
    }

    /// Logs the means of the batches since the last optimizer step.
    fn means(&mut self) {
        let at = self.sums_at;
        self.has_unflushed |= !self.sums.is_empty();
        for (name, sum, count) in std::mem::take(&mut self.sums) {
            let (tag, mean) = (tag(&name), sum / count as f64);
            self.keep_working(|axis, sink| match axis {
                LogAxis::ForwardStep => Ok(()),
                LogAxis::OptimizerStep => sink.scalar(&tag, mean, at.global_step),
            });
        }
    }

    /// Forgets the batches since the last optimizer step: their gradients were dropped, so that
    /// they are of no step.
    pub(super) fn drop_means(&mut self) {
        self.sums.clear();
    }

    /// Logs how fast the steps since the last time were done. Batches are counted: between two
    /// readings there may be an optimizer step without its batch, and batches without their step.
    pub(super) fn speed(&mut self, at: &Position) {
        let Some((batch, since)) = self.unmeasured else {
            return;
        };
        let batches = at.forward_step.saturating_sub(batch);
        let seconds = since.elapsed().as_secs_f64();
        if batches > 0 && seconds > 0.0 {
            let at_last = At::last_batch(at);
            let speed = batches as f64 / self.batches_of_a_step.max(1) as f64 / seconds;
            self.has_unflushed = true;
            self.keep_working(|axis, sink| sink.speed(speed, at_last.on(axis)));
            self.restart_clock(at);
        }
    }

    /// Leaves the time since the last measurement out: it was spent on a checkpoint.
    pub(super) fn restart_clock(&mut self, at: &Position) {
        if !self.is_empty() {
            self.unmeasured = Some((at.forward_step, Instant::now()));
        }
    }

    /// Makes all values so far visible to readers.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.has_unflushed) {
            self.keep_working(|_, sink| sink.flush());
        }
    }

    fn keep_working(&mut self, mut action: impl FnMut(LogAxis, &mut dyn LogSink) -> Result<()>) {
        self.sinks
            .retain_mut(|(axis, sink)| match action(*axis, sink.as_mut()) {
                Ok(()) => true,
                Err(error) => {
                    logging::warn(format_args!("{error}; training continues without this log"));
                    false
                }
            });
    }
}

fn tag(name: &str) -> String {
    format!("scalar/{name}")
}
