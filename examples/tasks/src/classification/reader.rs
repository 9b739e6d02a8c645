//! GLUE's tab-separated files.

use std::path::Path;

use super::{Classification, Record};
use crate::{Error, Fault, Result, disk};

/// What stands in the column of labels where there is none: in GLUE's test files, in SNLI and in
/// MultiNLI.
const NO_LABEL: [&str; 4] = ["", "-", "-1", "hidden"];

/// Reads a file whose first line names its columns, unless the task does. Quotes have no special
/// meaning. If the column of labels is missing, as in GLUE's test files, records have no labels.
/// Lines with another number of fields, or without a text, are records with a fault, and so are empty
/// lines, except at the end of the file.
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
    let mut lines = text.trim_end_matches(['\r', '\n']).lines().enumerate();
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
        let line_number = index + 1;
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != header.len() {
            let expected = header.len();
            let got = match fields.len() {
                1 if line.is_empty() => "an empty line".to_owned(),
                got => got.to_string(),
            };
            records.push(Record {
                texts: Vec::new(),
                label: None,
                fault: Some(Fault {
                    line: line_number,
                    reason: format!("expected {expected} fields, got {got}"),
                    can_be_answered: false,
                }),
            });
            continue;
        }
        let field = |place: usize| fields.get(place).copied().unwrap_or_default();
        let texts: Vec<&str> = places.iter().map(|place| field(*place)).collect();
        let mut named = columns.iter().zip(&texts);
        let blank = named.find(|(_, text)| text.trim().is_empty());
        let fault = blank.map(|(column, _)| Fault {
            line: line_number,
            reason: format!("`{column}` is empty"),
            can_be_answered: true,
        });
        let label = label_place.map(field);
        let number = label.and_then(|label| labels.iter().position(|known| known == label));
        if let (Some(label), None) = (label, number)
            && !NO_LABEL.contains(&label)
        {
            let known = labels.join(", ");
            let reason = format!("unknown label `{label}`; known are: {known}");
            return Err(Error::data(file, line_number, reason));
        }
        records.push(Record {
            texts: texts.into_iter().map(str::to_owned).collect(),
            label: number.filter(|_| fault.is_none()),
            fault,
        });
    }
    if records.is_empty() {
        return Err(Error::file(file, "nothing below the first line"));
    }
    Ok(records)
}
