//! Where the numbers of a training go: event files, memory, the terminal.

mod memory;
mod progress;
mod tensorboard;

pub use memory::MemorySink;
pub use progress::Progress;
pub use tensorboard::TensorBoardSink;

use crate::Result;

/// Takes numbers under a tag, each at a step.
///
/// A sink that fails says so once and takes everything after that without a word, so that
/// a full disk costs the curves and not the training. `&mut S` and `Box<S>` of a sink are
/// sinks too.
pub trait LogSink {
    /// Takes one number.
    ///
    /// # Errors
    /// When it cannot be written, the first time only.
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()>;

    /// Makes everything so far visible to readers.
    ///
    /// # Errors
    /// When it cannot be written, the first time only.
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
