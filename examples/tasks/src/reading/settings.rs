//! The description of a data set in JSON.

use serde::{Deserialize, Serialize};

use super::{Language, Reading};
use crate::task::Files;
use crate::{Error, Result};

/// The keys in a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    train: String,
    dev: String,
    language: Language,
    #[serde(default = "max_query_length")]
    max_query_length: usize,
    #[serde(default = "max_answer_length")]
    max_answer_length: usize,
    #[serde(default = "n_best")]
    n_best: usize,
}

pub(super) fn max_query_length() -> usize {
    64
}

pub(super) fn max_answer_length() -> usize {
    30
}

pub(super) fn n_best() -> usize {
    20
}

impl TryFrom<Settings> for Reading {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self> {
        let reading = Reading {
            files: Files::new(&settings.train, &settings.dev),
            language: settings.language,
            max_query_length: settings.max_query_length,
            max_answer_length: settings.max_answer_length,
            n_best: settings.n_best,
        };
        reading.check()?;
        Ok(reading)
    }
}

impl From<Reading> for Settings {
    fn from(reading: Reading) -> Self {
        Settings {
            train: reading.files.train,
            dev: reading.files.dev,
            language: reading.language,
            max_query_length: reading.max_query_length,
            max_answer_length: reading.max_answer_length,
            n_best: reading.n_best,
        }
    }
}
