//! Code shared by the evaluations of SQuAD and CMRC 2018.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// The scores of a data set of questions, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AnswerScores {
    /// The share of predictions that equal an answer after normalisation.
    pub exact_match: f64,
    /// The mean over predictions of the best F1 with any of the answers.
    pub f1: f64,
    /// The number of questions.
    pub total: usize,
    /// The number of questions without a prediction; each counts as 0.
    pub missing: usize,
}

impl AnswerScores {
    /// The mean of exact match and F1, by which CMRC 2018 ranks.
    pub fn average(&self) -> f64 {
        (self.exact_match + self.f1) * 0.5
    }
}

/// Scores each question with the best `score` (exact match, F1) among its answers.
pub(super) fn evaluate<'a>(
    questions: impl IntoIterator<Item = (&'a str, &'a [String])>,
    predictions: &BTreeMap<String, String>,
    score: impl Fn(&str, &[String]) -> Result<(bool, f64)>,
) -> Result<AnswerScores> {
    let (mut right, mut f1) = (0usize, 0.0);
    let (mut total, mut missing) = (0, 0);
    for (id, answers) in questions {
        total += 1;
        let Some(prediction) = predictions.get(id) else {
            missing += 1;
            continue;
        };
        let (is_right, best) = score(prediction, answers).map_err(|e| {
            Error::invalid(format!("question {total} (counted from 1), id `{id}`: {e}"))
        })?;
        right += usize::from(is_right);
        f1 += best;
    }
    if total == 0 {
        return Err(Error::invalid(
            "no questions to evaluate: a score needs at least one",
        ));
    }
    Ok(AnswerScores {
        exact_match: 100.0 * right as f64 / total as f64,
        f1: 100.0 * f1 / total as f64,
        total,
        missing,
    })
}

/// The best `score` among the answers.
pub(super) fn best(
    answers: &[String],
    score: impl Fn(&str) -> Result<(bool, f64)>,
) -> Result<(bool, f64)> {
    if answers.is_empty() {
        return Err(Error::invalid(
            "has no answers; leave it out, or evaluate on a file that has them",
        ));
    }
    let (mut is_right, mut best) = (false, 0.0);
    for answer in answers {
        let (same, f1) = score(answer)?;
        is_right |= same;
        best = f64::max(best, f1);
    }
    Ok((is_right, best))
}
