//! Logging of losses and other values: event files, memory, the terminal.
//!
//! # Messages
//!
//! Warnings and notes of the crate go through the [`log`] crate, under the target `textbrewer`.
//! A warning that no logger takes, because there is none or because it shows errors only, as
//! `env_logger::init()` does, is written to standard error instead: once, and not more than a few
//! of a kind. `TEXTBREWER_WARNINGS=off` in the environment turns that off.
//!
//! # The progress bar
//!
//! A run draws a line on standard error if that is a terminal (see
//! [`Run::progress`](crate::Run::progress)). It is away while callbacks run and while the crate
//! says something. What else is printed meanwhile, in a hook or by another thread, goes through
//! [`suspend`], and a logger through [`BarLogger`].

mod bar_logger;
mod event_files;
mod events;
mod memory;
mod messages;
mod progress;
mod run_start;
mod screen;
mod speed;
mod tensorboard;

pub use bar_logger::BarLogger;
pub use memory::MemorySink;
#[cfg(unix)]
pub(crate) use messages::is_quiet;
pub(crate) use messages::{info, log, quiet, warn};
pub(crate) use progress::ProgressBar;
pub use run_start::{LogAxis, RunStart};
pub(crate) use tensorboard::LogFolder;
pub use tensorboard::TensorBoardSink;

use std::path::Path;

use crate::error::Result;

/// Takes the progress bars off the terminal while `action` prints, and returns what it returns.
///
/// This is for what prints while a run draws its bar, in a hook for example. In a callback no bar
/// is in the way. No lock is held meanwhile: `action` may take its time, and use `suspend` itself.
///
/// ```
/// use textbrewer::logging;
///
/// // In `Run::after_step`:
/// logging::suspend(|| println!("a line of its own"));
/// ```
pub fn suspend<R>(action: impl FnOnce() -> R) -> R {
    screen::Screen::stderr().without(None, action)
}

/// Receives values, each under a tag and at a step.
///
/// What a run logs:
///
/// | tag | |
/// |---|---|
/// | `scalar/total_loss` | the weighted sum, for every batch |
/// | `scalar/` and the name of a loss | unweighted, for every batch |
/// | `scalar/learning_rate` | for every optimizer step; where groups differ, of each: `scalar/learning_rate/decay`, and `decay_2` of a second group of that name |
/// | `scalar/grad_norm` | with [`Run::max_grad_norm`](crate::Run::max_grad_norm), for every optimizer step: the norm before clipping |
/// | `scalar/loss_scale` | under loss scaling, once per `log_interval` |
/// | `scalar/metric` | at a checkpoint, what a callback returned |
/// | `scalar/` and a name | at a checkpoint, what a callback [logged](crate::CheckpointInfo::log) |
///
/// All but the last two stand at the forward step from 0, or at the number of optimizer steps
/// before: see [`LogAxis`].
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

    /// By which steps it counts, where [`Run::log_axis`](crate::Run::log_axis) does not say: by
    /// forward steps, unless this is implemented.
    fn axis(&self) -> LogAxis {
        LogAxis::ForwardStep
    }

    /// Told before the first value of a run. Nothing happens, unless this is implemented.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    fn begin(&mut self, _run: &RunStart) -> Result<()> {
        Ok(())
    }

    /// Logs the optimizer steps per second, once per `log_interval` and without the time for
    /// checkpoints. This is not a [`scalar`](Self::scalar), as it is another number each time.
    /// Nothing happens, unless this is implemented.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    fn speed(&mut self, _steps_per_second: f64, _step: u64) -> Result<()> {
        Ok(())
    }

    /// The folder that TensorBoard shows as a run, where this is such a log. A run with a sink in
    /// a folder of its `log_dir` makes no second one there.
    fn run_folder(&self) -> Option<&Path> {
        None
    }
}

impl<S: LogSink + ?Sized> LogSink for &mut S {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        (**self).scalar(tag, value, step)
    }

    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }

    fn axis(&self) -> LogAxis {
        (**self).axis()
    }

    fn begin(&mut self, run: &RunStart) -> Result<()> {
        (**self).begin(run)
    }

    fn speed(&mut self, steps_per_second: f64, step: u64) -> Result<()> {
        (**self).speed(steps_per_second, step)
    }

    fn run_folder(&self) -> Option<&Path> {
        (**self).run_folder()
    }
}

impl<S: LogSink + ?Sized> LogSink for Box<S> {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        (**self).scalar(tag, value, step)
    }

    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }

    fn axis(&self) -> LogAxis {
        (**self).axis()
    }

    fn begin(&mut self, run: &RunStart) -> Result<()> {
        (**self).begin(run)
    }

    fn speed(&mut self, steps_per_second: f64, step: u64) -> Result<()> {
        (**self).speed(steps_per_second, step)
    }

    fn run_folder(&self) -> Option<&Path> {
        (**self).run_folder()
    }
}
