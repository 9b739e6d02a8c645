//! The description of a data set in JSON.

use serde::Deserialize;

use super::{Classification, Metric};
use crate::task::{Files, repeated};
use crate::{Error, Result};

/// The keys in a recipe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "task of GLUE")]
pub(super) struct Settings {
    columns: Vec<String>,
    #[serde(default = "label_column")]
    label_column: String,
    labels: Vec<String>,
    #[serde(default = "train")]
    train: String,
    #[serde(default = "dev")]
    dev: String,
    #[serde(default)]
    header: Option<Vec<String>>,
    #[serde(default)]
    metric: Metric,
}

pub(super) fn label_column() -> String {
    "label".to_owned()
}

fn train() -> String {
    "train.tsv".to_owned()
}

fn dev() -> String {
    "dev.tsv".to_owned()
}

impl TryFrom<Settings> for Classification {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self> {
        let refuse = |reason: String| Err(Error::invalid(reason));
        let (columns, labels) = (&settings.columns, &settings.labels);
        if !(1..=2).contains(&columns.len()) {
            return refuse(format!(
                "columns: {} are named; one or two hold the texts",
                columns.len()
            ));
        }
        if labels.len() < 2 {
            let count = labels.len();
            return refuse(format!(
                "labels: {count} are named; at least two are needed"
            ));
        }
        if let Some(label) = repeated(labels) {
            return refuse(format!("labels: `{label}` is there twice"));
        }
        if let Some(header) = &settings.header
            && let Some(name) = columns.iter().find(|name| !header.contains(name))
        {
            return refuse(format!("header: `{name}` is not among its names"));
        }
        Ok(Classification {
            columns: settings.columns,
            label_column: settings.label_column,
            labels: settings.labels,
            header: settings.header,
            files: Files::new(&settings.train, &settings.dev),
            metric: settings.metric,
        })
    }
}
