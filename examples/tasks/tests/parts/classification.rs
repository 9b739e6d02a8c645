//! Data sets of labels, as recipes describe them.

use serde_json::json;
use tasks::Task;
use tasks::classification::Classification;

#[test]
fn settings_are_json() {
    let short = json!({"columns": ["sentence"], "labels": ["0", "1"]});
    let task: Classification = serde_json::from_value(short).unwrap();
    assert_eq!(task, Classification::sst2());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (settings, expected) in [
        (
            json!({"columns": [], "labels": ["0", "1"]}),
            "columns: 0 are named",
        ),
        (
            json!({"columns": ["a", "b", "c"], "labels": ["0", "1"]}),
            "columns: 3 are named",
        ),
        (
            json!({"columns": ["a"], "labels": ["0"]}),
            "labels: 1 are named",
        ),
        (
            json!({"columns": ["a"], "labels": ["0", "1", "0"]}),
            "labels: `0` is there twice",
        ),
        (
            json!({"columns": ["a"], "labels": ["0", "1"], "header": ["b", "label"]}),
            "header: `a` is not among its names",
        ),
        (
            json!({"columns": ["a"], "labels": ["0", "1"], "lables": []}),
            "lables",
        ),
    ] {
        let error = serde_json::from_value::<Classification>(settings.clone()).unwrap_err();
        assert!(error.to_string().contains(expected), "{settings}: {error}");
    }
}

/// The files of GLUE's tests have no labels.
#[test]
fn a_header_needs_no_labels() {
    let settings = json!({"columns": ["a"], "labels": ["0", "1"], "header": ["index", "a"]});
    let task: Classification = serde_json::from_value(settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.tsv");
    std::fs::write(&file, "0\tgood\n1\tbad\n").unwrap();
    let records = task.read(&file).unwrap();
    let texts: Vec<_> = records.iter().map(|record| record.texts.join("")).collect();
    assert_eq!(texts, ["good", "bad"]);
    assert!(records.iter().all(|record| record.label.is_none()));
}

/// A task may have a label that means none elsewhere.
#[test]
fn what_means_no_label_elsewhere_can_be_one() {
    let settings = json!({"columns": ["a"], "labels": ["-1", "0", "1"]});
    let task: Classification = serde_json::from_value(settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("train.tsv");
    std::fs::write(&file, "a\tlabel\nbad\t-1\ngood\t1\nfilm\t-\n").unwrap();
    let labels: Vec<_> = task.read(&file).unwrap().iter().map(|r| r.label).collect();
    assert_eq!(labels, [Some(0), Some(2), None]);
}

#[test]
fn broken_lines_are_records_with_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("train.tsv");
    std::fs::write(&file, "sentence\tlabel\nfilm\n\r\n \t1\ngood\t1\n\n\r\n").unwrap();
    let task = Classification::sst2();
    let records = task.read(&file).unwrap();
    let faults: Vec<_> = records
        .iter()
        .map(|record| {
            let fault = task.fault(record)?;
            Some((fault.line, fault.reason.as_str(), fault.can_be_answered))
        })
        .collect();
    let short = Some((2, "expected 2 fields, got 1", false));
    let empty = Some((3, "expected 2 fields, got an empty line", false));
    let blank = Some((4, "`sentence` is empty", true));
    assert_eq!(faults, [short, empty, blank, None]);
    assert_eq!(records[2].label, None);
    // The one text of a line may be empty, and is answered in its place.
    std::fs::write(&file, "sentence\ngood\n\nbad\n\n").unwrap();
    let records = task.read(&file).unwrap();
    let fault = task.fault(&records[1]).unwrap();
    assert_eq!(
        (records.len(), fault.line, fault.can_be_answered),
        (3, 3, true)
    );
}

#[test]
fn a_file_that_is_something_else_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("train.tsv");
    for (content, expected) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:4b3c\n"[..],
            "is a pointer of Git LFS and not the file itself; `git lfs pull` in its repository",
        ),
        (
            b"\n<html lang=\"en\">\n",
            "is text (a web page) and not the file itself: it begins `<html lang=\"en\">`; download",
        ),
        (
            b"PK\x03\x04\xff",
            "is a zip archive, or weights of PyTorch, and not the file itself; unpack",
        ),
        (b"\x1f\x8b\x08\xff", "is compressed by gzip; unpack it"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = Classification::sst2().read(&file).unwrap_err().to_string();
        let expected = format!("{}: {expected}", file.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
