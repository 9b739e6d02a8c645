//! What can go wrong in a task, and where.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that a user of the examples can run into.
///
/// The first line names the thing, the place and the remedy. What a message repeats of a file is
/// cut when it is long, and its control characters are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of a data file is not what the task's format says.
    #[error("{}:{line}: {}", file.display(), shown(reason))]
    #[non_exhaustive]
    Data {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there, and what would be right.
        reason: String,
    },

    /// A file is damaged or not what its name says, and no single line is to blame.
    #[error("{}: {}", path.display(), shown(reason))]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
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

    /// An argument has a value that cannot work.
    #[error("{}", shown(.0))]
    Invalid(String),

    /// What the distillation library refused.
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

    /// An argument that cannot work.
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

/// So that loaders, adaptors and callbacks can use this crate's functions with `?`. An error that
/// was the library's own becomes that again.
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

/// Text that may hold a stranger's, fit to be shown on a terminal.
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
