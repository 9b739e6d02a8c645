//! The layout of a file of words and tags.

use serde::{Deserialize, Serialize};

/// The columns of a file that has a word in each line; an empty line ends a sentence.
///
/// A file without tags has lines with the word only or, if the tag is the last column, lines
/// without that column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Columns {
    /// The number of columns.
    pub count: usize,
    /// The column of the word, counted from 0.
    pub word: usize,
    /// The column of the tag, counted from 0.
    pub tag: usize,
    /// The separator.
    pub separator: Separator,
}

/// The separator between two columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Separator {
    /// Any number of spaces and tabs.
    Blanks,
    /// A single tab, so that a word may be a space.
    Tab,
}

impl Columns {
    /// `count` columns, with the word and the tag at these positions, counted from 0.
    pub fn new(count: usize, word: usize, tag: usize, separator: Separator) -> Self {
        Columns {
            count,
            word,
            tag,
            separator,
        }
    }

    /// The columns of a line.
    pub(super) fn split<'l>(&self, line: &'l str) -> Vec<&'l str> {
        match self.separator {
            Separator::Blanks => line.split(is_blank).filter(|c| !c.is_empty()).collect(),
            Separator::Tab => line.split('\t').collect(),
        }
    }

    /// The word of a line with this many columns, and its tag if there is one; `None` when there
    /// are too many columns or too few.
    pub(super) fn word_and_tag<'l>(
        &self,
        columns: &[&'l str],
    ) -> Option<(&'l str, Option<&'l str>)> {
        let get = |column: usize| columns.get(column).copied();
        let lacks_tag_alone = self.tag + 1 == self.count && columns.len() + 1 == self.count;
        match columns.len() {
            n if n == self.count => Some((get(self.word)?, Some(get(self.tag)?))),
            1 => Some((get(0)?, None)),
            _ if lacks_tag_alone => Some((get(self.word)?, None)),
            _ => None,
        }
    }

    /// The layout in words, for messages.
    pub(super) fn described(&self) -> String {
        let between = match self.separator {
            Separator::Blanks => "blanks",
            Separator::Tab => "a tab",
        };
        format!(
            "{} columns with {between} between them, of which column {} is the word and column {} \
             the tag",
            self.count,
            self.word + 1,
            self.tag + 1
        )
    }
}

/// Words may hold any other white space, such as that of a no-break space.
pub(super) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}
