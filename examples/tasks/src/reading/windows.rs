//! Splitting contexts into windows.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tokenizers::{Encoding, PostProcessor};

use super::answers::Span;
use super::reader::Question;
use crate::pieces::{Encoded, Pieces};
use crate::{Error, Result};

/// The question and a part of the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The pieces of both.
    pub encoded: Encoded,
    /// The position of the first piece of the context.
    pub first: u32,
    /// The first character of each context piece and the one after its last:
    /// `[begin, end, begin, end, …]`.
    pub characters: Vec<u32>,
    /// The number of context pieces before the window.
    pub begin: u32,
    /// The positions of the first and the last piece of the answer; both 0 if not all of it is in
    /// this window, `None` if the answer is unknown.
    pub answer: Option<(u32, u32)>,
}

impl Window {
    /// The number of context pieces in the window.
    pub fn len(&self) -> usize {
        self.characters.len() / 2
    }

    /// Whether the window has no context pieces.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The characters of a piece, which is counted from the first of the context.
    pub fn span(&self, piece: usize) -> Option<Span> {
        let begin = piece.checked_mul(2)?;
        match self.characters.get(begin..begin.checked_add(2)?)? {
            [start, end] => Some(Span {
                start: usize::try_from(*start).ok()?,
                end: usize::try_from(*end).ok()?,
            }),
            _ => None,
        }
    }

    /// How much context this window has around the pieces `first..=last`, which are counted in the
    /// whole context: 100 for each piece on the shorter side, plus 1 for each piece of the window.
    /// `None` if not all of the pieces are in the window.
    ///
    /// For a single piece this is the score by which BERT's `run_squad.py` chooses the window with
    /// its "max context".
    pub(super) fn margin(&self, first: usize, last: usize) -> Option<usize> {
        let before = first.checked_sub(usize::try_from(self.begin).ok()?)?;
        let within = last.checked_sub(usize::try_from(self.begin).ok()?)?;
        let after = self.len().checked_sub(within.checked_add(1)?)?;
        Some(before.min(after) * 100 + self.len())
    }

    /// The positions of the pieces of an answer, if the window has all of it. `ends` says whether
    /// the context begins in this window, and whether it ends there.
    fn find(&self, answer: Span, ends: (bool, bool)) -> Option<(u32, u32)> {
        let spans = || (0..self.len()).filter_map(|piece| Some((piece, self.span(piece)?)));
        let (first, from) = spans().find(|(_, span)| span.end > answer.start)?;
        let (last, to) = spans().rfind(|(_, span)| span.start < answer.end)?;
        // Tokenizers drop some characters, which may be the first or last of an answer. The
        // answer is still complete if the window extends beyond it.
        let begins = from.start <= answer.start || first > 0 || ends.0;
        let stops = to.end >= answer.end || last + 1 < self.len() || ends.1;
        let position = |piece: usize| u32::try_from(piece).ok()?.checked_add(self.first);
        let whole = begins && stops && first <= last;
        whole.then_some((position(first)?, position(last)?))
    }
}

/// The windows of a question; each but the last is as long as the tokenizer allows.
///
/// # Errors
/// When the tokenizer fails, or the question leaves no room.
pub(super) fn windows(
    pieces: &Pieces,
    record: &Question,
    longest_question: usize,
) -> Result<Vec<Window>> {
    let limits = Limits::of(pieces, record)?;
    let (question, length) = shorten(pieces, &record.question, longest_question, &limits)?;
    limits.check(length)?;
    let mut encoding = pieces.encode((question.as_ref(), record.context.as_ref()))?;
    let rest = encoding.take_overflowing();
    let parts = std::iter::once(&encoding).chain(&rest);
    let mut windows = parts.map(window).collect::<Result<Vec<_>>>()?;
    let mut begin = 0usize;
    for window in &mut windows {
        window.begin = number(begin)?;
        begin += window.len().saturating_sub(limits.stride);
    }
    // Training uses the first answer, as is usual. A question without an answer in the text is
    // not trained on: it would teach that there is none.
    if let Some(answer) = record.answers.iter().find_map(|answer| answer.span) {
        let last = windows.len().saturating_sub(1);
        for (index, window) in windows.iter_mut().enumerate() {
            let ends = (index == 0, index == last);
            let found = window.find(answer, ends);
            window.answer = Some(found.unwrap_or((0, 0)));
        }
    }
    Ok(windows)
}

/// The limits of a window.
struct Limits<'a> {
    /// The most pieces of a window.
    length: usize,
    /// The number of special tokens among them.
    special: usize,
    /// The number of pieces that neighbouring windows share.
    stride: usize,
    id: &'a str,
}

impl<'a> Limits<'a> {
    fn of(pieces: &Pieces, record: &'a Question) -> Result<Self> {
        let tokenizer = pieces.tokenizer();
        let cut = tokenizer.get_truncation();
        let limits = Limits {
            length: cut.map_or(usize::MAX, |cut| cut.max_length),
            special: tokenizer
                .get_post_processor()
                .map_or(0, |processor| processor.added_tokens(true)),
            stride: cut.map_or(0, |cut| cut.stride),
            id: &record.id,
        };
        limits.check(0)?;
        Ok(limits)
    }

    /// Refuses windows that do not advance, on which the tokenizer would panic.
    fn check(&self, question: usize) -> Result<()> {
        let taken = self.special.saturating_add(question);
        if self.length.saturating_sub(taken) > self.stride {
            return Ok(());
        }
        let Limits {
            length, stride, id, ..
        } = self;
        Err(Error::invalid(format!(
            "max_length {length} has no room for the context of question `{id}` beside its \
             {question} pieces and a stride of {stride}; \
             raise max_length, or lower stride or max_query_length"
        )))
    }
}

/// A question of at most this number of pieces, and its number of pieces. It is cut between words
/// if possible, so that no piece changes.
fn shorten<'q>(
    pieces: &Pieces,
    question: &'q str,
    longest: usize,
    limits: &Limits<'_>,
) -> Result<(Cow<'q, str>, usize)> {
    let mut question = Cow::Borrowed(question);
    loop {
        // Only the second of two texts is ever cut.
        let encoding = pieces.encode(("", question.as_ref()))?;
        let sequences = encoding.get_sequence_ids();
        let own: Vec<usize> = (0..sequences.len())
            .filter(|position| sequences.get(*position) == Some(&Some(1)))
            .collect();
        if own.len() <= longest && encoding.get_overflowing().is_empty() {
            return Ok((question, own.len()));
        }
        let word = |piece: usize| {
            let position = *own.get(piece)?;
            *encoding.get_word_ids().get(position)?
        };
        let cut = (1..=longest.min(own.len().saturating_sub(1)))
            .rev()
            .find(|piece| word(*piece) != word(piece - 1))
            .unwrap_or(longest.min(own.len()));
        let end = cut
            .checked_sub(1)
            .and_then(|last| encoding.get_offsets().get(*own.get(last)?))
            .map_or(0, |(_, end)| *end);
        let shorter: String = question.chars().take(end).collect();
        if shorter.is_empty() || shorter.len() >= question.len() {
            limits.check(own.len())?;
            return Err(Error::invalid(format!(
                "question `{}` cannot be cut to {longest} pieces; raise max_query_length",
                limits.id
            )));
        }
        question = Cow::Owned(shorter);
    }
}

fn number(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::invalid("a text of more than 2^32 characters"))
}

fn window(encoding: &Encoding) -> Result<Window> {
    let sequences = encoding.get_sequence_ids();
    let is_context = |sequence: &Option<usize>| *sequence == Some(1);
    let first = sequences.iter().position(is_context).unwrap_or(0);
    let mut characters = Vec::new();
    for (sequence, (begin, end)) in sequences.iter().zip(encoding.get_offsets()) {
        if is_context(sequence) {
            characters.extend([number(*begin)?, number(*end)?]);
        }
    }
    Ok(Window {
        encoded: Encoded::from(encoding),
        first: number(first)?,
        characters,
        begin: 0,
        answer: None,
    })
}
