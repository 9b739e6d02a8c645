//! Lines of files, read when they are wanted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use textbrewer::Result;
use textbrewer::data::{DataLoader, ExampleLoader, Line, LineLoader};

use super::{comes_back, epoch_of};

pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
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
    // Where the order is that of the files it takes nothing.
    let mut loader = LineLoader::new([&path], 32).unwrap();
    let read = allocation_counter::measure(|| {
        assert_eq!(loader.epoch(1).unwrap().count(), 1250);
    });
    assert!(read.bytes_max <= 100_000, "{read:?}");
}

#[test]
fn what_is_shown_of_a_loader_does_not_grow_with_its_lines() {
    let files = Files::new();
    let path = files.write("a.txt", "a line\n".repeat(1000));
    let mut loader = LineLoader::new([&path], 2).unwrap().shuffle(1);
    loader.start_epoch(1).unwrap();
    let shown = format!("{loader:?}");
    let expected = "BatchIndices { batches: 500, batch_size: 2, .. }";
    assert!(shown.contains(expected) && shown.len() < 1000, "{shown}");
}
