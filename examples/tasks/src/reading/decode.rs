//! The answer from the scores of all windows.

use ndarray::Array2;

use super::answers::Span;
use super::reader::Question;
use super::windows::Window;
use crate::{Error, Result};

/// What the model answers to a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// The best answers, the best first; none when there was nothing to choose from.
    pub candidates: Vec<Candidate>,
}

impl Prediction {
    /// An answer that comes from elsewhere.
    pub fn new(text: impl Into<String>) -> Self {
        Prediction {
            candidates: vec![Candidate {
                text: text.into(),
                probability: 1.0,
                start: 0.0,
                end: 0.0,
            }],
        }
    }

    /// The best answer; empty when there is none.
    pub fn text(&self) -> &str {
        let best = self.candidates.first();
        best.map_or("", |candidate| candidate.text.as_str())
    }
}

/// An answer that the model could give.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its text, as the context has it.
    pub text: String,
    /// How likely it is among those that are kept.
    pub probability: f64,
    /// The score of its first piece.
    pub start: f64,
    /// The score of its last piece.
    pub end: f64,
}

impl Candidate {
    fn score(&self) -> f64 {
        self.start + self.end
    }
}

/// How answers are chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// The most pieces of an answer.
    pub(super) longest: usize,
    /// How many answers are kept.
    pub(super) kept: usize,
}

impl Choice {
    /// The best answers among all spans of all windows. An answer begins where its window shows
    /// most of what is around its first piece; of equally good ones the first is taken, then the
    /// shortest.
    ///
    /// # Errors
    /// When the scores are not of the windows, or none is a number.
    pub(super) fn predict(
        self,
        record: &Question,
        parts: &[(&Window, &Array2<f32>)],
    ) -> Result<Prediction> {
        let text = Text::new(&record.context);
        let mut kept: Vec<Candidate> = Vec::with_capacity(self.kept.saturating_add(1).min(1000));
        let (mut is_tried, mut is_seen) = (false, false);
        for (window, scores) in parts {
            let rows = scores.nrows();
            if rows != window.encoded.ids.len() || scores.ncols() != 2 {
                let id = &record.id;
                let (ids, columns) = (window.encoded.ids.len(), scores.ncols());
                return Err(Error::invalid(format!(
                    "question `{id}`: scores of {rows} × {columns}, but a window of {ids} pieces \
                     needs {ids} × 2"
                )));
            }
            let score = |piece: usize, column: usize| -> f64 {
                let position = usize::try_from(window.first).map(|first| first + piece);
                let score = position.ok().and_then(|row| scores.get((row, column)));
                score.map_or(f64::NAN, |score| f64::from(*score))
            };
            let length = window.len();
            let number = |number: u32| usize::try_from(number).unwrap_or(length).min(length);
            for first in number(window.widest.0)..number(window.widest.1) {
                let start = score(first, 0);
                for last in first..first.saturating_add(self.longest).min(length) {
                    let end = score(last, 1);
                    is_tried = true;
                    if !(start + end).is_finite() {
                        continue;
                    }
                    is_seen = true;
                    if kept.len() >= self.kept
                        && kept
                            .last()
                            .is_some_and(|worst| start + end <= worst.score())
                    {
                        continue;
                    }
                    let (Some(from), Some(to)) = (window.span(first), window.span(last)) else {
                        continue;
                    };
                    let span = Span {
                        start: from.start,
                        end: to.end,
                    };
                    self.keep(&mut kept, text.get(span), start, end);
                }
            }
        }
        if is_tried && !is_seen {
            return Err(Error::invalid(format!(
                "question `{}`: no score of its windows is a number; the model is damaged, or its \
                 training diverged",
                record.id
            )));
        }
        weigh(&mut kept);
        Ok(Prediction { candidates: kept })
    }

    /// Adds an answer to the best ones, which are in order and have every text once.
    fn keep(self, kept: &mut Vec<Candidate>, text: &str, start: f64, end: f64) {
        let score = start + end;
        if text.is_empty() {
            return;
        }
        if let Some(same) = kept.iter().position(|known| known.text == text) {
            if kept.get(same).is_some_and(|known| known.score() >= score) {
                return;
            }
            kept.remove(same);
        }
        let place = kept.partition_point(|known| known.score() >= score);
        let candidate = Candidate {
            text: text.to_owned(),
            probability: 0.0,
            start,
            end,
        };
        kept.insert(place, candidate);
        kept.truncate(self.kept);
    }
}

/// Probabilities of those that are kept, by their scores.
fn weigh(kept: &mut [Candidate]) {
    let best = kept.first().map_or(0.0, Candidate::score);
    let weights: Vec<f64> = kept
        .iter()
        .map(|candidate| (candidate.score() - best).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    for (candidate, weight) in kept.iter_mut().zip(weights) {
        candidate.probability = weight / sum;
    }
}

/// A text that is asked for by characters.
struct Text<'a> {
    text: &'a str,
    /// The byte of each character, and the end.
    bytes: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.char_indices().map(|(byte, _)| byte);
        Text {
            text,
            bytes: bytes.chain([text.len()]).collect(),
        }
    }

    fn get(&self, span: Span) -> &'a str {
        let byte = |place: usize| self.bytes.get(place).copied();
        let range = byte(span.start).zip(byte(span.end));
        let part = range.and_then(|(start, end)| self.text.get(start..end));
        part.unwrap_or("").trim()
    }
}
