//! Making errors, and telling where they come from.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;

use tch::TchError;

use super::{BoxError, Error, Side};

impl Error {
    /// Wraps any error, to be returned from a model, an adaptor or a loss.
    ///
    /// ```
    /// let error = textbrewer::Error::other("no such label");
    /// assert_eq!(error.to_string(), "no such label");
    /// ```
    pub fn other(error: impl Into<BoxError>) -> Self {
        Error::Other(error.into())
    }

    /// A configuration, or an argument, has a value that cannot work.
    ///
    /// ```
    /// let error = textbrewer::Error::config("margin", "must be positive, got -1");
    /// assert_eq!(error.to_string(), "margin: must be positive, got -1");
    /// ```
    pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Config {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A method was called before another that it needs, or an implementation of a trait does
    /// not do what the trait asks of it.
    ///
    /// ```
    /// let error = textbrewer::Error::protocol("my cache", "`get` was called before `open`");
    /// assert_eq!(error.to_string(), "my cache: `get` was called before `open`");
    /// ```
    pub fn protocol(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Protocol {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// Tensors do not fit together.
    ///
    /// ```
    /// let error = textbrewer::Error::shape("my loss, mask", "[batch, length]", "[4]");
    /// assert_eq!(error.to_string(), "my loss, mask: expected [batch, length], got [4]");
    /// ```
    pub fn shape(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Error::Shape {
            what: what.into(),
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// The adaptor of this side did not return `key`, which `needed_by` needs.
    ///
    /// ```
    /// use textbrewer::{Error, Side};
    ///
    /// let error = Error::missing(Side::Teacher, "attention", "my loss");
    /// assert!(matches!(error, Error::MissingOutput { side: Side::Teacher, .. }));
    /// ```
    pub fn missing(side: Side, key: impl Into<String>, needed_by: impl Into<String>) -> Self {
        Error::MissingOutput {
            side,
            key: key.into(),
            needed_by: needed_by.into(),
        }
    }

    /// The same error, said to be of this place: a shape that does not fit is only
    /// understood with the loss or the layer that it belongs to, and neither is an error of the
    /// user's own. Errors that name a place of their own are left alone.
    ///
    /// ```
    /// use textbrewer::Error;
    ///
    /// let error = Error::shape("mask", "[4, 7]", "[4, 8]").at("layer 3");
    /// assert_eq!(error.to_string(), "layer 3: mask: expected [4, 7], got [4, 8]");
    /// ```
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Error::Shape {
                what,
                expected,
                got,
            } => Error::shape(format!("{place}: {what}"), expected, got),
            Error::Torch { context, source } => Error::Torch {
                context: format!("{place}: {context}"),
                source,
            },
            // A user's own words do not say where they were spoken.
            Error::Other(source) => Error::other(At {
                place: place.to_string(),
                source,
            }),
            other => other,
        }
    }

    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io {
            path: path.as_ref().to_path_buf(),
            source,
        }
    }
}

/// Where an error of the user's own happened.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {source}")]
struct At {
    place: String,
    source: BoxError,
}

impl From<TchError> for Error {
    fn from(source: TchError) -> Self {
        Error::Torch {
            context: "tensor operation".to_owned(),
            source,
        }
    }
}

/// For conversions that cannot fail.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<BoxError> for Error {
    fn from(source: BoxError) -> Self {
        // A boxed error of ours that passed through a closure keeps its meaning.
        match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => Error::Other(source),
        }
    }
}
