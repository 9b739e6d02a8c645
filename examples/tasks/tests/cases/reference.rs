//! What models say, beside what `transformers` says; see `models/README.md`.

use std::path::{Path, PathBuf};

use textbrewer::weights;

use super::bench::Bench;
use super::common::example::finish;

fn model(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/models");
    folder.join(name)
}

/// The probabilities that a model gives to the labels of texts.
fn probabilities(example: &'static str, name: &str, texts: &[&str]) -> Vec<Vec<f64>> {
    let bench = Bench::new(example);
    let mut command = bench.command("predict --max-length 32 --cache-dir none --model");
    command.arg(model(name)).args(texts);
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    numbers(&finished.out)
}

/// The numbers in lines like `label  first 0.123  second 0.877`.
fn numbers(out: &str) -> Vec<Vec<f64>> {
    let of_line = |line: &str| {
        let numbers = line.split_whitespace().skip(2).step_by(2);
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    out.lines().map(of_line).collect()
}

/// Compares with figures, of which three digits are printed.
fn compare(said: &[Vec<f64>], expected: &[&[f64]]) {
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(*expected) {
            assert!((said - expected).abs() < 6e-4, "{said} and {expected}");
        }
    }
}

#[test]
fn accents_that_are_not_stripped() {
    let texts = ["der film was schön", "der film was schon", "müll", "mull"];
    let expected: [&[f64]; 4] = [
        &[0.855603, 0.144397],
        &[0.201754, 0.798246],
        &[0.653039, 0.346961],
        &[0.131558, 0.868442],
    ];
    compare(&probabilities("sst2", "accents", &texts), &expected);
}

#[test]
fn added_tokens_and_the_model_that_is_trained_from_theirs() {
    let text = "[E1] the film [/E1] kubernetes was great";
    let said = probabilities("sst2", "added_tokens", &[text]);
    compare(&said, &[&[0.141901, 0.858099]]);
    let bench = Bench::new("sst2");
    for file in ["train.tsv", "dev.tsv"] {
        let text = format!("sentence\tlabel\n{text}\t1\nbad movie\t0\n");
        bench.write(&format!("data/{file}"), text);
    }
    let mut command = bench.command(
        "train --data-dir @data --output-dir @model --epochs 1 --batch-size 2 --max-length 32 \
         --cache-dir none --encoder",
    );
    command.arg(model("added_tokens"));
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    for name in [
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    ] {
        let read = |path| std::fs::read(path).unwrap();
        let own = read(model("added_tokens").join(name));
        assert_eq!(read(bench.path(&format!("model/{name}"))), own, "{name}");
    }
}

#[test]
fn a_model_with_one_segment() {
    let texts = ["the film was great\tthe movie was good"];
    let said = probabilities("mnli", "one_segment", &texts);
    compare(&said, &[&[0.660007, 0.194248, 0.145745]]);
}

/// It can be trained, taught and asked for parts of a text as any other.
#[test]
fn a_model_with_one_segment_learns() {
    let bench = Bench::new("mnli");
    let text = "sentence1\tsentence2\tgold_label\nthe film\tthe movie\tentailment\n\
                bad\tgood\tcontradiction\n";
    bench.write("data/train.tsv", text);
    bench.write("data/dev_matched.tsv", text);
    bench.write(
        "recipe.json",
        r#"{"student": "full", "epochs": 1, "batch_size": 2}"#,
    );
    let common = "--recipe @recipe.json --data-dir @data --max-length 32 --cache-dir none";
    for (command, model_option) in [
        ("train", "--encoder"),
        ("distill", "--teacher"),
        ("export", "--teacher"),
    ] {
        let mut arguments = bench.command(&format!("{command} --output-dir @{command} {common}"));
        arguments.arg(model_option).arg(model("one_segment"));
        let finished = finish(arguments);
        assert_eq!(finished.code, Some(0), "{command}: {}", finished.err);
    }
    let batches = weights::read(bench.path("export/epoch001.safetensors")).unwrap();
    assert!(batches.contains_key("000000.input_ids"));
    assert!(!batches.contains_key("000000.token_type_ids"));

    let bench = Bench::new("squad");
    let questions = r#"{"data": [{"paragraphs": [{"context": "anna lives in berlin", "qas": [
        {"id": "1", "question": "who ?", "answers": [{"text": "anna", "answer_start": 0}]}]}]}]}"#;
    bench.write("data/train-v1.1.json", questions);
    bench.write("data/dev-v1.1.json", questions);
    let mut command = bench.command(
        "train --output-dir @model --data-dir @data --max-length 32 --stride 8 --epochs 1 \
         --cache-dir none --encoder",
    );
    command.arg(model("one_segment"));
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
}

#[test]
fn settings_that_are_not_followed_are_named() {
    let bench = Bench::new("mnli");
    std::fs::create_dir(bench.path("model")).unwrap();
    for name in ["config.json", "model.safetensors", "vocab.txt"] {
        let copied = std::fs::read(model("no_label").join(name)).unwrap();
        bench.write(&format!("model/{name}"), copied);
    }
    let asked = |settings: &str| {
        bench.write("model/tokenizer_config.json", settings);
        let mut command = bench.command("predict --model @model --max-length 32 --cache-dir none");
        command.arg("the film\tbad movie");
        let finished = finish(command);
        assert_eq!(finished.code, Some(0), "{}", finished.err);
        finished.err
    };
    for (settings, key) in [
        (r#"{"do_basic_tokenize": false}"#, "do_basic_tokenize"),
        (r#"{"never_split": ["NaCl"]}"#, "never_split"),
        (r#"{"padding_side": "left"}"#, "padding_side"),
        (r#"{"truncation_side": "left"}"#, "truncation_side"),
    ] {
        let said = asked(settings);
        assert!(
            said.contains(&format!("tokenizer_config.json: `{key}` is not followed")),
            "{said}"
        );
    }
    let plain =
        r#"{"do_basic_tokenize": true, "never_split": ["[MASK]"], "padding_side": "right"}"#;
    assert_eq!(asked(plain), "");
}

#[test]
fn records_without_a_label() {
    let bench = Bench::new("mnli");
    let text = "sentence1\tsentence2\tgold_label\n\
                the film was great\tthe movie was good\tentailment\n\
                bad movie\tgood movie\tcontradiction\nthe king\tthe queen\t-\n";
    bench.write("snli.tsv", text);
    let mut command = bench.command("predict --file @snli.tsv --max-length 32 --cache-dir none");
    command.arg("--model").arg(model("no_label"));
    let finished = finish(command);
    let expected: [&[f64]; 3] = [
        &[0.438699, 0.117959, 0.443341],
        &[0.548277, 0.178313, 0.273410],
        &[0.255923, 0.742340, 0.001736],
    ];
    compare(&numbers(&finished.out), &expected);
}

#[test]
fn labels_in_another_order() {
    let texts = ["mary lives in berlin\tberlin is a city"];
    let said = probabilities("mnli", "label_order", &texts);
    compare(&said, &[&[0.075444, 0.531342, 0.393214]]);

    let bench = Bench::new("conll2003");
    bench.write("words.txt", "mary\nlives\nin\nberlin\n");
    let mut command = bench.command(
        "predict --file @words.txt --output @tags --max-length 32 --cache-dir none --model",
    );
    command.arg(model("tag_order"));
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    let tags = std::fs::read_to_string(bench.path("tags")).unwrap();
    assert_eq!(tags, "mary\tI-LOC\nlives\tI-ORG\nin\tO\nberlin\tI-ORG\n\n");
}
