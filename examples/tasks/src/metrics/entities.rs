//! Entity-level scores of tag sequences for CoNLL-2003 and MSRA NER, equal to those of seqeval in
//! its default mode and of `conlleval`.

use std::collections::{BTreeMap, BTreeSet};

use super::{check_lengths, harmonic_mean, ratio};
use crate::{Error, Result};

/// A named entity: a span of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity<'a> {
    /// Its type, such as `PER`; `_` for tags without a type, such as `B`.
    pub kind: &'a str,
    /// The position of its first tag, from 0.
    pub start: usize,
    /// The position of its last tag.
    pub end: usize,
}

/// Precision, recall and F1 as fractions; each is 0 if its denominator is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// The fraction of the predicted entities that is correct.
    pub precision: f64,
    /// The fraction of the true entities that is found.
    pub recall: f64,
    /// `2 precision recall / (precision + recall)`; of an average it is the average of these.
    pub f1: f64,
    /// The number of true entities.
    pub support: usize,
}

/// The scores of a data set.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct EntityScores {
    /// The scores of each type that is predicted or true.
    pub types: BTreeMap<String, Scores>,
    /// The scores of all entities together, which are the ones usually published.
    pub micro: Scores,
    /// The mean over the types.
    pub macro_average: Scores,
    /// The mean over the types, weighted by their support.
    pub weighted: Scores,
}

/// The role of a tag in an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

/// The entities of one sentence, in their order.
///
/// Tags are `O`, or one of the letters `B`, `I`, `E` and `S`, alone or before `-` and a type. IOB1,
/// IOB2 and BIOES are all understood, and every sequence is valid:
///
/// - an entity begins at every `B` and `S`; at an `I` or `E` after `O`, `E`, `S` or nothing; and
///   wherever the type changes between two tags that are not `O`;
/// - it ends after every `E` and `S`; before a `B`, `S` or `O`; and where the type changes.
///
/// # Errors
///
/// A tag of another form, with its position. seqeval warns of it and takes its first letter.
pub fn entities<S: AsRef<str>>(tags: &[S]) -> Result<Vec<Entity<'_>>> {
    let mut found = Vec::new();
    // The entity that the tag before belongs to, and what that tag was.
    let mut open: Option<(Part, Entity<'_>)> = None;
    for (at, tag) in tags.iter().enumerate() {
        let (part, kind) = parse(tag.as_ref()).ok_or_else(|| unknown(tag.as_ref(), at))?;
        match &mut open {
            Some((before, entity)) if continues(*before, part) && entity.kind == kind => {
                entity.end = at;
                *before = part;
            }
            _ => {
                found.extend(open.take().map(|(_, entity)| entity));
                if part != Part::Outside {
                    let (start, end) = (at, at);
                    open = Some((part, Entity { kind, start, end }));
                }
            }
        }
    }
    found.extend(open.map(|(_, entity)| entity));
    Ok(found)
}

/// The scores of predicted tag sequences, one per sentence, as `seqeval` 1.2 gives them in its
/// default mode: an entity is correct when its type and its first and last position are.
///
/// Without any entity, predicted or true, everything is 0 (seqeval's macro average is NaN then).
///
/// # Errors
///
/// Another number of sentences, or of tags in a sentence, than there are labels; no sentences;
/// tags that [`entities`] does not know. Sentences and positions count from 0.
pub fn evaluate<P, L>(predicted: &[Vec<P>], labels: &[Vec<L>]) -> Result<EntityScores>
where
    P: AsRef<str>,
    L: AsRef<str>,
{
    check_lengths(predicted.len(), labels.len())?;
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    for (sentence, (predicted, labels)) in predicted.iter().zip(labels).enumerate() {
        if predicted.len() != labels.len() {
            return Err(Error::invalid(format!(
                "sentence {sentence} (counted from 0): {} predicted tags for {} labels; every word \
                 needs both",
                predicted.len(),
                labels.len()
            )));
        }
        let within = |what: &str, error: Error| {
            Error::invalid(format!(
                "sentence {sentence} (counted from 0), {what}: {error}"
            ))
        };
        let predicted = entities(predicted).map_err(|e| within("predicted", e))?;
        let labels = entities(labels).map_err(|e| within("labels", e))?;
        let labels: BTreeSet<Entity<'_>> = labels.into_iter().collect();
        for entity in &labels {
            counts.entry(entity.kind).or_default().actual += 1;
        }
        for entity in &predicted {
            let of_kind = counts.entry(entity.kind).or_default();
            of_kind.claimed += 1;
            of_kind.right += usize::from(labels.contains(entity));
        }
    }

    let mut all = Counts::default();
    let (mut sum, mut weighted) = (Scores::default(), Scores::default());
    let mut types = BTreeMap::new();
    for (&kind, counts) in &counts {
        all.right += counts.right;
        all.claimed += counts.claimed;
        all.actual += counts.actual;
        let scores = counts.scores();
        sum.add(&scores, 1.0);
        weighted.add(&scores, scores.support as f64);
        types.insert(kind.to_owned(), scores);
    }
    let micro = all.scores();
    Ok(EntityScores {
        macro_average: sum.divided(types.len(), micro.support),
        weighted: weighted.divided(micro.support, micro.support),
        types,
        micro,
    })
}

/// How many entities there are of one type.
#[derive(Default)]
struct Counts {
    right: usize,
    claimed: usize,
    actual: usize,
}

impl Counts {
    fn scores(&self) -> Scores {
        let precision = ratio(self.right, self.claimed);
        let recall = ratio(self.right, self.actual);
        Scores {
            precision,
            recall,
            f1: harmonic_mean(precision, recall),
            support: self.actual,
        }
    }
}

impl Scores {
    fn add(&mut self, other: &Scores, weight: f64) {
        self.precision += weight * other.precision;
        self.recall += weight * other.recall;
        self.f1 += weight * other.f1;
    }

    fn divided(self, by: usize, support: usize) -> Scores {
        let share = |sum: f64| if by == 0 { 0.0 } else { sum / by as f64 };
        Scores {
            precision: share(self.precision),
            recall: share(self.recall),
            f1: share(self.f1),
            support,
        }
    }
}

/// The letter and the type of a tag, if it is one.
fn parse(tag: &str) -> Option<(Part, &str)> {
    let (letter, kind) = tag.split_once('-').unwrap_or((tag, ""));
    let part = match letter {
        "O" if tag == "O" => Part::Outside,
        "B" => Part::Begin,
        "I" => Part::Inside,
        "E" => Part::End,
        "S" => Part::Single,
        _ => return None,
    };
    Some((part, if kind.is_empty() { "_" } else { kind }))
}

/// Whether two tags of the same type can be of the same entity.
fn continues(before: Part, part: Part) -> bool {
    matches!(before, Part::Begin | Part::Inside) && matches!(part, Part::Inside | Part::End)
}

fn unknown(tag: &str, at: usize) -> Error {
    Error::invalid(format!(
        "the tag at position {at} (counted from 0) is `{tag}`; tags are `O`, or `B`, `I`, `E` or \
         `S` with `-` and a type, such as `B-PER`"
    ))
}
