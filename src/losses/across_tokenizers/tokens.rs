//! Which tokens of two tokenizers belong together.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::{Error, Result};

/// Where the tokens of a byte-level tokenizer (GPT-2's, Llama 3's, Qwen's and others) or of SentencePiece
/// (Llama 2's, Gemma's and others) stand in their text: `(start, end)` in bytes, for [`alignment_groups`].
///
/// The tokens are strings as of `Encoding::get_tokens` of the `tokenizers` crate: in the alphabet of byte-level
/// tokenizers, where `Ġ` is a space, or as text in which `▁` is a space and `<0x0A>` the byte 10. The crate's own
/// offsets do not do here: where a character is cut into several tokens, each of them has the whole character.
/// The tokens may end before the text does, as where they were cut off.
///
/// A space that the tokenizer added takes no room: `Ġ` is then `(0, 0)`. It may be anywhere but between two of the
/// letters a–z and A–Z: where a tokenizer adds it, such as at the start, after an added token or before a number.
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
/// assert_eq!(byte_offsets("a né", &["▁a", "▁n", "é"])?, [(0, 1), (1, 3), (3, 5)]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn byte_offsets(text: &str, tokens: &[impl AsRef<str>]) -> Result<Vec<(usize, usize)>> {
    // `Ã` is text of its own in SentencePiece, and half of a character for the others.
    found(text, tokens, bytes_of).or_else(|error| found(text, tokens, |_| None).map_err(|_| error))
}

/// The places of the tokens, each as the bytes that it may stand for, as those of SentencePiece, or as it is.
fn found(
    text: &str,
    tokens: &[impl AsRef<str>],
    bytes_of: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<(usize, usize)>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut offsets = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().map(AsRef::as_ref).enumerate() {
        // A token that was added to the vocabulary is the text itself, which goes before `<0x0A>` as a byte.
        let readings = [
            bytes_of(token),
            Some(token.replace('▁', " ").into_bytes()),
            Some(token.as_bytes().to_vec()),
            byte_fallback(token).map(|byte| vec![byte]),
        ];
        let end_of = |token: Vec<u8>| end_of(bytes, at, &token);
        let Some(end) = readings.into_iter().flatten().find_map(end_of) else {
            return Err(Error::shape(
                format!("byte_offsets, token {index}"),
                format!(
                    "what the text has at byte {at} (the text as the tokenizer's normalizer leaves it, and no \
                     token that the tokenizer adds)"
                ),
                format!("`{token}`"),
            ));
        };
        offsets.push((at, end));
        at = end;
    }
    Ok(offsets)
}

/// Where a token ends that starts in the text at `at`, if it does, with or without a space that the tokenizer
/// added.
fn end_of(text: &[u8], at: usize, token: &[u8]) -> Option<usize> {
    let (before, rest) = text.split_at_checked(at)?;
    if rest.starts_with(token) {
        return Some(at + token.len());
    }
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let is_in_a_word = is_letter(before.last()) && is_letter(rest.first());
    let without_space = token.strip_prefix(b" ")?;
    (!is_in_a_word && rest.starts_with(without_space)).then_some(at + without_space.len())
}

/// The byte that SentencePiece writes as `<0x0A>`.
fn byte_fallback(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The bytes that a token of a byte-level tokenizer stands for, if it is one.
fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
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
#[must_use]
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
#[must_use]
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

    #[test]
    fn a_space_that_a_tokenizer_added_is_not_within_a_word() {
        let error = byte_offsets("adog", &["a", "Ġdog"]).unwrap_err();
        assert!(error.to_string().contains("at byte 1 "), "{error}");
        assert!(byte_offsets("adog", &["a", "Ġ", "dog"]).is_err());
        assert!(byte_offsets("adog", &["▁a", "▁dog"]).is_err());
        // After an added token, and where the text is cut before tokens are made of it.
        let offsets = byte_offsets("<s>dog", &["<s>", "Ġdog"]).unwrap();
        assert_eq!(offsets, [(0, 3), (3, 6)]);
        let offsets = byte_offsets("a12 b", &["Ġa", "Ġ1", "Ġ2", "Ġb"]).unwrap();
        assert_eq!(offsets, [(0, 1), (1, 2), (2, 3), (3, 5)]);
    }

    #[test]
    fn tokens_of_sentence_piece_are_found() {
        let offsets = byte_offsets("a né", &["▁a", "▁n", "é"]).unwrap();
        assert_eq!(offsets, [(0, 1), (1, 3), (3, 5)]);
        let in_bytes = ["▁", "a", "▁▁", "<0xC3>", "<0xA9>", "<0x0A>"];
        let offsets = byte_offsets("a  é\n", &in_bytes).unwrap();
        assert_eq!(offsets, [(0, 0), (0, 1), (1, 3), (3, 4), (4, 5), (5, 6)]);
        // The text itself goes first.
        assert_eq!(byte_offsets("<0x0A>", &["<0x0A>"]).unwrap(), [(0, 6)]);
        let added = "<｜end▁of▁sentence｜>";
        assert_eq!(byte_offsets(added, &[added]).unwrap(), [(0, added.len())]);
        // In the alphabet of GPT-2 `Ã` is half of its bytes.
        let offsets = byte_offsets("SÃO", &["▁S", "Ã", "O"]).unwrap();
        assert_eq!(offsets, [(0, 1), (1, 3), (3, 4)]);
    }
}
