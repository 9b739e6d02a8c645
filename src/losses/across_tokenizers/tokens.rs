//! Which tokens of two tokenizers belong together.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::{Error, Result};

/// Where the tokens of a byte-level tokenizer (GPT-2's, Llama 3's, Qwen's and others) stand in their text:
/// `(start, end)` in bytes, for [`alignment_groups`].
///
/// The tokens are strings in these tokenizers' alphabet, where `Ġ` is a space: `Encoding::get_tokens` of the
/// `tokenizers` crate. Its own offsets do not do here: where a character is cut into several tokens, each
/// of them has the whole character. A space that the tokenizer added takes no room: `Ġ` is then `(0, 0)`.
/// The tokens may end before the text does, as where they were cut off.
///
/// All tokens have to stand in the text, so encode it without special tokens. For a last token that is
/// the end of the text, append `(text.len(), text.len())`. Where a tokenizer changes the text first, as with
/// Unicode normalization, give the changed text, and the same to both tokenizers.
///
/// For tokenizers that keep characters whole, such as WordPiece, use `Encoding::get_offsets` of
/// `Tokenizer::encode`, which counts bytes (`encode_char_offsets` does not).
///
/// # Errors
/// When a token is not what stands next in the text.
///
/// ```
/// use textbrewer::losses::byte_offsets;
///
/// let offsets = byte_offsets("a né", &["a", "Ġ", "n", "Ã", "©"])?;
/// assert_eq!(offsets, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
/// assert_eq!(byte_offsets("is", &["Ġ", "is"])?, [(0, 0), (0, 2)]);
/// assert_eq!(byte_offsets("is", &["Ġi", "s"])?, [(0, 1), (1, 2)]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn byte_offsets(text: &str, tokens: &[impl AsRef<str>]) -> Result<Vec<(usize, usize)>> {
    let mut rest = text.as_bytes();
    let mut offsets = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().map(AsRef::as_ref).enumerate() {
        let bytes = bytes_of(token);
        let without_space = bytes.strip_prefix(b" ").unwrap_or(&bytes);
        // A token that was added to the vocabulary is the text itself.
        let pieces = [&bytes, without_space, token.as_bytes()];
        let Some(after) = pieces.iter().find_map(|piece| rest.strip_prefix(*piece)) else {
            return Err(Error::shape(
                format!("byte_offsets, token {index}"),
                format!(
                    "what the text has at byte {} (the text as the tokenizer's normalizer leaves it, and no \
                     token that the tokenizer adds)",
                    text.len() - rest.len()
                ),
                format!("`{token}`"),
            ));
        };
        offsets.push((text.len() - rest.len(), text.len() - after.len()));
        rest = after;
    }
    Ok(offsets)
}

/// The bytes that a token of a byte-level tokenizer stands for, or its own if it is none.
fn bytes_of(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// GPT-2's alphabet: bytes that print stand for themselves, the others in order for the characters from
/// U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The tokens that two vocabularies share, as `(student's id, teacher's id)` in the order of the
/// student's ids, for [`gold_hybrid`](super::gold_hybrid).
///
/// Tokens are the same if their strings are. The vocabularies are those of `get_vocab` of the `tokenizers` crate.
///
/// ```
/// use textbrewer::losses::shared_tokens;
///
/// let student = [("the".to_owned(), 7), ("cat".to_owned(), 2)];
/// let teacher = [("cat".to_owned(), 5), ("c".to_owned(), 1), ("the".to_owned(), 0)];
/// assert_eq!(shared_tokens(student, teacher), [(2, 5), (7, 0)]);
/// ```
pub fn shared_tokens(
    student: impl IntoIterator<Item = (String, u32)>,
    teacher: impl IntoIterator<Item = (String, u32)>,
) -> Vec<(i64, i64)> {
    let teacher: HashMap<String, u32> = teacher.into_iter().collect();
    let of_teacher =
        |(token, id)| Some((i64::from(id), i64::from(*teacher.get::<String>(&token)?)));
    let mut shared: Vec<_> = student.into_iter().filter_map(of_teacher).collect();
    // The order of a hash map is another in each run, and with it that of the sums.
    shared.sort_unstable();
    shared
}

/// Which tokens of two tokenizers belong together, from where each token ends in the text.
///
/// Both lists are walked, always on the side whose token ends earlier; where tokens of both end at the same byte
/// a group ends on both sides. What is left at the end is one last group, which may be empty on a side.
/// Offsets are those of the same text in the same unit, such as bytes, `(start, end)`; only the ends count.
///
/// ```
/// use textbrewer::losses::alignment_groups;
///
/// // "a lot": "a", " lot" and "a", " ", "lo", "t".
/// let groups = alignment_groups(&[(0, 1), (1, 5)], &[(0, 1), (1, 2), (2, 4), (4, 5)]);
/// assert_eq!(groups, [(0..1, 0..1), (1..2, 1..4)]);
/// ```
pub fn alignment_groups(
    student: &[(usize, usize)],
    teacher: &[(usize, usize)],
) -> Vec<(Range<usize>, Range<usize>)> {
    let mut groups = Vec::new();
    let (mut start, mut teachers_start) = (0, 0);
    let (mut at, mut teachers_at) = (0, 0);
    while let (Some((_, end)), Some((_, teachers_end))) =
        (student.get(at), teacher.get(teachers_at))
    {
        at += usize::from(end <= teachers_end);
        teachers_at += usize::from(teachers_end <= end);
        if end == teachers_end {
            groups.push((start..at, teachers_start..teachers_at));
            (start, teachers_start) = (at, teachers_at);
        }
    }
    let rest = (start..student.len(), teachers_start..teacher.len());
    if !(rest.0.is_empty() && rest.1.is_empty()) {
        groups.push(rest);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let characters = (0..=0x143).filter_map(char::from_u32);
        let mut bytes: Vec<_> = characters.filter_map(byte_of).collect();
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
        assert_eq!(byte_of('Ł'), Some(0x9f));
        assert_eq!(byte_of('Ń'), Some(0xad));
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn added_tokens_are_the_text_itself() {
        let text = "<|im start|>é é";
        let found = byte_offsets(text, &["<|im start|>", "é", "ĠÃ", "©"]).unwrap();
        assert_eq!(found, [(0, 12), (12, 14), (14, 16), (16, 17)]);
        // The text goes on where it was cut off.
        assert_eq!(byte_offsets(text, &["<|im start|>"]).unwrap(), [(0, 12)]);
        assert_eq!(byte_offsets(text, &[""; 0]).unwrap(), []);
    }

    #[test]
    fn a_token_that_is_not_in_the_text_is_named() {
        let error = byte_offsets("a cat", &["a", "Ġdog"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "byte_offsets, token 1: expected what the text has at byte 1 (the text as the tokenizer's \
             normalizer leaves it, and no token that the tokenizer adds), got `Ġdog`"
        );
        assert!(byte_offsets("a", &["a", "</s>"]).is_err());
    }
}
