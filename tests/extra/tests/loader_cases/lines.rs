//! Lines of files, read when they are wanted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use textbrewer::data::{DataLoader, ExampleLoader, Line, LineLoader};
use textbrewer::{Error, Result};

use super::{comes_back, epoch_of, rest};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn texts(lines: Vec<Line>) -> Result<Vec<String>> {
    Ok(lines.iter().map(|line| line.text().to_owned()).collect())
}

/// File, number and text of all lines in order.
fn all(files: &[&Path]) -> Vec<(String, u64, String)> {
    let mut loader = LineLoader::new(files, 2).unwrap();
    let lines = epoch_of(&mut loader, 1).concat();
    let seen = lines.iter().map(|line| {
        let name = line.file().file_name().unwrap().to_string_lossy();
        (name.into_owned(), line.number(), line.text().to_owned())
    });
    seen.collect()
}

#[track_caller]
fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn ends_of_lines_empty_lines_and_marks() {
    let files = Files::new();
    let cases: [(&str, &[(u64, &str)]); 8] = [
        ("a\nb\n", &[(1, "a"), (2, "b")]),
        ("a\nb", &[(1, "a"), (2, "b")]),
        ("a\r\nb\r\n", &[(1, "a"), (2, "b")]),
        ("\n\na\n\r\n\nb\n\n", &[(3, "a"), (6, "b")]),
        ("a\rb \n \n\t", &[(1, "a\rb "), (2, " "), (3, "\t")]),
        (
            "\u{feff}größe\nb\u{feff}",
            &[(1, "größe"), (2, "b\u{feff}")],
        ),
        ("\u{feff}\n\u{feff}a", &[(2, "\u{feff}a")]),
        (
            "a\u{2028}b\n\u{85}\0\n",
            &[(1, "a\u{2028}b"), (2, "\u{85}\0")],
        ),
    ];
    for (content, expected) in cases {
        let path = files.write("a.txt", content);
        let expected: Vec<_> = expected
            .iter()
            .map(|(number, text)| ("a.txt".to_owned(), *number, (*text).to_owned()))
            .collect();
        assert_eq!(all(&[&path]), expected, "{content:?}");
    }
}

#[test]
fn several_files_are_read_as_one() {
    let files = Files::new();
    let one = files.write("one", "a\n\nb");
    let none = files.write("none", "\n\n");
    let two = files.write("two", "c\nd\ne\n");
    let seen = all(&[&one, &none, &two, &one]);
    let of = |name: &str, number, text: &str| (name.to_owned(), number, text.to_owned());
    let expected = [
        of("one", 1, "a"),
        of("one", 3, "b"),
        of("two", 1, "c"),
        of("two", 2, "d"),
        of("two", 3, "e"),
        of("one", 1, "a"),
        of("one", 3, "b"),
    ];
    assert_eq!(seen, expected);

    let mut loader = LineLoader::new([&none, &one, &two], 2).unwrap();
    assert_eq!(loader.num_batches(), Some(3));
    loader = loader.skip_header().unwrap();
    let lines = epoch_of(&mut loader, 1).concat();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.text(), line.number()))
        .collect();
    assert_eq!(seen, [("b", 3), ("d", 2), ("e", 3)]);
}

#[test]
fn the_order_is_that_of_examples_in_memory() {
    let files = Files::new();
    let numbers: Vec<String> = (0..103).map(|n| "x".repeat(n * 7 % 103 + 1)).collect();
    let (first, second) = numbers.split_at(40);
    let one = files.write("one", first.join("\n"));
    let two = files.write("two", second.join("\r\n\n"));
    let lines = || LineLoader::new([&one, &two], 4).unwrap();
    let in_memory = || {
        let collate =
            |batch: &[&String]| Ok(batch.iter().map(|s| (*s).clone()).collect::<Vec<_>>());
        ExampleLoader::new(numbers.clone(), 4, collate).unwrap()
    };
    for epoch in [1, 2] {
        let mut expected = in_memory().shuffle(7);
        let mut got = lines().shuffle(7).map(texts);
        assert_eq!(got.num_batches(), Some(26));
        let batches: Vec<Vec<String>> = epoch_of(&mut got, epoch);
        assert_eq!(batches, epoch_of(&mut expected, epoch));
        assert_ne!(batches.concat(), numbers);

        let mut expected = in_memory().drop_last();
        let mut got = lines().drop_last().map(texts);
        assert_eq!(got.num_batches(), Some(25));
        assert_eq!(epoch_of(&mut got, epoch), epoch_of(&mut expected, epoch));
    }
    // The ends of lines are part of the lengths, so two lengths are told apart by more.
    let one = files.write("one", numbers.join("\n"));
    let lines = LineLoader::new([&one], 4).unwrap().shuffle(7);
    let mut got = lines.group_by_length(5).map(texts);
    let mut expected = in_memory().shuffle(7).group_by_length(5, String::len);
    assert_eq!(epoch_of(&mut got, 3), epoch_of(&mut expected, 3));
}

#[test]
fn a_loader_comes_back_to_its_place() {
    let files = Files::new();
    let path = files.write("a", "a\nb\nc\n\nd\ne\nf\ng\n");
    comes_back(|| LineLoader::new([&path], 2).unwrap().map(texts));
    comes_back(|| {
        LineLoader::new([&path, &path], 3)
            .unwrap()
            .shuffle(1)
            .drop_last()
    });
    comes_back(|| LineLoader::new([&path], 2).unwrap().shuffle(1).prefetch(1));
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

    let missing = files.0.path().join("missing.txt");
    assert!(message(LineLoader::new([&missing], 1)).contains("missing.txt: No such file"));
    assert!(message(LineLoader::new([files.0.path()], 1)).contains("directory"));
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

#[test]
fn a_line_takes_eight_bytes() {
    let files = Files::new();
    let mut content = String::new();
    for number in 0..40_000 {
        content.push_str(&format!("{number} {}\n", "long ".repeat(9)));
        if number % 3 == 0 {
            content.push('\n');
        }
    }
    let lines = content.lines().count() as i64;
    let path = files.write("a.txt", &content);
    let mut loader = None;
    let kept = allocation_counter::measure(|| {
        loader = Some(LineLoader::new([&path], 32).unwrap().shuffle(1));
    });
    assert!(kept.bytes_current <= 8 * lines + 100_000, "{kept:?}");
    let mut loader = loader.unwrap();
    for epoch in 1..=2 {
        // The order of an epoch, and the batches, one at a time.
        let read = allocation_counter::measure(|| {
            assert_eq!(loader.epoch(epoch).unwrap().count(), 1250);
        });
        assert!(read.bytes_max <= 8 * 40_000 + 100_000, "{read:?}");
    }
}

#[test]
#[ignore = "goes through 4.5 GiB of zeros"]
fn places_beyond_four_gibibytes() {
    let files = Files::new();
    let path = files.write("large.txt", "first\n");
    // Holes of zeros, in lines that are just not too long; they take no room on the disk.
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let hole = (1u64 << 26) - 1;
    let ends = 66;
    for number in 1..=ends {
        use std::io::{Seek, SeekFrom};
        file.seek(SeekFrom::Start(6 + number * (hole + 1) - 1))
            .unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.write_all(b"last").unwrap();
    drop(file);
    assert!(fs::metadata(&path).unwrap().len() > 1 << 32);
    let mut loader = LineLoader::new([&path], 1).unwrap();
    assert_eq!(loader.num_batches(), Some(ends as usize + 2));
    loader.start_epoch(1).unwrap();
    loader.skip(ends + 1).unwrap();
    let last = loader.next_batch().unwrap().unwrap().remove(0);
    assert_eq!((last.text(), last.number()), ("last", ends + 2));
    loader.start_epoch(2).unwrap();
    assert_eq!(loader.next_batch().unwrap().unwrap()[0].text(), "first");
}
