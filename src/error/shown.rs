//! Text of a stranger's file, fit to be shown.

use std::borrow::Cow;

/// The most bytes of a name that a message repeats.
const LONGEST: usize = 200;
/// The most lines of a list that a message repeats.
pub(super) const MOST: usize = 40;

/// Text from a file as a message may repeat it: cut when it is long, and with control
/// characters escaped. A name of a hundred megabytes would bury the message, and one with
/// escape sequences could write anything on a terminal.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    shortened(text, LONGEST)
}

/// The same with room for about `longest` bytes; the middle is left out, since what a
/// parser says stands around the text that it quotes.
pub(crate) fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    escaped(cut(text, longest), |c| c.is_control())
}

/// As [`shortened`], for text that may have several lines.
pub(super) fn paragraph(text: &str, longest: usize) -> Cow<'_, str> {
    escaped(cut(text, longest), |c| c.is_control() && c != '\n')
}

fn escaped(text: Cow<'_, str>, is_odd: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hides = |c: char| is_odd(c) || is_direction(c);
    if !text.chars().any(hides) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if hides(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The text without its middle where it is longer than `longest` bytes.
fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let boundary = |from: usize| (from..=text.len()).find(|&at| text.is_char_boundary(at));
    let head = boundary(longest / 2).and_then(|at| text.get(..at));
    let tail = boundary(text.len() - longest / 2).and_then(|at| text.get(at..));
    let (head, tail) = (head.unwrap_or_default(), tail.unwrap_or_default());
    let hidden = text.len() - head.len() - tail.len();
    Cow::Owned(format!("{head}…({hidden} bytes)…{tail}"))
}

/// Characters that turn the direction of what follows, so that it reads as something else.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The lines of a list, the first [`MOST`] of them.
pub(super) fn lines(list: &[String]) -> String {
    let mut text = list
        .iter()
        .take(MOST)
        .map(|line| shortened(line, 4 * LONGEST))
        .collect::<Vec<_>>()
        .join("\n  ");
    if list.len() > MOST {
        text.push_str(&format!("\n  … and {} more", list.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_odd_names() {
        assert!(matches!(shown("encoder.layer.0.größe"), Cow::Borrowed(_)));
        assert_eq!(shown("a\n\u{1b}[2Jb\u{202e}"), r"a\n\u{1b}[2Jb\u{202e}");
        let long = format!("é{}ü", "a".repeat(LONGEST));
        let (head, tail) = ("a".repeat(LONGEST / 2 - 2), "a".repeat(LONGEST / 2 - 2));
        assert_eq!(shown(&long), format!("é{head}…(4 bytes)…{tail}ü"));
        // No character is cut in two.
        assert!(shown(&"€".repeat(99)).contains("bytes)…€"));
        assert_eq!(shown(&"a".repeat(LONGEST)).len(), LONGEST);
    }

    #[test]
    fn long_lists() {
        let list = vec!["x".to_owned(); MOST + 2];
        let text = lines(&list);
        assert_eq!(text.lines().count(), MOST + 1);
        assert!(text.ends_with("… and 2 more"), "{text}");
        assert_eq!(lines(&list[..2]), "x\n  x");
    }
}
