//! Tags in files that seem to have none, since their columns are parted by something else.

use std::path::Path;

use super::OUTSIDE;
use super::columns::Columns;
use crate::{Error, Result};

/// What the lines without a tag have in their place.
#[derive(Debug, Default)]
pub(super) struct Disguised {
    lines: usize,
    /// The lines that end in a tag, and the first of them.
    ending: usize,
    first: Option<(usize, String)>,
    /// Whether one of these tags is more than that of words outside of entities, which many a word
    /// ends in.
    is_certain: bool,
}

impl Disguised {
    /// Looks at a line in which no tag was found.
    pub(super) fn look_at(&mut self, split: &[&str], line: usize, tags: &[String]) {
        self.lines += 1;
        let Some(last) = split.last() else { return };
        let is_end = |tag: &&String| match last.strip_suffix(tag.as_str()) {
            // The whole last column, where there are others.
            Some("") => split.len() > 1,
            Some(word) => word.ends_with(|c: char| !c.is_alphanumeric()),
            None => false,
        };
        if let Some(tag) = tags.iter().find(is_end) {
            self.ending += 1;
            self.is_certain |= tag != OUTSIDE;
            self.first.get_or_insert_with(|| (line, tag.clone()));
        }
    }

    /// Refuses a file whose lines end in tags. Where it is only the tag of words outside of
    /// entities all lines must have it.
    ///
    /// # Errors
    /// With the first such line.
    pub(super) fn check(&self, file: &Path, columns: &Columns) -> Result<()> {
        match &self.first {
            Some((line, tag)) if self.is_certain || self.ending == self.lines => {
                let reason = format!(
                    "no tag is found here, and the line ends in the tag `{tag}`: the file is in \
                     another form; expected {}",
                    columns.described()
                );
                Err(Error::data(file, *line, reason))
            }
            _ => Ok(()),
        }
    }
}
