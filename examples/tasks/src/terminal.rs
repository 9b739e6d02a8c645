//! What is on the terminal: lines, without failing when standard output is closed, and bars.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Error, Result};

/// Whether another process tells of what this one does too.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Leaves progress to another process.
pub(crate) fn be_silent() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// Prints progress. A closed standard error does not end the program.
pub fn tell(line: impl Display) {
    if !IS_SILENT.load(Ordering::Relaxed) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// A progress bar, which is hidden when not on a terminal.
pub(crate) fn bar(len: usize) -> ProgressBar {
    if IS_SILENT.load(Ordering::Relaxed) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len as u64).with_style(style)
}

/// Prints a result. A closed pipe is not an error.
///
/// # Errors
/// When it cannot be written.
pub fn print(line: impl Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("standard output", error))
        }
        _ => Ok(()),
    }
}
