//! What is said of files without truth, and where nobody listens.

use super::bench::{Bench, sentences};

#[test]
fn what_has_no_truth_is_told_with_the_form_of_it() {
    let bench = Bench::new("conll2003");
    bench.write("data/valid.txt", "anna NNP B-NP B-PER\n");
    let train = "train --encoder @encoder --data-dir @data --cache-dir none --max-length 32";
    for (text, expected) in [
        (
            "anna NNP B-NP\nlives VBZ B-VP\n",
            "train.txt: no truth in it",
        ),
        (
            "anna NNP B-PER\nlives VBZ O\n",
            "train.txt:1: no tag is found here",
        ),
    ] {
        bench.write("data/train.txt", text);
        bench.fails_with(
            &format!("{train} --output-dir @x"),
            &[expected, "expected 4 columns with blanks"],
        );
    }
    bench.write("data/train.txt", "anna NNP B-NP B-PER\nlives VBZ B-VP O\n");
    bench.out(&format!("{train} --output-dir @model --epochs 1"));
    bench.write("words.txt", "anna\nlives\n\nanna\n");
    bench.fails_with(
        "evaluate --model @model --file @words.txt --cache-dir none",
        &["words.txt: 0 of its 2 records have the truth", "4 columns"],
    );
}

#[test]
fn a_model_of_another_task_is_named() {
    let bench = Bench::new("mnli");
    let pairs = "sentence1\tsentence2\tgold_label\nanna\tthe film\tneutral\n";
    bench.write("data/train.tsv", pairs);
    bench.write("data/dev_matched.tsv", pairs);
    bench.out(
        "train --encoder @encoder --data-dir @data --cache-dir none --max-length 32 --epochs 1 \
         --output-dir @model",
    );
    let other = Bench::new("squad");
    let questions = serde_json::json!({"data": [{"paragraphs": [{"context": "anna", "qas": [
        {"id": "q", "question": "who ?", "answers": [{"text": "anna", "answer_start": 0}]}
    ]}]}]});
    other.write("questions.json", questions.to_string());
    let mut command = other.command("evaluate --file @questions.json --cache-dir none --model");
    command.arg(bench.path("model"));
    let finished = crate::common::example::finish(command);
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.err.contains("model: not a model of this task"),
        "{}",
        finished.err
    );
}

/// A pipe that ends, and a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_no_panic() {
    use std::process::Stdio;
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let common = "--data-dir @data --cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    let train = format!("train --encoder @encoder --output-dir @model {common}");
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let mut command = bench.command(&train);
    let status = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(bench.path("model/model.safetensors").exists());
    for arguments in ["evaluate --model @model", "predict --model @model"] {
        let arguments = format!("{arguments} --file @data/dev.tsv --cache-dir none");
        let mut command = bench.command(&arguments);
        let output = command
            .stdout(full())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: standard output: "), "{said}");
        // Nobody reads it.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bench.command(&arguments);
        let output = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    }
}
