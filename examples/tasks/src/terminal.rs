//! Printing lines, without failing when standard output is closed.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::{Error, Result};

/// Prints progress. A closed standard error does not end the program.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
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
