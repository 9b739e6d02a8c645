//! What others wrote for a teacher: tables of probabilities, log-probabilities of servers, arrays.

use textbrewer::teacher_file::{ClassScores, NpyRows, Recording, TopKLines};
use textbrewer::{Result, TeacherFile};

use super::harness::fuzz;
use super::mutate::Mutator;

const TABLES: &[&str] = &[
    "id\tbad\tgood\n0\t0.5\t0.5\n7\t1\t0\n9\t0.25\t0.75\n",
    "good\tbad\ttext\n0.5\t0.5\ta film\n0\t1\tlong, dull\n0.1\t0.9\ta film \n",
];
const ROWS: &[&str] = &[
    r#"{"id": 3, "bad": 0.5, "good": 0.5}"#,
    r#"{"id": "4", "good": "0.25", "bad": 0.75}"#,
    r#"{"bad": 1, "good": 0, "text": "a film"}"#,
];
const LINES: &[&str] = &[
    r#"{"id": 1, "prompt_logprobs": [null, {"7": {"logprob": -0.5, "rank": 1}, "2": {"logprob": -1.5}}, {}]}"#,
    r#"{"custom_id": "2", "response": {"body": {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -0.5,
    "bytes": null, "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}]}}]}}}"#,
    r#"{"id": 3, "choices": [{"logprobs": {"top_logprobs": [null, {"a": -0.25, "token_id:9": -9999.0}]}}]}"#,
    r#"{"id": 4, "logprobs": [[{"token": "token_id:5", "logprob": -0.1}, {"token_id": 2, "logprob": -3}]]}"#,
];

/// Writes each input under `name` and records it into a folder.
fn fuzz_file(
    name: &str,
    mutate: impl Fn(&mut Mutator) -> Vec<u8>,
    record: impl Fn(&std::path::Path, Recording) -> Result<TeacherFile>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fuzz(name, 1000, mutate, |input| {
        std::fs::write(&path, input).unwrap();
        let recording = Recording::new(folder.path().join("teacher")).overwrite(true);
        let file = record(&path, recording)?;
        let ids: Vec<u64> = file.ids().collect();
        file.read(&ids).map(drop)
    });
}

fn lines_of(mutator: &mut Mutator, corpus: &[&str]) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..=mutator.below(2) {
        text.extend(mutator.json(corpus));
        text.push(b'\n');
    }
    text
}

fn scores(path: &std::path::Path, recording: Recording) -> Result<TeacherFile> {
    let scores = ClassScores::probabilities(path, ["bad", "good"]);
    scores
        .texts("text", ["a film"])
        .ignore_other_columns()
        .record(recording)
}

#[test]
fn tables_with_tabs() {
    fuzz_file("scores.tsv", |mutator| mutator.lines(TABLES), scores);
}

#[test]
fn tables_with_commas() {
    let mutate = |mutator: &mut Mutator| {
        let text = mutator.lines(TABLES);
        let comma = |byte: u8| if byte == b'\t' { b',' } else { byte };
        text.into_iter().map(comma).collect()
    };
    fuzz_file("scores.csv", mutate, scores);
}

#[test]
fn tables_of_json() {
    fuzz_file("scores.jsonl", |mutator| lines_of(mutator, ROWS), scores);
}

#[test]
fn log_probabilities_of_servers() {
    fuzz_file(
        "answers.jsonl",
        |mutator| lines_of(mutator, LINES),
        |path, recording| {
            let lines = TopKLines::new(path, 10).tokens([("a", 1), ("b", 2)]);
            lines.unknown_into_tail().record(recording)
        },
    );
}

#[test]
fn arrays() {
    let of = |kind: &str, numbers: &[u8]| {
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (2, 2), }}");
        header.push_str(&" ".repeat(117 - header.len()));
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(header.as_bytes());
        bytes.push(b'\n');
        bytes.extend(numbers);
        bytes
    };
    let files = [of("<f4", &[0; 16]), of("<f2", &[1; 8]), of("<f8", &[2; 32])];
    // Other numbers, or other bytes anywhere.
    let mutate = |mutator: &mut Mutator| match mutator.below(2) {
        0 => {
            let mut file = files[mutator.below(files.len())].clone();
            for byte in &mut file[128..] {
                *byte = mutator.below(256) as u8;
            }
            file
        }
        _ => mutator.bytes_of(&files),
    };
    fuzz_file("logits.npy", mutate, |path, recording| {
        NpyRows::logits(path).record(recording)
    });
}
