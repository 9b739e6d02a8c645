//! What is told of files that cannot be read line by line, that change, or that have a bad line.

use std::fs;
use std::io::Write;
use std::path::Path;

use textbrewer::data::{DataLoader, Line, LineLoader};
use textbrewer::{Error, Result};

use super::lines::Files;
use super::{epoch_of, rest};

#[track_caller]
fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn a_place_is_returned_to_without_reading() {
    let files = Files::new();
    let path = files.write("a", "a\nb\nc\nd\n");
    let mut loader = LineLoader::new([&path], 1).unwrap();
    loader.start_epoch(1).unwrap();
    // Reading would tell that the file has changed.
    fs::write(&path, "a\nb\n").unwrap();
    assert_eq!(loader.skip(3).unwrap(), 3);
    assert!(message(loader.next_batch()).contains("changed"));
}

type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn a_file_that_changes_is_told() {
    let files = Files::new();
    let path = files.write("a.txt", "one\ntwo\n");
    let append = |path: &Path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"three\n").unwrap();
    };
    let cases: [(Change<'_>, &str); 4] = [
        (
            &|path| fs::write(path, "one\n").unwrap(),
            "it had 8 bytes and has 4",
        ),
        (
            &|path| fs::write(path, "").unwrap(),
            "it had 8 bytes and has 0",
        ),
        (&append, "it had 8 bytes and has 14"),
        (
            &|path| {
                fs::write(path, "two\none\n").unwrap();
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            },
            "it was written to",
        ),
    ];
    for (change, how) in cases {
        files.write("a.txt", "one\ntwo\n");
        let mut loader = LineLoader::new([&path], 1).unwrap();
        loader.start_epoch(1).unwrap();
        assert_eq!(loader.next_batch().unwrap().unwrap()[0].text(), "one");
        change(&path);
        // Although the line lies ready in the buffer.
        let error = loader.next_batch().unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path));
        let shown = error.to_string();
        let expected =
            format!("a.txt: changed while it was in use: {how}; use a file that stays as it is");
        assert!(shown.ends_with(&expected), "{shown}");
    }
    // A file that takes its name is another; the loader has the one that it opened.
    files.write("a.txt", "one\ntwo\n");
    let mut loader = LineLoader::new([&path], 1).unwrap();
    let other = files.write("b.txt", "three\n");
    fs::rename(other, &path).unwrap();
    assert_eq!(epoch_of(&mut loader, 1).len(), 2);
}

#[test]
fn files_that_are_no_text_are_told_when_they_are_opened() {
    let files = Files::new();
    let latin = files.write("latin.txt", b"gut\n\ngr\xf6\xdfe\n");
    let shown = message(LineLoader::new([&latin], 1));
    let expected =
        "latin.txt: line 3 is not UTF-8; convert the file, or unpack it if it is compressed";
    assert!(shown.ends_with(expected), "{shown}");
    let sixteen = files.write("utf16.txt", b"\xff\xfea\0\n\0");
    assert!(message(LineLoader::new([&sixteen], 1)).contains("utf16.txt: line 1 is not UTF-8"));
    // A character that two lines share.
    let cut = files.write("cut.txt", b"\xc3\n\xb6");
    assert!(message(LineLoader::new([&cut], 1)).contains("cut.txt: line 1 is not UTF-8"));

    // Zeros without an end, of which the file system stores nothing.
    let endless = files.write("endless.bin", "first\n");
    let file = fs::OpenOptions::new().write(true).open(&endless).unwrap();
    file.set_len(1 << 33).unwrap();
    let shown = message(LineLoader::new([&endless], 1));
    let expected =
        "endless.bin: line 2 is longer than 64 MiB; is it a text with an example on each line?";
    assert!(shown.ends_with(expected), "{shown}");

    let missing = files.path().join("missing.txt");
    assert!(message(LineLoader::new([&missing], 1)).contains("missing.txt: No such file"));
    assert!(message(LineLoader::new([files.path()], 1)).contains("directory"));
}

#[test]
fn nothing_to_read_is_told() {
    let files = Files::new();
    let empty = files.write("empty.txt", "\n\r\n");
    let header = files.write("header.tsv", "sentence\tlabel\n");
    let none: [&Path; 0] = [];
    assert_eq!(
        message(LineLoader::new(none, 1)),
        "files: none were given; give at least one"
    );
    let shown = message(LineLoader::new([&empty], 1));
    let expected = "empty.txt: no line that is not empty, or a header; give at least one";
    assert!(shown.ends_with(expected), "{shown}");
    let shown = message(LineLoader::new([&header, &empty], 1).unwrap().skip_header());
    assert!(
        shown.contains("header.tsv and 1 more files: no line"),
        "{shown}"
    );
    assert_eq!(
        message(LineLoader::new([&header], 0)),
        "batch_size: must be at least 1, got 0"
    );
    let mut few = LineLoader::new([&header], 2).unwrap().drop_last();
    assert!(message(few.start_epoch(1)).starts_with("drop_last: leaves no batch"));
    let mut unopened = LineLoader::new([&header], 1).unwrap();
    assert!(message(unopened.next_batch()).contains("call `start_epoch` first"));
    assert!(unopened.skip(1).is_err());
}

#[test]
fn an_error_in_a_line_names_it() {
    let files = Files::new();
    let path = files.write("train.jsonl", "{\"n\": 1}\n\n{\"n\": }\n{\"n\": 2}\n");
    let parse = |lines: Vec<Line>| {
        let values = lines.iter().map(|line| {
            let value: serde_json::Value = line.parse_with(serde_json::from_str)?;
            // An error of the crate's own keeps the place too.
            line.parse_with(|_| value["n"].as_u64().ok_or(Error::config("n", "is missing")))
        });
        values.collect::<Result<Vec<_>>>()
    };
    let mut loader = LineLoader::new([&path], 1).unwrap().map(parse);
    loader.start_epoch(1).unwrap();
    let batches = rest(&mut loader);
    assert_eq!((&batches[0], &batches[2]), (&Ok(vec![1]), &Ok(vec![2])));
    let shown = batches[1].as_ref().unwrap_err();
    let expected = "train.jsonl: line 3: expected value at line 1 column 7";
    assert!(shown.ends_with(expected), "{shown}");

    let path = files.write("train.jsonl", "{}");
    let mut loader = LineLoader::new([&path], 1).unwrap().map(parse);
    loader.start_epoch(1).unwrap();
    let shown = message(loader.next_batch());
    assert!(
        shown.ends_with("train.jsonl: line 1: n: is missing"),
        "{shown}"
    );
}
