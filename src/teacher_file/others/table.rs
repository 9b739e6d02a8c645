//! A file of rows with named columns: CSV, TSV or JSONL.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::super::wrong;
use super::lines::{Fields, objects};
use super::problems::Problems;
use crate::error::{Error, Result, shown};
use crate::files::open_regular;

/// Which columns of a file are read.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) path: &'a Path,
    /// Those that may be there, first, and those that have to be.
    pub(super) columns: Vec<&'a str>,
    /// Where the latter begin.
    pub(super) required: usize,
    /// Whether a row has to say whose it is: in the first column, or in the others that may be there.
    pub(super) needs_key: bool,
    /// Whether a file may have other columns too.
    pub(super) ignores_others: bool,
}

/// The most columns that a message names.
const NAMED: usize = 12;

/// A field of a row, if it is there.
pub(super) type Field<'f> = Option<Cow<'f, str>>;

impl Table<'_> {
    /// Calls `each` with the number of each row's line and its fields, in the order of the columns.
    ///
    /// # Errors
    /// When the file is no such table, a column is missing, comes twice or is unknown, and those of
    /// `each`.
    pub(super) fn read(
        &self,
        problems: &mut Problems,
        each: impl FnMut(&mut Problems, u64, &[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        let extension = self.path.extension().unwrap_or_default();
        match extension.to_ascii_lowercase().to_str() {
            Some("csv") => self.separated(b',', problems, each),
            Some("tsv") => self.separated(b'\t', problems, each),
            Some("jsonl" | "ndjson") => self.json(problems, each),
            _ => {
                let reason = "has a name that does not say what is in it; let it end in `.csv`, `.tsv` or \
                              `.jsonl`";
                Err(wrong(self.path, reason.to_owned()))
            }
        }
    }

    fn separated(
        &self,
        separator: u8,
        problems: &mut Problems,
        mut each: impl FnMut(&mut Problems, u64, &[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        let file = open_regular(self.path).map_err(|source| Error::io(self.path, source))?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            // Files with tabs have texts as they are.
            .quoting(separator == b',')
            .from_reader(file);
        let failed = |error| self.unreadable(error);
        let names: Vec<String> = reader
            .headers()
            .map_err(failed)?
            .iter()
            .map(|name| name.trim().to_owned())
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let places = self
            .check_separator(separator, &names)
            .and_then(|()| self.places(&names));
        let places = places.map_err(|reason| wrong(self.path, format!("line 1 {reason}")))?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(failed)? {
            let line = record.position().map_or(0, csv::Position::line);
            let fields = places
                .iter()
                .map(|place| Some(record.get((*place)?)?.into()));
            let fields: Vec<Field<'_>> = fields.collect();
            each(problems, line, &fields)?;
        }
        Ok(())
    }

    fn json(
        &self,
        problems: &mut Problems,
        mut each: impl FnMut(&mut Problems, u64, &[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        objects(self.path, |line, Fields(fields)| {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let places = match self.places(&names) {
                Ok(places) => places,
                Err(reason) => {
                    problems.add(line, reason);
                    return Ok(());
                }
            };
            let fields = places.iter().map(|place| {
                let (_, value) = fields.get((*place)?)?;
                Some(match value {
                    Value::String(text) => Cow::Borrowed(text.as_str()),
                    other => Cow::Owned(other.to_string()),
                })
            });
            let fields: Vec<Field<'_>> = fields.collect();
            each(problems, line, &fields)
        })
    }

    /// Finds a file whose first line is one name, since it has another separator.
    fn check_separator(&self, separator: u8, names: &[&str]) -> std::result::Result<(), String> {
        let [name] = names else { return Ok(()) };
        let is_needed = match separator {
            b',' => "`,` is needed, or a tab in a file that ends in `.tsv`",
            _ => "a tab is needed, or `,` in a file that ends in `.csv`",
        };
        let others = [(';', "`;`"), ('\t', "a tab"), (',', "`,`")];
        let found = others.iter().find(|(other, _)| name.contains(*other));
        match found {
            Some((_, other)) if !self.columns.contains(name) => {
                Err(format!("seems to be separated by {other}; {is_needed}"))
            }
            _ => Ok(()),
        }
    }

    /// Where each column is among these, or what is wrong with them: first what is missing, and then what
    /// is there besides, since the latter often has the name that the former should have.
    fn places(&self, names: &[&str]) -> std::result::Result<Vec<Option<usize>>, String> {
        let wanted = self.columns.iter().enumerate();
        let wanted: HashMap<&str, usize> = wanted.map(|(place, name)| (*name, place)).collect();
        let mut places = vec![None; self.columns.len()];
        let mut unknown = None;
        for (found, name) in names.iter().enumerate() {
            let place = wanted.get(name).and_then(|place| places.get_mut(*place));
            match place {
                Some(Some(_)) => return Err(format!("has the column `{}` twice", shown(name))),
                Some(place) => *place = Some(found),
                None => {
                    unknown.get_or_insert(*name);
                }
            }
        }
        let columns = self.columns.iter().copied().zip(&places);
        let missing = columns.filter(|(_, place)| place.is_none());
        let missing: Vec<&str> = missing.map(|(name, _)| name).collect();
        let keys = self.columns.get(..self.required).unwrap_or_default();
        let labels = missing.iter().copied().filter(|name| !keys.contains(name));
        let labels: Vec<&str> = labels.collect();
        if !labels.is_empty() {
            let s = if labels.len() == 1 { "" } else { "s" };
            return Err(format!(
                "has no column for the label{s} {}; {}",
                listed(&labels),
                there_are(names, &labels)
            ));
        }
        let (id, texts) = keys.split_first().unwrap_or((&"", &[]));
        let lacking = texts.iter().copied().filter(|text| missing.contains(text));
        let lacking: Vec<&str> = lacking.collect();
        let has_no_texts = texts.is_empty() || !lacking.is_empty();
        if self.needs_key && missing.contains(id) && has_no_texts {
            return Err(match texts {
                [] => format!(
                    "has no `{}`: say whose rows these are with `ClassScores::texts`, `text_pairs` or \
                     `by_position`; {}",
                    shown(id),
                    there_are(names, keys)
                ),
                _ => format!(
                    "has no `{}`, and not {} either: correct the name, or say whose rows these are with \
                     `ClassScores::by_position`; {}",
                    shown(id),
                    listed(&lacking),
                    there_are(names, keys)
                ),
            });
        }
        match unknown.filter(|_| !self.ignores_others) {
            None => Ok(places),
            Some(name) => Err(format!(
                "has a column `{}`, which was not asked for; known are {}; leave it out, or allow it with \
                 `ClassScores::ignore_other_columns`{}",
                shown(name),
                listed(&self.columns),
                other_capitals(&[name], &missing)
            )),
        }
    }

    fn unreadable(&self, error: csv::Error) -> Error {
        let line = |position: Option<&csv::Position>| {
            position.map_or_else(String::new, |at| format!("line {} ", at.line()))
        };
        let reason = match error.kind() {
            csv::ErrorKind::Utf8 { pos, .. } => {
                format!(
                    "{}is not UTF-8; save it in this encoding",
                    line(pos.as_ref())
                )
            }
            csv::ErrorKind::UnequalLengths {
                pos,
                expected_len,
                len,
            } => format!(
                "{}has {len} fields, and the first line has {expected_len}; put texts with separators \
                 into quotes",
                line(pos.as_ref())
            ),
            _ => match error.into_kind() {
                csv::ErrorKind::Io(source) => return Error::io(self.path, source),
                other => format!("cannot be read: {other:?}"),
            },
        };
        wrong(self.path, reason)
    }
}

/// What the columns are instead, and which of them is probably meant.
fn there_are(names: &[&str], missing: &[&str]) -> String {
    match names {
        [] => "it has no columns at all".to_owned(),
        [one] => format!(
            "its only column is `{}`{}",
            shown(one),
            other_capitals(names, missing)
        ),
        _ => format!(
            "its columns are {}{}",
            listed(names),
            other_capitals(names, missing)
        ),
    }
}

/// The column that would be one of those missing with other capitals.
fn other_capitals(names: &[&str], missing: &[&str]) -> String {
    let lower = |name: &str| name.to_lowercase();
    let mut pairs = names
        .iter()
        .flat_map(|name| missing.iter().map(move |other| (name, other)));
    match pairs.find(|(name, other)| name != other && lower(name) == lower(other)) {
        None => String::new(),
        Some((name, other)) => {
            format!(
                "; it has `{}`, did you mean `{}`?",
                shown(name),
                shown(other)
            )
        }
    }
}

fn listed(names: &[&str]) -> String {
    let mut listed: Vec<_> = names
        .iter()
        .take(NAMED)
        .map(|name| format!("`{}`", shown(name)))
        .collect();
    if names.len() > NAMED {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}
