//! CMRC 2018, as its official evaluation script scores it (`cmrc2018_evaluate.py`, v6 of
//! `baseline/` in ymcui/cmrc2018; v5 gives the same numbers).
//!
//! The oddities of that script are reproduced:
//!
//! - The list of punctuation has no ASCII `,` `.` `;` `!` `?` `(` `)` `"` `'`, and of the single
//!   quotes only `’`; and `……`, being two characters, is never found.
//! - White space is stripped at the ends before punctuation is removed, and not after: `。 北京`
//!   becomes ` 北京` and not `北京`.
//! - Removing punctuation joins what is on both sides: `covid-19` is one word.
//! - Two texts that are empty after that match exactly, with F1 0.
//! - Only U+4E00 to U+9FA5 are segments of one character. Kana, Hangul, full-width letters and
//!   rarer Chinese characters form words with their neighbours.
//!
//! The script splits text that is not Chinese into words with NLTK. Here that is done by rules of
//! NLTK 3.9's word tokenizer, but without the model (Punkt) by which NLTK splits sentences first.
//! The words can therefore differ only where, within a stretch that has no Chinese character and
//! no punctuation of the list, one of `.` `?` `!` stands before white space and more text, or
//! directly before one of `) " ; } ] @ ' ( { [ ! ?`: the script then may part a full stop
//! from its word (`e.g. by` is four words there, `s.k. to` three), or see another side of a
//! quotation mark.
//! In the 10,659 answers and all contexts of its development and trial set there are 20,042
//! such stretches, 94 of that form, and 6 with other words.

use std::collections::BTreeMap;

use super::answers::{self, AnswerScores};
use super::nltk::WordTokenizer;
use super::{harmonic_mean, python};
use crate::Result;

/// The punctuation that the script removes.
const PUNCTUATION: &str = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』";

/// The evaluation, which compiles its patterns once.
#[derive(Debug, Clone)]
pub struct Cmrc {
    words: WordTokenizer,
}

impl Cmrc {
    /// An evaluation.
    ///
    /// # Errors
    ///
    /// None that can be caused; the patterns inside are constant.
    pub fn new() -> Result<Self> {
        Ok(Cmrc {
            words: WordTokenizer::new()?,
        })
    }

    /// Splits a text in lower case into Chinese characters and other words, without punctuation.
    ///
    /// # Errors
    ///
    /// A text of hundreds of kilobytes, on which the patterns' engine gives up.
    pub fn segments(&self, text: &str) -> Result<Vec<String>> {
        let text = remove_punctuation(text);
        let mut segments = Vec::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(is_chinese) {
            let (run, chinese) = rest.split_at(at);
            segments.extend(self.words.words(run)?);
            let mut characters = chinese.chars();
            segments.extend(characters.next().map(String::from));
            rest = characters.as_str();
        }
        segments.extend(self.words.words(rest)?);
        Ok(segments)
    }

    /// Exact match, and the best F1 (a fraction), of a prediction with any of the answers.
    ///
    /// With `c` the length of the longest stretch of segments that prediction and answer share,
    /// precision is `c` of the prediction's segments, recall `c` of the answer's (Cui et al., "A
    /// Span-Extraction Dataset for Chinese Machine Reading Comprehension", 2019).
    ///
    /// # Errors
    ///
    /// No answers; a text of hundreds of kilobytes.
    pub fn score(&self, prediction: &str, answers: &[String]) -> Result<(bool, f64)> {
        let text = remove_punctuation(prediction);
        let segments = self.segments(prediction)?;
        answers::best(answers, |answer| {
            let same = text == remove_punctuation(answer);
            let answer = self.segments(answer)?;
            Ok((same, f1(&segments, &answer)))
        })
    }

    /// The scores of a data set. Questions are pairs of an id and the answers; predictions are texts
    /// by id. Predictions for unknown ids are ignored.
    ///
    /// # Errors
    ///
    /// No questions; a question with a prediction but without answers, or with a text of hundreds
    /// of kilobytes, which is named.
    pub fn evaluate<'a>(
        &self,
        questions: impl IntoIterator<Item = (&'a str, &'a [String])>,
        predictions: &BTreeMap<String, String>,
    ) -> Result<AnswerScores> {
        answers::evaluate(questions, predictions, |p, answers| self.score(p, answers))
    }
}

fn remove_punctuation(text: &str) -> String {
    let text = text.to_lowercase();
    let stays = |c: &char| !PUNCTUATION.contains(*c);
    python::strip(&text).chars().filter(stays).collect()
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fa5}').contains(&c)
}

fn f1(prediction: &[String], answer: &[String]) -> f64 {
    let common = longest_common_stretch(prediction, answer);
    if common == 0 {
        return 0.0;
    }
    let common = common as f64;
    harmonic_mean(
        common / prediction.len() as f64,
        common / answer.len() as f64,
    )
}

/// The length of the longest common run of segments.
fn longest_common_stretch(a: &[String], b: &[String]) -> usize {
    // For each position of b, the length of the match that ends there and at the previous segment
    // of a.
    let mut before = vec![0; b.len()];
    let mut longest = 0;
    for x in a {
        let mut diagonal = 0;
        for (y, length) in b.iter().zip(&mut before) {
            let here = if x == y { diagonal + 1 } else { 0 };
            longest = longest.max(here);
            diagonal = std::mem::replace(length, here);
        }
    }
    longest
}
