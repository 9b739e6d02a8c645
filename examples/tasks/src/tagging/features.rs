//! Splitting sentences of words into windows of word pieces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tokenizers::{Encoding, InputSequence};

use super::Sentence;
use crate::pieces::{Encoded, Pieces};
use crate::{Error, Result};

/// The label of positions that are not the first piece of a word.
const IGNORED: i64 = -100;

/// One input of the model: a sentence, or a part of it if it is too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// The word pieces.
    pub encoded: Encoded,
    /// The words whose tags are predicted in this window, in order.
    pub words: Vec<Place>,
    /// The tags of these words, if they are known.
    pub tags: Option<Vec<i64>>,
}

/// The position of a word's first piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// The position in the window.
    pub position: usize,
    /// The index of the word in the sentence.
    pub word: usize,
}

/// Splits a sentence into windows.
///
/// The tag of a word is that of its first piece. If windows overlap, it is taken from the one with
/// the most context around the word. Windows from which no tag is taken are left out.
pub(super) fn windows(pieces: &Pieces, sentence: &Sentence) -> Result<Vec<Window>> {
    if pieces.loses_blanks() {
        let reason = "the tokenizer cuts words by themselves to other pieces than in a text; set \
                      `add_prefix_space` to true in its tokenizer.json";
        return Err(Error::invalid(reason));
    }
    let encoding = pieces.encode(InputSequence::from(sentence.words.as_slice()))?;
    let stride = pieces
        .tokenizer()
        .get_truncation()
        .map_or(0, |cut| cut.stride);
    let encodings: Vec<&Encoding> = std::iter::once(&encoding)
        .chain(encoding.get_overflowing())
        .collect();
    let mut places = vec![Vec::new(); encodings.len()];
    for (word, found) in first_pieces(&encodings, stride) {
        let (position, word) = (found.position, word as usize);
        if let Some(places) = places.get_mut(found.window) {
            places.push(Place { position, word });
        }
    }
    let parts = encodings.into_iter().zip(places);
    parts
        .filter(|(_, words)| !words.is_empty())
        .map(|(encoding, words)| {
            Ok(Window {
                encoded: Encoded::from(encoding),
                tags: tags_of(sentence, &words)?,
                words,
            })
        })
        .collect()
}

/// The position with the most context for the first piece of a word.
struct First {
    /// Its index among the pieces of the sentence.
    piece: usize,
    window: usize,
    position: usize,
    /// The number of pieces on the shorter side.
    context: usize,
}

/// The best position of each word that has pieces.
fn first_pieces(encodings: &[&Encoding], stride: usize) -> BTreeMap<u32, First> {
    let mut firsts: BTreeMap<u32, First> = BTreeMap::new();
    let mut step = 0;
    for (window, encoding) in encodings.iter().enumerate() {
        // Special tokens belong to no word.
        let positions = encoding.get_word_ids().iter().enumerate();
        let of_words: Vec<(usize, u32)> = positions
            .filter_map(|(position, word)| Some((position, (*word)?)))
            .collect();
        if window == 0 {
            step = of_words.len().saturating_sub(stride);
        }
        for (index, (position, word)) in of_words.iter().enumerate() {
            let found = First {
                piece: window * step + index,
                window,
                position: *position,
                context: index.min(of_words.len() - 1 - index),
            };
            let known = firsts.get(word);
            // A window may begin in the middle of a word, with a piece that is not its first.
            let is_better = known
                .is_none_or(|known| known.piece == found.piece && known.context < found.context);
            if is_better {
                firsts.insert(*word, found);
            }
        }
    }
    firsts
}

fn tags_of(sentence: &Sentence, words: &[Place]) -> Result<Option<Vec<i64>>> {
    let Some(tags) = &sentence.tags else {
        return Ok(None);
    };
    let tag = |place: &Place| tags.get(place.word).map(|tag| *tag as i64);
    let tags: Option<Vec<i64>> = words.iter().map(tag).collect();
    let (words, known) = (
        sentence.words.len(),
        sentence.tags.as_ref().map_or(0, Vec::len),
    );
    let short = || Error::invalid(format!("a sentence of {words} words has {known} tags"));
    tags.map(Some).ok_or_else(short)
}

/// The labels of windows padded to `length`, `[windows, length]`; `None` when one has no tags.
pub(super) fn labels(windows: &[&Window], length: usize) -> Result<Option<Tensor>> {
    let mut labels = Vec::with_capacity(windows.len() * length);
    for window in windows {
        let Some(tags) = &window.tags else {
            return Ok(None);
        };
        let mut row = vec![IGNORED; length];
        for (place, tag) in window.words.iter().zip(tags) {
            let position = place.position;
            let label = row.get_mut(position).ok_or_else(|| {
                Error::invalid(format!("a word at position {position} of {length}"))
            })?;
            *label = *tag;
        }
        labels.extend(row);
    }
    let shape = [windows.len() as i64, length as i64];
    Ok(Some(Tensor::f_from_slice(&labels)?.f_reshape(shape)?))
}
