//! Files of predictions, and how good they are.

use ndarray::Array2;
use serde_json::{Value, json};
use tasks::Task;
use tasks::reading::{Prediction, Question, Reading};

use super::{Folder, squad};

fn english(folder: &Folder) -> Vec<Question> {
    let qas = json!([
        {"id": "b", "question": "what is long?", "answers": [
            {"text": "river", "answer_start": 15},
            {"text": "The unbelievable river", "answer_start": 0},
        ]},
        {"id": "a", "question": "how is it?", "answers": [
            {"text": "unbelievable", "answer_start": 9},
        ]},
    ]);
    let path = folder.write("dev.json", squad("The unbelievable river", qas));
    Reading::squad().read(&path).unwrap()
}

fn chinese(folder: &Folder) -> Vec<Question> {
    let qas = json!([
        {"id": "D_0", "question": "何时？", "answers": [{"text": "1963年", "answer_start": 6}]},
        {"id": "D_1", "question": "是？", "answers": [{"text": "范廷颂", "answer_start": 0}]},
    ]);
    let path = folder.write("dev.json", squad("范廷颂被任主1963年的", qas));
    Reading::cmrc2018().read(&path).unwrap()
}

fn predictions(texts: &[&str]) -> Vec<Prediction> {
    texts.iter().map(|text| Prediction::new(*text)).collect()
}

/// What a model without any error would answer.
fn decoded(task: &Reading, folder: &Folder, records: &[Question]) -> Vec<Prediction> {
    let pieces = folder.pieces(task, 16, 4);
    let predict = |record: &Question| {
        let windows = task.features(&pieces, record).unwrap();
        let scores = windows.iter().map(|window| {
            let mut scores = Array2::zeros((window.encoded.ids.len(), 2));
            let (start, end) = window.answer.unwrap();
            if start > 0 {
                scores[(start as usize, 0)] = 5.0;
                scores[(end as usize, 1)] = 5.0;
            }
            scores
        });
        let scores: Vec<_> = scores.collect();
        let parts: Vec<_> = windows.iter().zip(&scores).collect();
        task.predict(record, &parts).unwrap()
    };
    records.iter().map(predict).collect()
}

#[test]
fn perfect_and_empty_predictions() {
    let folder = Folder::new();
    let empty = vec![Prediction::default(); 2];
    let cases = [
        (Reading::squad(), english(&folder), vec!["F1", "EM"]),
        (
            Reading::cmrc2018(),
            chinese(&folder),
            vec!["average", "F1", "EM"],
        ),
    ];
    for (task, records, names) in cases {
        let perfect = decoded(&task, &folder, &records);
        let metrics = task.measure(&records, &perfect).unwrap();
        let expected: Vec<_> = names.iter().map(|name| (*name, 100.0)).collect();
        assert_eq!(metrics.iter().collect::<Vec<_>>(), expected);
        let metrics = task.measure(&records, &empty).unwrap();
        let expected: Vec<_> = names.iter().map(|name| (*name, 0.0)).collect();
        assert_eq!(metrics.iter().collect::<Vec<_>>(), expected);
        let metrics = task.measure(&records, &predictions(&["", ""])).unwrap();
        assert_eq!(metrics.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn half_right() {
    let folder = Folder::new();
    let task = Reading::squad();
    // The article does not count, and of several answers the best does.
    let given = predictions(&["unbelievable river", "an unbelievable river"]);
    let metrics = task.measure(&english(&folder), &given).unwrap();
    assert_eq!(metrics.get("EM"), Some(50.0));
    // 2 of 2 words are right, and 1 of 2 with 1 of 1: (1 + 2/3) / 2.
    assert!((metrics.main() - 250.0 / 3.0).abs() < 1e-9);

    let task = Reading::cmrc2018();
    let given = predictions(&["1963年", "廷颂被"]);
    let metrics = task.measure(&chinese(&folder), &given).unwrap();
    // 2 characters in a row of 3 and of 3: (1 + 2/3) / 2.
    assert!((metrics.get("F1").unwrap() - 250.0 / 3.0).abs() < 1e-9);
    assert!((metrics.main() - (250.0 / 3.0 + 50.0) / 2.0).abs() < 1e-9);
}

#[test]
fn what_cannot_be_measured() {
    let folder = Folder::new();
    let task = Reading::squad();
    let mut records = english(&folder);
    let error = task.measure(&records, &predictions(&["x"])).unwrap_err();
    let expected = "1 predictions for 2 questions; each question has one";
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        task.write(&records, &[]).unwrap_err().to_string(),
        "0 predictions for 2 questions; each question has one"
    );
    records[1].answers.clear();
    let error = task
        .measure(&records, &vec![Prediction::default(); 2])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "question `a` has no answers; a file with answers is needed to measure"
    );
    assert!(task.measure(&[], &[]).is_err());
}

#[test]
fn files_of_predictions_come_back() {
    let folder = Folder::new();
    let task = Reading::cmrc2018();
    let records = chinese(&folder);
    let given = predictions(&["1963年", "\"范\"\n廷颂"]);
    let text = task.write(&records, &given).unwrap();
    assert_eq!(
        text,
        "{\n  \"D_0\": \"1963年\",\n  \"D_1\": \"\\\"范\\\"\\n廷颂\"\n}\n"
    );
    let path = folder.write("predictions.json", text);
    assert_eq!(task.read_predictions(&path, &records).unwrap(), given);
    // The order is that of the records, not of the file.
    let path = folder.write("predictions.json", r#"{"D_1": "范", "D_0": "主"}"#);
    let read = task.read_predictions(&path, &records).unwrap();
    assert_eq!(read, predictions(&["主", "范"]));

    let same = [records[0].clone(), records[0].clone()];
    let error = task.write(&same, &given).unwrap_err();
    assert_eq!(error.to_string(), "two questions have the id `D_0`");
}

#[test]
fn what_is_left_out_counts_as_0() {
    let folder = Folder::new();
    let task = Reading::squad();
    let records = english(&folder);
    let path = folder.write("predictions.json", r#"{"a": "unbelievable"}"#);
    let read = task.read_predictions(&path, &records).unwrap();
    assert_eq!(
        read,
        [Prediction::default(), Prediction::new("unbelievable")]
    );
    let metrics = task.measure(&records, &read).unwrap();
    assert_eq!((metrics.main(), metrics.get("EM")), (50.0, Some(50.0)));
    let path = folder.write("predictions.json", "{}");
    let read = task.read_predictions(&path, &records).unwrap();
    assert_eq!(task.measure(&records, &read).unwrap().main(), 0.0);
}

#[test]
fn bad_files_of_predictions() {
    let folder = Folder::new();
    let task = Reading::squad();
    let records = english(&folder);
    let cases = [
        (
            "[]",
            ": not an object `{id: answer}` as the scripts of SQuAD and CMRC read it",
        ),
        (
            r#"{"c": ""}"#,
            ": `c` is not the id of a question; is it for another file?",
        ),
        (
            r#"{"a": []}"#,
            r#": the answer to `a` is not a text; write `"a": "…"`"#,
        ),
        ("{\n\"a\" 1}", ":2: not JSON: expected `:` (column 5)"),
        ("", ":1: not JSON: EOF while parsing a value (column 0)"),
    ];
    for (content, expected) in cases {
        let path = folder.write("predictions.json", content);
        let error = task.read_predictions(&path, &records).unwrap_err();
        assert_eq!(error.to_string(), format!("{}{expected}", path.display()));
    }
}

#[test]
fn the_best_answers_as_a_file_and_for_people() {
    let folder = Folder::new();
    let task = Reading::squad();
    let records = english(&folder);
    let mut given = decoded(&task, &folder, &records);
    let text = task.write_candidates(&records, &given).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let all = value["b"].as_array().unwrap();
    assert_eq!(all.len(), given[0].candidates.len());
    assert_eq!(all[0]["text"], "river");
    assert_eq!(all[0]["start_logit"], 5.0);
    assert_eq!(all[0]["end_logit"], 5.0);
    let sum: f64 = all
        .iter()
        .map(|one| one["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-12);

    given[0].candidates.truncate(2);
    given[0].candidates[0].probability = 0.75;
    given[0].candidates[1].probability = 0.25;
    let second = given[0].candidates[1].text.clone();
    assert_eq!(
        task.show(&records[0], &given[0]),
        format!("what is long?\n   75.00 %  river\n   25.00 %  {second}")
    );
    let shown = task.show(&records[0], &Prediction::default());
    assert_eq!(shown, "what is long?\n  no answer");
}

#[test]
fn text_of_the_command_line() {
    let task = Reading::squad();
    let record = task.record_of(1, "who is it?\tIt is\tme.").unwrap();
    assert_eq!(
        (&*record.question, &*record.context),
        ("who is it?", "It is\tme.")
    );
    assert!(record.answers.is_empty());
    for text in ["who is it?", "who?\t", "\tIt is me.", " \t ", ""] {
        let error = task.record_of(1, text).unwrap_err().to_string();
        let expected = "a question and a context are needed, with a tab between them";
        assert_eq!(error, expected, "{text:?}");
    }
}

#[test]
fn settings_are_json() {
    for task in [Reading::squad(), Reading::cmrc2018()] {
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), task);
        assert_eq!((task.outputs(), task.labels().len()), (2, 0));
    }
    let short = json!({"train": "train-v1.1.json", "dev": "dev-v1.1.json", "language": "english"});
    assert_eq!(
        serde_json::from_value::<Reading>(short.clone()).unwrap(),
        Reading::squad()
    );
    let mut wrong = short.clone();
    wrong["max_answer_lenght"] = json!(5);
    let error = serde_json::from_value::<Reading>(wrong)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("unknown field `max_answer_lenght`"),
        "{error}"
    );
    let mut wrong = short.clone();
    wrong["n_best"] = json!(0);
    let error = serde_json::from_value::<Reading>(wrong).unwrap_err();
    assert_eq!(error.to_string(), "n_best is 0; it is at least 1");
    let mut wrong = short;
    wrong["language"] = json!("klingon");
    assert!(serde_json::from_value::<Reading>(wrong).is_err());
}
