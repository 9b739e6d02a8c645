//! Files of predictions: `word<TAB>tag` in each line, an empty line after each sentence.
//!
//! Document lines are written where the source has them, so that the lines of both files
//! correspond. When a file is read they are optional.

use std::path::Path;

use super::columns::{Columns, Separator};
use super::reader::{Block, blocks};
use super::{Sentence, Tagging};
use crate::{Error, Result, disk};

/// The text of a file.
pub(super) fn write(
    tagging: &Tagging,
    sentences: &[Sentence],
    predictions: &[Vec<usize>],
) -> Result<String> {
    tagging.check_counts(sentences, predictions)?;
    let mut text = String::new();
    let first = sentences
        .first()
        .and_then(|sentence| sentence.words.first());
    if first.is_some_and(|word| word.starts_with(disk::MARK)) {
        // Readers remove one.
        text.push(disk::MARK);
    }
    for (sentence, tags) in sentences.iter().zip(predictions) {
        if let (true, Some(line)) = (sentence.starts_document, &tagging.document_line) {
            text.push_str(&format!("{line}\t{}\n\n", super::OUTSIDE));
        }
        for (word, tag) in sentence.words.iter().zip(tagging.names(tags)?) {
            if word.contains(['\t', '\n', '\r']) {
                let reason = format!("the word {word:?} cannot be written: it breaks the line");
                return Err(Error::invalid(reason));
            }
            text.push_str(&format!("{word}\t{tag}\n"));
        }
        text.push('\n');
    }
    Ok(text)
}

/// Reads a file of predictions for these sentences.
pub(super) fn read(
    tagging: &Tagging,
    file: &Path,
    sentences: &[Sentence],
) -> Result<Vec<Vec<usize>>> {
    let text = disk::read(file)?;
    let columns = Columns::new(2, 0, 1, Separator::Tab);
    let document_line = tagging.document_line.as_deref();
    let blocks = blocks(file, &text, &columns, document_line, &tagging.tags)?;
    let predictions = blocks.iter().enumerate().map(|(number, block)| {
        let Some(sentence) = sentences.get(number) else {
            let reason = format!("more sentences than the {} of the data", sentences.len());
            return Err(Error::data(file, line_of(block), reason));
        };
        tags_for(tagging, file, block, sentence, number)
    });
    let predictions: Vec<_> = predictions.collect::<Result<_>>()?;
    if predictions.len() == sentences.len() {
        return Ok(predictions);
    }
    let (found, expected) = (predictions.len(), sentences.len());
    let reason = format!("{found} sentences, where the data has {expected}; predict them all");
    Err(Error::file(file, reason))
}

/// The tags of one sentence, whose words must be those of the data.
fn tags_for(
    tagging: &Tagging,
    file: &Path,
    block: &Block<'_>,
    sentence: &Sentence,
    number: usize,
) -> Result<Vec<usize>> {
    let number = number + 1;
    let count = sentence.words.len();
    let mut tags = Vec::with_capacity(count);
    for (index, word) in block.words.iter().enumerate() {
        match sentence.words.get(index) {
            Some(expected) if expected == word.text => {}
            Some(expected) => {
                let reason = format!(
                    "`{}`, where sentence {number} of the data has `{expected}` as word {}",
                    word.text,
                    index + 1
                );
                return Err(Error::data(file, word.line, reason));
            }
            None => {
                let reason = format!("sentence {number} of the data has only {count} words");
                return Err(Error::data(file, word.line, reason));
            }
        }
        let Some(tag) = word.tag else {
            return Err(Error::data(
                file,
                word.line,
                "no tag; expected `word<TAB>tag`",
            ));
        };
        tags.push(tagging.number(file, word.line, tag)?);
    }
    if tags.len() < count {
        let reason = format!(
            "this sentence has {} words, where sentence {number} of the data has {count}",
            tags.len()
        );
        return Err(Error::data(file, line_of(block), reason));
    }
    Ok(tags)
}

fn line_of(block: &Block<'_>) -> usize {
    block.words.first().map_or(0, |word| word.line)
}
