//! Differences between the languages of reading comprehension.

use serde::{Deserialize, Serialize};

/// The language of questions and contexts, which decides how answers are compared and what a word
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Language {
    /// Words are separated by blanks; answers are scored as in SQuAD.
    English,
    /// Every character is a word, except that runs of letters and digits are one; answers are
    /// scored as in CMRC 2018.
    Chinese,
}

impl Language {
    /// Whether a word may begin or end before the character at `place`.
    pub(super) fn is_boundary(self, text: &[char], place: usize) -> bool {
        let before = place.checked_sub(1).and_then(|before| text.get(before));
        match (before, text.get(place)) {
            (Some(before), Some(after)) => !(self.goes_on(*before) && self.goes_on(*after)),
            _ => true,
        }
    }

    /// Whether a character can form a word with its neighbours.
    fn goes_on(self, c: char) -> bool {
        match self {
            Language::English => c.is_alphanumeric(),
            Language::Chinese => c.is_ascii_alphanumeric(),
        }
    }
}
