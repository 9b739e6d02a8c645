//! Logging of losses and other values: event files, memory, the terminal.

mod memory;
mod progress;
mod tensorboard;

pub use memory::MemorySink;
pub(crate) use progress::ProgressBar;
pub use tensorboard::TensorBoardSink;

use crate::error::Result;

/// Receives values, each under a tag and at a step.
///
/// A run logs `scalar/total_loss`, each loss under `scalar/` and its name (unweighted), and under
/// loss scaling `scalar/loss_scale`, at the forward steps from 0.
///
/// A sink that fails returns an error once and ignores everything after that, so that a full
/// disk costs the curves and not the training. `&mut S` and `Box<S>` of a sink are sinks too.
///
/// A custom sink, which keeps the lowest value under each tag:
///
/// ```
/// use std::collections::BTreeMap;
/// use textbrewer::{LogSink, Result};
///
/// #[derive(Debug, Default)]
/// struct Lowest(BTreeMap<String, f64>);
///
/// impl LogSink for Lowest {
///     fn scalar(&mut self, tag: &str, value: f64, _step: u64) -> Result<()> {
///         let lowest = self.0.entry(tag.to_owned()).or_insert(value);
///         *lowest = lowest.min(value);
///         Ok(())
///     }
///
///     fn flush(&mut self) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let mut sink = Lowest::default(); // `.log_sink(&mut sink)` in a run
/// for (step, loss) in [0.9, 0.2, 0.4].into_iter().enumerate() {
///     sink.scalar("scalar/total_loss", loss, step as u64)?;
/// }
/// assert_eq!(sink.0["scalar/total_loss"], 0.2);
/// # Result::Ok(())
/// ```
pub trait LogSink {
    /// Logs a value.
    ///
    /// # Errors
    /// When it cannot be written, the first time only.
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()>;

    /// Makes all values so far visible to readers.
    ///
    /// # Errors
    /// When they cannot be written, the first time only.
    fn flush(&mut self) -> Result<()>;
}

impl<S: LogSink + ?Sized> LogSink for &mut S {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        (**self).scalar(tag, value, step)
    }

    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }
}

impl<S: LogSink + ?Sized> LogSink for Box<S> {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        (**self).scalar(tag, value, step)
    }

    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }
}
