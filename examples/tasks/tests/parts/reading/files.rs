//! The files of SQuAD 1.1, CMRC 2018 and DRCD, and those that are not.

use serde_json::{Value, json};
use tasks::Task;
use tasks::reading::{Answer, Reading, Span};

use super::{Folder, squad};

#[test]
fn questions_are_as_the_file_has_them() {
    let file = json!({"version": "1.1", "data": [
        {"title": "Rivers", "paragraphs": [
            {"context": "The Rhine is long.", "qas": [
                {"id": "56be", "question": "What is long? ", "answers": [
                    {"answer_start": 4, "text": "Rhine"},
                    {"answer_start": 0, "text": "The Rhine"},
                ], "is_impossible": false},
                {"id": 7, "question": "", "answers": []},
            ]},
        ]},
        {"paragraphs": [
            {"id": "TRAIN_1", "context": "b", "qas": [{"id": "Q", "question": "?"}]},
            {"context": "no question about this", "qas": []},
        ]},
    ]});
    let folder = Folder::new();
    let path = folder.write("dev.json", file.to_string());
    let records = Reading::squad().read(&path).unwrap();
    let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["56be", "7", "Q"]);
    let answer = |text: &str, start, end| Answer {
        text: text.to_owned(),
        span: Some(Span { start, end }),
    };
    let [first, second, third] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(first.question, "What is long? ");
    assert_eq!(&*first.context, "The Rhine is long.");
    assert_eq!(
        first.answers,
        [answer("Rhine", 4, 9), answer("The Rhine", 0, 9)]
    );
    assert_eq!((second.question.as_str(), second.answers.len()), ("", 0));
    assert_eq!((&*third.context, third.answers.len()), ("b", 0));

    // Some editors begin files with a mark.
    let path = folder.write("mark.json", format!("\u{feff}{file}"));
    assert_eq!(Reading::squad().read(&path).unwrap(), records);
}

/// DRCD trains models for CMRC too: its articles and answers have ids of their own.
#[test]
fn drcd_is_read_as_cmrc() {
    let file = json!({"version": "1.3", "data": [{
        "title": "臺灣", "id": "1147", "paragraphs": [{
            "context": "臺灣島在亞洲東部。", "id": "1147-5", "qas": [{
                "id": "1147-5-1", "question": "臺灣島在哪裡？",
                "answers": [
                    {"id": "1", "text": "亞洲東部", "answer_start": 4},
                    {"id": "2", "text": "亞洲", "answer_start": 4},
                ],
            }],
        }],
    }]});
    let folder = Folder::new();
    let task = Reading::cmrc2018();
    let path = folder.write("DRCD_dev.json", file.to_string());
    let (records, repairs) = task.read_with_repairs(&path).unwrap();
    assert_eq!((repairs.answers, repairs.moved.len()), (2, 0));
    let windows = task
        .features(&folder.pieces(&task, 64, 16), &records[0])
        .unwrap();
    // [CLS], 7 of the question, [SEP], 4 before the answer.
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].answer, Some((13, 16)));
}

#[test]
fn bad_files_are_refused_by_place() {
    let with_qas = |qas: Value| squad("a b", qas);
    let with_answer = |answer: Value| {
        squad(
            "a b",
            json!([{"id": "1", "question": "?", "answers": [answer]}]),
        )
    };
    let qa = "data[0].paragraphs[0].qas[0]";
    let missing = "missing; files are to be as those of SQuAD 1.1";
    let cases = [
        (
            "[]".to_owned(),
            "not an object `{…}`; it should be as SQuAD 1.1".to_owned(),
        ),
        ("{}".to_owned(), format!("data: {missing}")),
        (
            r#"{"data": {}}"#.to_owned(),
            "data: not a list `[…]`".to_owned(),
        ),
        (r#"{"data": []}"#.to_owned(), "no question in it".to_owned()),
        (
            r#"{"data": [3]}"#.to_owned(),
            "data[0]: not an object `{…}`".to_owned(),
        ),
        (
            r#"{"data": [{}]}"#.to_owned(),
            format!("data[0].paragraphs: {missing}"),
        ),
        (
            r#"{"data": [{"paragraphs": []}, {"paragraphs": [{"qas": []}]}]}"#.to_owned(),
            format!("data[1].paragraphs[0].context: {missing}"),
        ),
        (
            r#"{"data": [{"paragraphs": [{"context": 1}]}]}"#.to_owned(),
            "data[0].paragraphs[0].context: not a text".to_owned(),
        ),
        (
            squad("a b", Value::Null),
            "data[0].paragraphs[0].qas: not a list `[…]`".to_owned(),
        ),
        (
            squad(" \n", json!([])),
            "data[0].paragraphs[0].context: empty".to_owned(),
        ),
        (
            with_qas(json!(["x"])),
            format!("{qa}: not an object `{{…}}`"),
        ),
        (
            with_qas(json!([{"question": "?"}])),
            format!("{qa}.id: {missing}"),
        ),
        (
            with_qas(json!([{"id": [], "question": "?"}])),
            format!("{qa}.id: neither a text nor a number"),
        ),
        (
            with_qas(json!([{"id": ""}])),
            format!("{qa}.id: empty; give each question its own"),
        ),
        (
            with_qas(json!([{"id": "1"}])),
            format!("{qa}.question: {missing}"),
        ),
        (
            with_qas(json!([{"id": "1", "question": "?"}, {"id": 1, "question": "?"}])),
            "data[0].paragraphs[0].qas[1].id: `1` is also the id of \
             data[0].paragraphs[0].qas[0].id; give each question its own"
                .to_owned(),
        ),
        (
            with_qas(json!([{"id": "x7", "question": "?", "answers": [], "is_impossible": true}])),
            format!(
                "{qa}.is_impossible: question `x7` has no answer in its context (as in SQuAD \
                 2.0), but here every question has one; remove it"
            ),
        ),
        (
            with_qas(json!([{"id": "1", "question": "?", "is_impossible": "no"}])),
            format!("{qa}.is_impossible: neither true nor false"),
        ),
        (
            with_qas(json!([{"id": "1", "question": "?", "answers": {}}])),
            format!("{qa}.answers: not a list `[…]`"),
        ),
        (
            with_answer(json!("a")),
            format!("{qa}.answers[0]: not an object `{{…}}`"),
        ),
        (
            with_answer(json!({"answer_start": 0})),
            format!("{qa}.answers[0].text: {missing}"),
        ),
        (
            with_answer(json!({"answer_start": 0, "text": 1890})),
            format!("{qa}.answers[0].text: not a text"),
        ),
        (
            with_answer(json!({"text": "a"})),
            format!("{qa}.answers[0].answer_start: {missing}"),
        ),
        (
            with_answer(json!({"text": "a", "answer_start": 0.5})),
            format!("{qa}.answers[0].answer_start: not a whole number"),
        ),
        (
            with_answer(json!({"text": "a", "answer_start": "0"})),
            format!("{qa}.answers[0].answer_start: not a whole number"),
        ),
    ];
    let folder = Folder::new();
    for (content, expected) in cases {
        let path = folder.write("bad.json", &content);
        let error = Reading::squad().read(&path).unwrap_err();
        let expected = format!("{}: {expected}", path.display());
        assert_eq!(error.to_string(), expected, "{content}");
    }
}

#[test]
fn what_is_not_json_is_refused_by_line() {
    let folder = Folder::new();
    let refused = |content: &[u8], expected: &str| {
        let path = folder.write("bad.json", content);
        let error = Reading::squad().read(&path).unwrap_err().to_string();
        let expected = format!("{}:{expected}", path.display());
        assert!(error.starts_with(&expected), "{error}");
    };
    refused(b"", "1: not JSON: EOF while parsing a value (column 0)");
    refused(
        b"{\"data\":\n [\n ,]}",
        "3: not JSON: expected value (column 2)",
    );
    refused(
        b"{\"data\":\n [",
        "2: not JSON: EOF while parsing a list (column 2)",
    );
    refused(b"{}\n{}", "2: not JSON: trailing characters (column 1)");
    refused(b"{\n\"data\": \"\xff\"}", "2: not UTF-8; convert the file");
    refused(
        "[".repeat(100_000).as_bytes(),
        "1: not JSON: recursion limit exceeded",
    );

    let error = Reading::squad().read(&folder.0.path().join("none.json"));
    assert!(error.unwrap_err().to_string().contains("none.json: "));
}
