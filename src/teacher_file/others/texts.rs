//! The texts of somebody's data, by which rows of a file are found.

use std::collections::HashMap;
use std::path::Path;

use super::super::wrong;
use crate::error::{Result, shown};
use crate::logging::warn;

/// Texts, or several of each example, in the order of the examples.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    /// The columns of the file that have them.
    pub(super) columns: Vec<String>,
    pub(super) of_each: Vec<Vec<String>>,
}

/// Which row each text has.
#[derive(Debug)]
pub(super) struct Found {
    /// By text, without white space at its ends: where it is in `rows`.
    places: HashMap<Vec<String>, usize>,
    rows: Vec<Option<Row>>,
    unknown: Vec<(u64, String)>,
    unknown_count: u64,
}

/// A row of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) number: usize,
}

/// How many texts a message shows.
const NAMED: usize = 3;

fn key<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    texts.map(|text| text.trim().to_owned()).collect()
}

impl Texts {
    pub(super) fn search(&self) -> Found {
        let mut found = Found {
            places: HashMap::new(),
            rows: Vec::new(),
            unknown: Vec::new(),
            unknown_count: 0,
        };
        for texts in &self.of_each {
            let next = found.rows.len();
            let key = key(texts.iter().map(String::as_str));
            if *found.places.entry(key).or_insert(next) == next {
                found.rows.push(None);
            }
        }
        found
    }
}

impl Found {
    /// Notes which row a text has, unless it has one: then this is that.
    pub(super) fn note<'t>(
        &mut self,
        texts: impl Iterator<Item = &'t str>,
        row: Row,
    ) -> Option<Row> {
        let key = key(texts);
        let place = self
            .places
            .get(&key)
            .and_then(|place| self.rows.get_mut(*place));
        let Some(place) = place else {
            self.unknown_count += 1;
            if self.unknown.len() < NAMED {
                self.unknown
                    .push((row.line, shown(&key.join(" | ")).into_owned()));
            }
            return None;
        };
        if place.is_none() {
            *place = Some(row);
            return None;
        }
        *place
    }

    /// The row of each of these texts.
    ///
    /// # Errors
    /// When some have none.
    pub(super) fn rows(&self, texts: &Texts, path: &Path) -> Result<Vec<usize>> {
        let mut rows = Vec::with_capacity(texts.of_each.len());
        let (mut missing, mut count) = (Vec::new(), 0u64);
        for (number, of_one) in texts.of_each.iter().enumerate() {
            let place = self.places.get(&key(of_one.iter().map(String::as_str)));
            match place.and_then(|place| self.rows.get(*place).copied().flatten()) {
                Some(row) => rows.push(row.number),
                None => {
                    count += 1;
                    if missing.len() < NAMED {
                        missing.push(format!("{number} (`{}`)", shown(&of_one.join(" | "))));
                    }
                }
            }
        }
        let dots = |count: u64| if count > NAMED as u64 { ", …" } else { "" };
        let unknown = self.unknown.iter();
        let unknown: Vec<_> = unknown
            .map(|(line, text)| format!("{line} (`{text}`)"))
            .collect();
        let unknown = match self.unknown_count {
            0 => String::new(),
            count => format!(
                "{count} {} not in the data: {}{}",
                if count == 1 {
                    "line has a text that is"
                } else {
                    "lines have texts that are"
                },
                unknown.join(", "),
                dots(count)
            ),
        };
        if count == 0 {
            if !unknown.is_empty() {
                warn(format_args!(
                    "`{}`: {unknown}; they are left out",
                    path.display()
                ));
            }
            return Ok(rows);
        }
        let mut reason = format!(
            "has no row for {count} of {} texts of the data: {}{}; add them, or take these examples out \
             of the data",
            texts.of_each.len(),
            missing.join(", "),
            dots(count)
        );
        if !unknown.is_empty() {
            reason.push_str(&format!("; {unknown}"));
        }
        Err(wrong(path, reason))
    }
}
