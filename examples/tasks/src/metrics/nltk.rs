//! Splits one English sentence into words like NLTK's `word_tokenize`. NLTK is by the NLTK Project,
//! under the Apache License 2.0.

use fancy_regex::Regex;

use super::python;
use crate::Result;

/// Each rule puts spaces around what is to be a separate word; at the end the text is split there.
///
/// These are the rules of NLTK 3.9 (`NLTKWordTokenizer`, after Robert MacIntyre's script for the
/// Penn Treebank), for text in lower case without the characters that CMRC's evaluation removes,
/// and without those rules that cannot change anything then. `{S}` is Python's white space, `{W}`
/// its word character.
const RULES: &[(&str, &str)] = &[
    // Opening quotation marks, by their form or by what precedes them.
    (r"[«‘„]", " ${0} "),
    (r#"^""#, " `` "),
    (r#"([ (\[{<])(?:"|'')"#, "${1} `` "),
    // A letter alone after an apostrophe, unless it is a clitic.
    (r"(?i)'(?![mtsdn])({W})(?!{W})", "' ${1}"),
    // A full stop followed only by closing marks.
    (r#"([^.])\.([\])}>"' »]*){S}*$"#, "${1} . ${2} "),
    (r",(\P{Nd})", " , ${1}"),
    (r",$", " , "),
    (r"\.{2,}", " ${0} "),
    (r"[;@#$%&]", " ${0} "),
    (r"[?!]", " ${0} "),
    (r"([^'])' ", "${1} ' "),
    (r"[\]\[(){}<>]", " ${0} "),
    // Clitics are recognised by the space after them.
    (r"^|$", " "),
    (r"»", " » "),
    (r#"''|""#, " '' "),
    (r"{S}+", " "),
    (r"([^' ])('[smd]|') ", "${1} ${2} "),
    (r"([^' ])('ll|'re|'ve|n't) ", "${1} ${2} "),
    // Contractions of two words.
    (r"(?i)(?<!{W})(can)(not)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(d)('ye)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(gim)(me)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(gon)(na)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(got)(ta)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(lem)(me)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(more)('n)(?!{W})", " ${1} ${2} "),
    (r"(?i)(?<!{W})(wan)(na)(?={S})", " ${1} ${2} "),
    (r"(?i) ('t)(is)(?!{W})", " ${1} ${2} "),
    (r"(?i) ('t)(was)(?!{W})", " ${1} ${2} "),
];

#[derive(Debug, Clone)]
pub(super) struct WordTokenizer {
    rules: Vec<(Regex, &'static str)>,
}

impl WordTokenizer {
    pub(super) fn new() -> Result<Self> {
        let rule = |&(pattern, by): &(&str, &'static str)| {
            let pattern = pattern
                .replace("{S}", r"[\s\x1c-\x1f]")
                .replace("{W}", python::WORD);
            Ok((python::compile(&pattern)?, by))
        };
        Ok(WordTokenizer {
            rules: RULES.iter().map(rule).collect::<Result<_>>()?,
        })
    }

    /// The words of a text in lower case.
    pub(super) fn words(&self, text: &str) -> Result<Vec<String>> {
        // As NLTK's sentences, which do not include white space at the end.
        let mut text = text.trim_end_matches(python::is_space).to_owned();
        // Most runs between Chinese characters are a number or a short word; no rule applies to
        // them, for the shortest word that is two has five letters.
        if text.len() < 5 && text.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(if text.is_empty() { vec![] } else { vec![text] });
        }
        for (pattern, by) in &self.rules {
            text = python::substitute(pattern, &text, by)?;
        }
        Ok(python::split(&text).map(str::to_owned).collect())
    }
}
