//! What was being done when libtorch refused.

use tch::TchError;

use super::{Error, Result};

/// Says what was being done when libtorch refused.
pub(crate) trait Context<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, TchError> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Torch {
            context: context(),
            source,
        })
    }
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error {
            Error::Torch { source, .. } => Error::Torch {
                context: context(),
                source,
            },
            other => other,
        })
    }
}
