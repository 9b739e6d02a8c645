//! Lines for the terminal, or for what is in its place: a pipe may end and a disk may fill.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::{Error, Result};

/// Tells how work goes on. That nobody listens any more does not end it.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line that was asked for. That the reader has had enough is no error.
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
