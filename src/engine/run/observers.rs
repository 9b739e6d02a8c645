//! Who is told of a run: callbacks, logs, the progress bar.

use super::Run;
use crate::distiller::Distiller;
use crate::engine::callback::{Callback, CheckpointInfo, Verdict};
use crate::error::Result;
use crate::logging::LogSink;

/// Who is told of a run, as the user describes it.
pub(in crate::engine) struct Observers<'a, S: ?Sized> {
    pub(in crate::engine) callbacks: Vec<Callback<'a, S>>,
    pub(in crate::engine) sinks: Vec<Box<dyn LogSink + 'a>>,
    pub(in crate::engine) progress: bool,
}

impl<S: ?Sized> Default for Observers<'_, S> {
    fn default() -> Self {
        Observers {
            callbacks: Vec::new(),
            sinks: Vec::new(),
            progress: true,
        }
    }
}

impl<'a, D: Distiller + ?Sized> Run<'a, D> {
    /// Called after each checkpoint, without gradients; evaluate there. It returns `Ok(())`
    /// to go on, a [`Flow`](crate::Flow), a metric (`Ok(0.87)`), or both as a pair: whatever
    /// becomes a [`Verdict`]. Call this again for several, which run in their order; the
    /// metric is that of the last that returns one.
    pub fn callback<R, F>(mut self, mut callback: F) -> Self
    where
        R: Into<Verdict>,
        F: FnMut(&D::Student, &CheckpointInfo) -> Result<R> + 'a,
    {
        self.observers
            .callbacks
            .push(Box::new(move |student, info| {
                callback(student, info).map(Into::into)
            }));
        self
    }

    /// Where every loss value goes, besides the TensorBoard log that `log_dir` asks for.
    pub fn log_sink(mut self, sink: impl LogSink + 'a) -> Self {
        self.observers.sinks.push(Box::new(sink));
        self
    }

    /// Whether to show a progress bar on a terminal; it does by default.
    pub fn progress(mut self, show: bool) -> Self {
        self.observers.progress = show;
        self
    }
}
