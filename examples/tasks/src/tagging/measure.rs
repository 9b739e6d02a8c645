//! Metrics of tags, and printing of entities.

use super::{Sentence, Tagging};
use crate::metrics::{Metrics, entities};
use crate::{Error, Result};

/// The scores of entities come first, since those are published.
pub(super) fn measure(
    tagging: &Tagging,
    sentences: &[Sentence],
    predictions: &[Vec<usize>],
) -> Result<Metrics> {
    tagging.check_counts(sentences, predictions)?;
    let mut predicted = Vec::with_capacity(sentences.len());
    let mut truth = Vec::with_capacity(sentences.len());
    for (number, (sentence, tags)) in sentences.iter().zip(predictions).enumerate() {
        let known = sentence.tags.as_ref().ok_or_else(|| {
            let number = number + 1;
            Error::invalid(format!(
                "sentence {number} has no tags to compare with; use a file with tags"
            ))
        })?;
        predicted.push(tagging.names(tags)?);
        truth.push(tagging.names(known)?);
    }
    let scores = entities::evaluate(&predicted, &truth)?;
    let pairs = || predicted.iter().flatten().zip(truth.iter().flatten());
    let right = pairs().filter(|(predicted, truth)| predicted == truth);
    let accuracy = right.count() as f64 / pairs().count().max(1) as f64;
    let metrics = Metrics::new("F1", 100.0 * scores.micro.f1)
        .and("precision", 100.0 * scores.micro.precision)
        .and("recall", 100.0 * scores.micro.recall)
        .and("accuracy", 100.0 * accuracy);
    let types = scores.types.iter();
    Ok(types.fold(metrics, |metrics, (kind, scores)| {
        metrics.and(format!("F1 {kind}"), 100.0 * scores.f1)
    }))
}

/// The words of a sentence, with each entity and its type in brackets.
pub(super) fn show(tagging: &Tagging, sentence: &Sentence, prediction: &[usize]) -> String {
    let tags = tagging.names(prediction).unwrap_or_default();
    let found = entities::entities(&tags).unwrap_or_default();
    let between = if tagging.characters { "" } else { " " };
    let words = sentence.words.iter().enumerate().map(|(at, word)| {
        let starts = found.iter().any(|entity| entity.start == at);
        let ends = found.iter().find(|entity| entity.end == at);
        let opened = if starts { "[" } else { "" };
        let closed = ends.map(|entity| format!(" {}]", entity.kind));
        format!("{opened}{word}{}", closed.unwrap_or_default())
    });
    words.collect::<Vec<_>>().join(between)
}
