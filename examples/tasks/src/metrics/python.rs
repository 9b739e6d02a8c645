//! Python's strings and regular expressions where Rust's differ: the reference implementations are
//! written in Python.

use fancy_regex::Regex;

use crate::{Error, Result};

/// Python's `\w`: letters, numbers and `_`, but no combining marks, which Rust's includes.
pub(super) const WORD: &str = r"[\p{L}\p{N}_]";

/// `str.isspace`: Unicode white space and the four ASCII separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Compiles a pattern of this crate.
pub(super) fn compile(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|e| Error::invalid(format!("the pattern {pattern}: {e}")))
}

/// `re.sub`.
pub(super) fn substitute(pattern: &Regex, text: &str, by: &str) -> Result<String> {
    match pattern.try_replacen(text, 0, by) {
        Ok(text) => Ok(text.into_owned()),
        Err(e) => Err(Error::invalid(format!(
            "an answer of {} bytes is too long or too odd to be scored: {e}",
            text.len()
        ))),
    }
}
