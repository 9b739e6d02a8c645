//! Finding the answer in the scores of all windows.

use ndarray::Array2;

use super::answers::Span;
use super::reader::Question;
use super::windows::Window;
use crate::{Error, Result};

/// The predicted answers to a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// The best answers, best first; empty if there are no candidates.
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

    /// The best answer; empty if there is none.
    pub fn text(&self) -> &str {
        let best = self.candidates.first();
        best.map_or("", |candidate| candidate.text.as_str())
    }
}

/// A candidate for the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its text in the context.
    pub text: String,
    /// Its probability among those that are kept.
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

/// Options for choosing answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// The most pieces of an answer.
    pub(super) longest: usize,
    /// How many answers are kept.
    pub(super) kept: usize,
}

impl Choice {
    /// The best answers among all spans of all windows. A span in several windows is scored in the
    /// one with the most context around it. Of equal scores the first is taken, then the shortest.
    ///
    /// # Errors
    /// When the scores do not fit the windows, or none is a number.
    pub(super) fn predict(
        self,
        record: &Question,
        parts: &[(&Window, &Array2<f32>)],
    ) -> Result<Prediction> {
        let text = Text::new(&record.context);
        let mut kept: Vec<Candidate> = Vec::with_capacity(self.kept.saturating_add(1).min(1000));
        let (mut is_tried, mut is_seen) = (false, false);
        for (index, (window, scores)) in parts.iter().enumerate() {
            check(record, window, scores)?;
            let others = Others::new(parts, index, window);
            let score = |piece: usize, column: usize| -> f64 {
                let first = usize::try_from(window.first).unwrap_or(usize::MAX);
                let score = scores.get((first.saturating_add(piece), column));
                score.map_or(f64::NAN, |score| f64::from(*score))
            };
            for first in 0..window.len() {
                let start = score(first, 0);
                for last in first..first.saturating_add(self.longest).min(window.len()) {
                    let end = score(last, 1);
                    is_tried = true;
                    if !(start + end).is_finite() {
                        continue;
                    }
                    is_seen = true;
                    let is_worse = |worst: &Candidate| start + end <= worst.score();
                    if kept.len() >= self.kept && kept.last().is_some_and(is_worse) {
                        continue;
                    }
                    if others.show_more_of(first, last) {
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

    /// Adds an answer to the best ones, which are sorted and have unique texts.
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

/// Refuses scores that do not fit a window.
fn check(record: &Question, window: &Window, scores: &Array2<f32>) -> Result<()> {
    let (rows, columns) = scores.dim();
    let ids = window.encoded.ids.len();
    if (rows, columns) == (ids, 2) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "question `{}`: scores of {rows} × {columns}, but a window of {ids} pieces needs {ids} × 2",
        record.id
    )))
}

/// A window and those that overlap with it.
///
/// BERT's `run_squad.py` looks only at the start, and so loses answers that are long compared to
/// the stride: the best window for the start may not contain the end.
struct Others<'a> {
    window: &'a Window,
    begin: usize,
    before: Vec<&'a Window>,
    after: Vec<&'a Window>,
}

impl<'a> Others<'a> {
    fn new(parts: &[(&'a Window, &Array2<f32>)], index: usize, window: &'a Window) -> Self {
        let place = |window: &Window| {
            let begin = usize::try_from(window.begin).unwrap_or(usize::MAX);
            (begin, begin.saturating_add(window.len()))
        };
        let (begin, end) = place(window);
        let shares = |other: &&Window| {
            let other = place(other);
            other.0 < end && begin < other.1
        };
        let windows = || parts.iter().map(|(window, _)| *window);
        Others {
            window,
            begin,
            before: windows().take(index).filter(shares).collect(),
            after: windows().skip(index + 1).filter(shares).collect(),
        }
    }

    /// Whether another window has more context around some pieces, or as much and is earlier.
    /// Pieces are counted in this window.
    fn show_more_of(&self, first: usize, last: usize) -> bool {
        let (first, last) = (
            self.begin.saturating_add(first),
            self.begin.saturating_add(last),
        );
        let own = self.window.margin(first, last);
        let margin = |window: &&Window| window.margin(first, last);
        self.before.iter().map(margin).any(|other| other >= own)
            || self.after.iter().map(margin).any(|other| other > own)
    }
}

/// The softmax of the scores of those that are kept.
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

/// A text that is indexed by characters.
struct Text<'a> {
    text: &'a str,
    /// The byte position of each character, and the end.
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
