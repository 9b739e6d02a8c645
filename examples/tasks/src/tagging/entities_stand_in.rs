//! Entity scores, until `metrics::entities` is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entity<'a> {
    pub kind: &'a str,
    pub start: usize,
    pub end: usize,
}

#[derive(Default)]
pub(super) struct Scores {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

pub(super) struct EntityScores {
    pub types: BTreeMap<String, Scores>,
    pub micro: Scores,
}

pub(super) fn entities<'a>(tags: &[&'a str]) -> Result<Vec<Entity<'a>>> {
    let mut found: Vec<Entity<'a>> = Vec::new();
    for (at, tag) in tags.iter().enumerate() {
        let Some((part, kind)) = tag.split_once('-') else {
            continue;
        };
        match found.last_mut() {
            Some(last) if part == "I" && last.end + 1 == at && last.kind == kind => last.end = at,
            _ => found.push(Entity {
                kind,
                start: at,
                end: at,
            }),
        }
    }
    Ok(found)
}

pub(super) fn evaluate(predicted: &[Vec<&str>], labels: &[Vec<&str>]) -> Result<EntityScores> {
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (predicted, labels) in predicted.iter().zip(labels) {
        let labels: BTreeSet<_> = entities(labels)?.into_iter().collect();
        for entity in entities(predicted)? {
            let count = counts.entry(entity.kind).or_default();
            count[0] += usize::from(labels.contains(&entity));
            count[1] += 1;
        }
        for entity in &labels {
            counts.entry(entity.kind).or_default()[2] += 1;
        }
    }
    let scores = |[right, claimed, actual]: [usize; 3]| {
        let share = |n: usize, of: usize| if of == 0 { 0.0 } else { n as f64 / of as f64 };
        Scores {
            precision: share(right, claimed),
            recall: share(right, actual),
            f1: share(2 * right, claimed + actual),
        }
    };
    let sum = counts.values().fold([0; 3], |sum, count| {
        [sum[0] + count[0], sum[1] + count[1], sum[2] + count[2]]
    });
    Ok(EntityScores {
        micro: scores(sum),
        types: counts
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), scores(*count)))
            .collect(),
    })
}
