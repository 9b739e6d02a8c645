//! SQuAD v1.1, as its official evaluation script (`evaluate-v1.1.py`) scores it.

use std::collections::{BTreeMap, HashMap};

use fancy_regex::Regex;

use super::answers::{self, AnswerScores};
use super::{harmonic_mean, python};
use crate::Result;

/// The evaluation, which compiles its pattern once.
#[derive(Debug, Clone)]
pub struct Squad {
    articles: Regex,
}

impl Squad {
    /// An evaluation.
    ///
    /// # Errors
    ///
    /// None that can be caused; the pattern inside is constant.
    pub fn new() -> Result<Self> {
        let word = python::WORD;
        let articles = python::compile(&format!("(?<!{word})(?:a|an|the)(?!{word})"))?;
        Ok(Squad { articles })
    }

    /// The text in lower case, without ASCII punctuation, without the articles `a`, `an` and
    /// `the`, its words joined by single spaces; in that order. Other punctuation stays, as in
    /// the official script.
    ///
    /// # Errors
    ///
    /// A text of hundreds of kilobytes, on which the pattern's engine gives up.
    pub fn normalize(&self, text: &str) -> Result<String> {
        let mut text = text.to_lowercase();
        text.retain(|c| !c.is_ascii_punctuation());
        let text = python::substitute(&self.articles, &text, " ")?;
        Ok(python::split(&text).collect::<Vec<_>>().join(" "))
    }

    /// Exact match, and the best F1 (a fraction), of a prediction with any of the answers.
    ///
    /// F1 is that of the normalised words as bags (Rajpurkar et al., "SQuAD: 100,000+ Questions
    /// for Machine Comprehension of Text", 2016); it is 0 where there are none, even of two empty
    /// texts, which match exactly.
    ///
    /// # Errors
    ///
    /// No answers; a text of hundreds of kilobytes.
    pub fn score(&self, prediction: &str, answers: &[String]) -> Result<(bool, f64)> {
        let prediction = self.normalize(prediction)?;
        answers::best(answers, |answer| {
            let answer = self.normalize(answer)?;
            Ok((prediction == answer, f1(&prediction, &answer)))
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

/// F1 of two normalised texts.
fn f1(prediction: &str, answer: &str) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    let (mut claimed, mut actual, mut same) = (0usize, 0usize, 0usize);
    for word in python::split(answer) {
        *left.entry(word).or_default() += 1;
        actual += 1;
    }
    for word in python::split(prediction) {
        claimed += 1;
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    harmonic_mean(same as f64 / claimed as f64, same as f64 / actual as f64)
}
