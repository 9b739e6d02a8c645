//! The error of the crate: readable lines, and a way into the library's error and back.

use std::error::Error as _;
use std::io;

use tasks::Error;

#[test]
fn names_the_place() {
    let error = Error::data("dev.tsv", 3, "2 columns instead of 3");
    assert_eq!(error.to_string(), "dev.tsv:3: 2 columns instead of 3");
    let error = Error::file("dev.json", "no `data`");
    assert_eq!(error.to_string(), "dev.json: no `data`");
    let error = Error::io("dev.tsv", io::Error::other("no disk"));
    assert_eq!(error.to_string(), "dev.tsv: no disk");
    assert!(error.source().is_some());
}

#[test]
fn what_files_say_is_cut_and_escaped() {
    let error = Error::data("dev.tsv", 3, "label `\u{1b}[2J`");
    assert_eq!(error.to_string(), r"dev.tsv:3: label `\u{1b}[2J`");
    let long = Error::invalid("é".repeat(10_000)).to_string();
    assert!(long.len() < 2_010 && long.ends_with("é…"), "{}", long.len());
}

#[test]
fn passes_through_the_library() {
    let inner = textbrewer::Error::config("margin", "must be positive, got -1");
    let error = Error::from(inner);
    assert_eq!(error.to_string(), "margin: must be positive, got -1");
    let back = textbrewer::Error::from(error);
    assert!(matches!(back, textbrewer::Error::Config { .. }), "{back:?}");

    let error = textbrewer::Error::from(Error::data("dev.tsv", 3, "empty"));
    assert_eq!(error.to_string(), "dev.tsv:3: empty");
}
