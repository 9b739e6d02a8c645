//! Files with a word in each line.

use std::path::Path;

use super::columns::{Columns, is_blank};
use super::disguised::Disguised;
use crate::{Error, Result};

/// A word of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'t> {
    /// The line, counted from 1.
    pub line: usize,
    pub text: &'t str,
    /// The tag; `None` in files without tags.
    pub tag: Option<&'t str>,
}

/// The words between two empty lines; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block<'t> {
    pub words: Vec<Word<'t>>,
    /// Whether a document line precedes it.
    pub starts_document: bool,
}

/// The sentences of a file whose content is `text`.
///
/// # Errors
/// When a line has the wrong number of columns, only some lines have tags, the tags of a file
/// without tags are elsewhere, or there are no words.
pub(super) fn blocks<'t>(
    file: &Path,
    text: &'t str,
    columns: &Columns,
    document_line: Option<&str>,
    tags: &[String],
) -> Result<Vec<Block<'t>>> {
    let mut blocks: Vec<Block<'t>> = Vec::new();
    let mut block = Block::default();
    // The first word of the file, which decides whether all have tags.
    let mut first: Option<Word<'t>> = None;
    let mut disguised = Disguised::default();
    for (line, content) in text
        .lines()
        .enumerate()
        .map(|(n, content)| (n + 1, content))
    {
        let split = columns.split(content);
        let is_document = document_line.is_some() && split.first().copied() == document_line;
        if is_document || content.trim_matches(is_blank).is_empty() {
            if !block.words.is_empty() {
                blocks.push(std::mem::take(&mut block));
            }
            block.starts_document |= is_document;
            continue;
        }
        let Some((text, tag)) = columns.word_and_tag(&split) else {
            return Err(Error::data(file, line, count_of(&split, columns)));
        };
        if text.is_empty() {
            return Err(Error::data(file, line, "the word is empty; put one there"));
        }
        let word = Word { line, text, tag };
        let first = *first.get_or_insert(word);
        if first.tag.is_some() != tag.is_some() {
            return Err(Error::data(file, line, mixed(&word, &first)));
        }
        if tag.is_none() {
            disguised.look_at(&split, line, tags);
        }
        block.words.push(word);
    }
    disguised.check(file, columns)?;
    if !block.words.is_empty() {
        blocks.push(block);
    }
    if blocks.is_empty() {
        let reason = format!("no word in it; expected lines of {}", columns.described());
        return Err(Error::file(file, reason));
    }
    Ok(blocks)
}

fn count_of(split: &[&str], columns: &Columns) -> String {
    let found = match split.len() {
        1 => "1 column".to_owned(),
        n => format!("{n} columns"),
    };
    format!("{found}; expected {}", columns.described())
}

fn mixed(word: &Word<'_>, first: &Word<'_>) -> String {
    let (has, had) = match word.tag {
        Some(_) => ("a tag", "none"),
        None => ("no tag", "one"),
    };
    format!(
        "{has}, where line {} has {had}; either all words have a tag or none has",
        first.line
    )
}
