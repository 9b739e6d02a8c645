//! Entities and their scores, against seqeval.

use tasks::metrics::entities::{Scores, entities, evaluate};

use crate::metrics_reference::{Scores as Expected, reference, same};

fn sentences(text: &str) -> Vec<Vec<&str>> {
    text.split('|')
        .map(|sentence| sentence.split_whitespace().collect())
        .collect()
}

#[test]
fn of_any_sequence() {
    let cases = reference().sequences;
    assert_eq!(cases.len(), 46);
    for case in cases {
        let tags: Vec<&str> = case.tags.split_whitespace().collect();
        let found = entities(&tags).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|e| (e.kind.to_owned(), e.start, e.end))
            .collect();
        assert_eq!(found, case.entities, "{}", case.tags);
    }
}

#[track_caller]
fn same_scores(what: &str, ours: &Scores, theirs: &Expected) {
    same(&format!("{what}, precision"), ours.precision, theirs.0);
    same(&format!("{what}, recall"), ours.recall, theirs.1);
    same(&format!("{what}, F1"), ours.f1, theirs.2);
    assert_eq!(ours.support, theirs.3, "{what}, support");
}

#[test]
fn scores() {
    let cases = reference().entities;
    assert_eq!(cases.len(), 74);
    for case in cases {
        let what = format!("{} for {}", case.predicted, case.labels);
        let ours = evaluate(&sentences(&case.predicted), &sentences(&case.labels)).unwrap();
        same_scores(&format!("{what}, micro"), &ours.micro, &case.micro);
        let none = (0.0, 0.0, 0.0, 0);
        let macro_average = case.macro_average.unwrap_or(none);
        same_scores(
            &format!("{what}, macro"),
            &ours.macro_average,
            &macro_average,
        );
        same_scores(&format!("{what}, weighted"), &ours.weighted, &case.weighted);
        let names: Vec<&String> = ours.types.keys().collect();
        assert_eq!(names, case.types.keys().collect::<Vec<_>>(), "{what}");
        for (name, scores) in &ours.types {
            same_scores(&format!("{what}, {name}"), scores, &case.types[name]);
        }
    }
}

#[test]
fn unknown_tags_are_named() {
    for tag in [
        "", "X-A", "o", "BPER", "O-A", "OUT", "-A", "人-A", "b-A", "B_A",
    ] {
        let message = entities(&["O", tag]).unwrap_err().to_string();
        let start = format!("the tag at position 1 (counted from 0) is `{tag}`;");
        assert!(message.starts_with(&start), "{message}");
    }
    let (good, bad) = ([vec!["O"], vec!["O", "O"]], [vec!["O"], vec!["O", "?"]]);
    let message = evaluate(&bad, &good).unwrap_err().to_string();
    let start = "sentence 1 (counted from 0), predicted: the tag at position 1";
    assert!(message.starts_with(start), "{message}");
    let message = evaluate(&good, &bad).unwrap_err().to_string();
    assert!(message.contains("labels: the tag at position 1"));
}

#[test]
fn lengths_must_be_equal() {
    let (long, short) = ([vec!["O"], vec!["O", "O"]], [vec!["O"], vec!["O"]]);
    let message = evaluate(&long, &short).unwrap_err().to_string();
    let start = "sentence 1 (counted from 0): 2 predicted tags for 1 labels";
    assert!(message.starts_with(start), "{message}");
    let message = evaluate(&long[..1], &long).unwrap_err().to_string();
    assert!(message.starts_with("1 predictions for 2 labels: position 1"));
    assert!(evaluate::<&str, &str>(&[], &[]).is_err());
}
