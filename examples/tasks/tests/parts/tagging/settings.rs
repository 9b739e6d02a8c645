//! Data sets by name, and as a recipe describes them.

use serde_json::{Value, json};
use tasks::{Files, Tagging, Task};

fn described() -> Value {
    json!({
        "train": "train.txt",
        "dev": "valid.txt",
        "tags": ["O", "B-PER", "I-PER"],
        "columns": {"count": 4, "word": 0, "tag": 3, "separator": "blanks"},
        "document_line": "-DOCSTART-",
        "characters": false,
    })
}

fn refused(json: Value) -> String {
    serde_json::from_value::<Tagging>(json)
        .unwrap_err()
        .to_string()
}

#[test]
fn tags_have_their_fixed_order() {
    let expected = [
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC",
    ];
    assert_eq!(Tagging::conll2003().labels(), expected);
    assert_eq!(Tagging::msra_ner().labels(), &expected[..7]);
    assert_eq!(Tagging::conll2003().outputs(), 9);
    assert_eq!(
        Tagging::conll2003().files(),
        &Files::new("train.txt", "valid.txt")
    );
}

#[test]
fn a_data_set_is_written_to_json_and_read_again() {
    for task in [Tagging::conll2003(), Tagging::msra_ner()] {
        let json = serde_json::to_value(&task).unwrap();
        assert_eq!(serde_json::from_value::<Tagging>(json).unwrap(), task);
    }
    let task: Tagging = serde_json::from_value(described()).unwrap();
    assert_eq!(serde_json::to_value(&task).unwrap(), described());
    let mut short = described();
    short.as_object_mut().unwrap().remove("document_line");
    short.as_object_mut().unwrap().remove("characters");
    assert!(serde_json::from_value::<Tagging>(short).is_ok());
}

#[test]
fn what_cannot_work_is_refused() {
    for (key, value, expected) in [
        ("columms", json!(1), "unknown field `columms`"),
        (
            "tags",
            json!(["B-PER"]),
            "tags: `O` is not among them (B-PER); add it",
        ),
        ("tags", json!([]), "tags: `O` is not among them ()"),
        (
            "tags",
            json!(["O", "B-X", "B-X"]),
            "tags: `B-X` is there twice",
        ),
        ("tags", json!(["O", "PER"]), "tags: the tag at position 1"),
        (
            "columns",
            json!({"count": 2, "word": 0, "tag": 2, "separator": "tab"}),
            "columns: word 0 and tag 2 must be two of the 2 columns, counted from 0",
        ),
        (
            "columns",
            json!({"count": 2, "word": 1, "tag": 1, "separator": "tab"}),
            "columns: word 1 and tag 1 must be two",
        ),
        (
            "columns",
            json!({"count": 2, "word": 0, "tag": 1, "separator": "comma"}),
            "unknown variant `comma`, expected `blanks` or `tab`",
        ),
        (
            "columns",
            json!({"count": 2, "word": 0, "tag": 1, "separator": "tab", "id": 3}),
            "unknown field `id`",
        ),
    ] {
        let mut json = described();
        json[key] = value;
        let error = refused(json);
        assert!(error.contains(expected), "{error}\n{expected}");
    }
    let mut json = described();
    json.as_object_mut().unwrap().remove("train");
    assert!(refused(json).contains("missing field `train`"));
}
