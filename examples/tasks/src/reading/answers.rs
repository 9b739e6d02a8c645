//! Locating answers in contexts, in files whose positions may be wrong.

use serde::{Deserialize, Serialize};

use super::Language;

/// An answer and its position in the context, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text in the file.
    pub text: String,
    /// Its position in the context; `None` if it does not occur there.
    pub span: Option<Span>,
}

/// A range of characters of a context, without the one at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first character.
    pub start: usize,
    /// The character after the last one.
    pub end: usize,
}

/// How an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// At the position in the file.
    There(Span),
    /// At another position.
    Elsewhere(Span),
    /// Not at all.
    Nowhere,
}

/// Finds the answers of one context.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    context: &'a [char],
    language: Language,
    /// The context with normalised white space, and the original position of each character.
    alike: Option<(Vec<char>, Vec<usize>)>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(context: &'a [char], language: Language) -> Self {
        Finder {
            context,
            language,
            alike: None,
        }
    }

    /// Finds an answer: at the position in the file, else at the nearest occurrence of its text,
    /// else at the nearest one with other white space.
    pub(super) fn find(&mut self, text: &str, start: i64) -> Found {
        let chars: Vec<char> = text.trim().chars().collect();
        if chars.is_empty() {
            return Found::Nowhere;
        }
        // The span is that of the text without white space around it.
        let led = text.chars().take_while(|c| c.is_whitespace()).count();
        let said = usize::try_from(start).ok();
        let said = said.and_then(|start| start.checked_add(led));
        let there = said.and_then(|start| Some((start, start.checked_add(chars.len())?)));
        if let Some((start, end)) = there
            && self.context.get(start..end) == Some(&chars[..])
        {
            return Found::There(Span { start, end });
        }
        let hint = said.unwrap_or(0);
        if let Some(start) = nearest(self.context, &chars, hint, self.language) {
            let end = start + chars.len();
            return Found::Elsewhere(Span { start, end });
        }
        let (chars, _) = alike(&chars, self.language);
        let (context, places) = self
            .alike
            .get_or_insert_with(|| alike(self.context, self.language));
        let hint = places.partition_point(|place| *place < hint);
        let found = nearest(context, &chars, hint, self.language);
        let span = found.and_then(|start| {
            let last = (start + chars.len()).checked_sub(1)?;
            Some(Span {
                start: *places.get(start)?,
                end: places.get(last)? + 1,
            })
        });
        span.map_or(Found::Nowhere, Found::Elsewhere)
    }
}

/// Normalises white space: removed if words are not separated by it, else one blank.
fn alike(text: &[char], language: Language) -> (Vec<char>, Vec<usize>) {
    let (mut chars, mut places) = (Vec::new(), Vec::new());
    for (place, c) in text.iter().enumerate() {
        let keep = match (c.is_whitespace(), language) {
            (false, _) => Some(*c),
            (true, Language::Chinese) => None,
            (true, Language::English) => (chars.last() != Some(&' ')).then_some(' '),
        };
        if let Some(c) = keep {
            chars.push(c);
            places.push(place);
        }
    }
    (chars, places)
}

/// The occurrence of `text` nearest to `hint`. One between word boundaries is preferred to any
/// other; of two equally near ones the first is taken.
fn nearest(context: &[char], text: &[char], hint: usize, language: Language) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    let found = context.windows(text.len()).enumerate();
    let found = found.filter(|(_, window)| *window == text);
    found.map(|(start, _)| start).min_by_key(|start| {
        let whole = language.is_boundary(context, *start)
            && language.is_boundary(context, start + text.len());
        (!whole, start.abs_diff(hint), *start)
    })
}
