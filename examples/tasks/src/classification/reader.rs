//! GLUE's tab-separated files.

use std::path::Path;

use super::{Classification, Record};
use crate::{Error, Result, disk};

/// Reads a file whose first line names its columns, unless the task does. Quotes have no special
/// meaning. If the column of labels is missing, as in GLUE's test files, records have no labels.
pub(super) fn read(task: &Classification, file: &Path) -> Result<Vec<Record>> {
    let Classification {
        columns,
        label_column,
        labels,
        ..
    } = task;
    let text = disk::read(file)?;
    if text.trim().is_empty() {
        return Err(Error::file(file, "empty"));
    }
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = match &task.header {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => lines
            .next()
            .map_or("", |(_, line)| line)
            .split('\t')
            .collect(),
    };
    let place = |name: &str| header.iter().position(|known| *known == name);
    let mut places = Vec::new();
    for column in columns {
        let place = place(column).ok_or_else(|| {
            let reason = format!("no column `{column}`; there are: {}", header.join(", "));
            Error::data(file, 1, reason)
        })?;
        places.push(place);
    }
    let label_place = place(label_column);
    if label_place.is_none() {
        let (file, columns) = (file.display(), header.join(", "));
        log::warn!(
            "{file}: no column `{label_column}` among {columns}: its records have no labels"
        );
    }
    let mut records = Vec::new();
    for (index, line) in lines {
        if line.is_empty() {
            continue;
        }
        let failed = |reason: String| Error::data(file, index + 1, reason);
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != header.len() {
            let (expected, got) = (header.len(), fields.len());
            return Err(failed(format!("expected {expected} fields, got {got}")));
        }
        let mut texts = Vec::new();
        for (column, place) in columns.iter().zip(&places) {
            let text = fields.get(*place).copied().unwrap_or_default();
            if text.trim().is_empty() {
                return Err(failed(format!("`{column}` is empty")));
            }
            texts.push(text.to_owned());
        }
        let label = label_place.and_then(|place| fields.get(place));
        let label = label.map(|label| {
            let known = labels.iter().position(|known| known == label);
            known.ok_or_else(|| {
                let known = labels.join(", ");
                failed(format!("unknown label `{label}`; known are: {known}"))
            })
        });
        records.push(Record {
            texts,
            label: label.transpose()?,
        });
    }
    if records.is_empty() {
        return Err(Error::file(file, "nothing below the first line"));
    }
    Ok(records)
}
