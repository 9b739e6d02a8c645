//! A user's logger beside the progress bar.

use log::{LevelFilter, Log, Metadata, Record};

use super::suspend;
use crate::error::{Error, Result};

/// A logger whose lines and the progress bar leave each other whole.
///
/// A logger that writes to the terminal ends up in the middle of the bar. Inside this one it gets
/// an empty line, and the bar is drawn again below. The crate's own messages need no such care;
/// those of the program and of other crates do.
///
/// ```
/// use textbrewer::logging::BarLogger;
///
/// # fn main() -> textbrewer::Result<()> {
/// // In place of `env_logger::init()`; warnings are shown without `RUST_LOG` too.
/// let env = env_logger::Env::default().default_filter_or("warn");
/// let logger = env_logger::Builder::from_env(env).build();
/// let level = logger.filter();
/// BarLogger::new(logger).init(level)?;
///
/// log::warn!("a line of its own");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BarLogger<L> {
    logger: L,
}

impl<L: Log> BarLogger<L> {
    /// Puts a logger beside the bar.
    pub fn new(logger: L) -> Self {
        BarLogger { logger }
    }

    /// Makes this the program's logger, for messages up to `level`.
    ///
    /// # Errors
    /// When the program has a logger already.
    pub fn init(self, level: LevelFilter) -> Result<()>
    where
        L: 'static,
    {
        log::set_logger(Box::leak(Box::new(self))).map_err(|_| {
            let reason = "the program has a logger already; set this one first, and only this one";
            Error::config("BarLogger", reason)
        })?;
        log::set_max_level(level);
        Ok(())
    }
}

impl<L: Log> Log for BarLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        // Most messages are none for this logger; the bar stays for those.
        if self.logger.enabled(record.metadata()) {
            suspend(|| self.logger.log(record));
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}
