//! Errors of the tasks.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the examples.
///
/// The first line names the thing, the place and the remedy. Quotations from files are cut when
/// they are long, and their control characters are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of a data file is not in the task's format.
    #[error("{}:{line}: {}", file.display(), shown(reason))]
    #[non_exhaustive]
    Data {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there, and what was expected.
        reason: String,
    },

    /// A file is invalid, and not because of a single line.
    #[error("{}: {}", path.display(), shown(reason))]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        reason: String,
    },

    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// An argument is invalid.
    #[error("{}", shown(.0))]
    Invalid(String),

    /// An error of the distillation library.
    #[error(transparent)]
    Textbrewer(#[from] textbrewer::Error),
}

impl Error {
    /// What a model's folder could not be read for; the folder is named in any case.
    pub fn model(folder: &Path, error: textbrewer::Error) -> Self {
        let message = error.to_string();
        if message.starts_with(&folder.display().to_string()) {
            return Error::from(error);
        }
        Error::file(
            folder,
            match error {
                textbrewer::Error::Config { .. } => {
                    format!("not a model of this task: {message}")
                }
                _ => message,
            },
        )
    }

    /// A bad line of a data file; lines count from 1.
    pub fn data(file: impl AsRef<Path>, line: usize, reason: impl Into<String>) -> Self {
        Error::Data {
            file: file.as_ref().to_path_buf(),
            line,
            reason: reason.into(),
        }
    }

    /// A file that is bad as a whole.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::File {
            path: path.as_ref().to_path_buf(),
            reason: reason.into(),
        }
    }

    /// A file or folder that could not be read or written.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Error::Io {
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// An invalid argument.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Error::Invalid(reason.into())
    }
}

/// An error of libtorch, so that `?` takes it.
impl From<tch::TchError> for Error {
    fn from(source: tch::TchError) -> Self {
        Error::Textbrewer(source.into())
    }
}

/// Lets loaders, adaptors and callbacks use this crate's functions with `?`. An error that came
/// from the library is unwrapped.
impl From<Error> for textbrewer::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Textbrewer(error) => error,
            other => textbrewer::Error::other(other),
        }
    }
}

/// The most bytes that a message repeats.
const LONGEST: usize = 2000;

/// Text from a file that is not trusted, made safe for a terminal.
fn shown(text: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c.is_control() && c != '\n';
    if text.len() <= LONGEST && !text.chars().any(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() > LONGEST {
            shown.push('…');
            break;
        }
        if is_odd(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}
