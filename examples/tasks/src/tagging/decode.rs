//! From scores of word pieces to tags of words.

use ndarray::{Array2, ArrayView1};

use super::{Sentence, Window};
use crate::{Error, Result};

/// The tag of each word: the one with the highest score at the word's first piece. Words without
/// pieces get `outside`.
pub(super) fn decode(
    sentence: &Sentence,
    parts: &[(&Window, &Array2<f32>)],
    tags: usize,
    outside: usize,
) -> Result<Vec<usize>> {
    let mut decoded = vec![outside; sentence.words.len()];
    for (window, scores) in parts {
        let expected = [window.encoded.ids.len(), tags];
        if scores.shape() != expected {
            return Err(Error::invalid(format!(
                "scores of {expected:?} (pieces, tags) expected for a window, got {:?}",
                scores.shape()
            )));
        }
        for place in &window.words {
            let word = decoded.get_mut(place.word);
            let (Some(tag), true) = (word, place.position < scores.nrows()) else {
                return Err(Error::invalid(format!(
                    "the window is not of this sentence, which has {} words",
                    sentence.words.len()
                )));
            };
            *tag = highest(scores.row(place.position)).ok_or_else(|| {
                Error::invalid("the scores of a word are no numbers; its model is damaged")
            })?;
        }
    }
    Ok(decoded)
}

/// The position of the highest number, the first of several; `None` when one is not a number.
fn highest(scores: ArrayView1<'_, f32>) -> Option<usize> {
    let mut best = (0, f32::NEG_INFINITY);
    for (position, score) in scores.iter().enumerate() {
        if score.is_nan() {
            return None;
        }
        if *score > best.1 {
            best = (position, *score);
        }
    }
    Some(best.0)
}
