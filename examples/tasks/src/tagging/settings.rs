//! The description of a data set in JSON.

use serde::{Deserialize, Serialize};

use super::{Columns, OUTSIDE, Tagging};
use crate::metrics::entities::entities;
use crate::task::{Files, repeated};
use crate::{Error, Result};

/// The keys in a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    train: String,
    dev: String,
    tags: Vec<String>,
    columns: Columns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document_line: Option<String>,
    #[serde(default)]
    characters: bool,
}

impl TryFrom<Settings> for Tagging {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self> {
        let Columns {
            count, word, tag, ..
        } = settings.columns;
        if word >= count || tag >= count || word == tag {
            return Err(Error::invalid(format!(
                "columns: word {word} and tag {tag} must be two of the {count} columns, counted \
                 from 0"
            )));
        }
        entities(&settings.tags).map_err(|error| Error::invalid(format!("tags: {error}")))?;
        let outside = settings.tags.iter().position(|tag| tag == OUTSIDE);
        let outside = outside.ok_or_else(|| {
            let tags = settings.tags.join(", ");
            Error::invalid(format!(
                "tags: `{OUTSIDE}` is not among them ({tags}); add it"
            ))
        })?;
        if let Some(tag) = repeated(&settings.tags) {
            return Err(Error::invalid(format!("tags: `{tag}` is there twice")));
        }
        Ok(Tagging {
            files: Files::new(&settings.train, &settings.dev),
            tags: settings.tags,
            outside,
            columns: settings.columns,
            document_line: settings.document_line,
            characters: settings.characters,
        })
    }
}

impl From<Tagging> for Settings {
    fn from(tagging: Tagging) -> Self {
        Settings {
            train: tagging.files.train,
            dev: tagging.files.dev,
            tags: tagging.tags,
            columns: tagging.columns,
            document_line: tagging.document_line,
            characters: tagging.characters,
        }
    }
}
