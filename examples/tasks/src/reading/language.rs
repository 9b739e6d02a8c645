//! What differs between the languages of reading comprehension.

use serde::{Deserialize, Serialize};

/// The language of questions and contexts: how answers are compared, and what is a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Language {
    /// Words are between blanks; answers are measured as those of SQuAD.
    English,
    /// Every character is a word, but for letters and digits in a row; answers are measured as
    /// those of CMRC 2018.
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

    /// Whether a character is of a word that its neighbours may belong to.
    fn goes_on(self, c: char) -> bool {
        match self {
            Language::English => c.is_alphanumeric(),
            Language::Chinese => c.is_ascii_alphanumeric(),
        }
    }
}
