//! What commands refuse, and what they say then.

use super::bench::{Bench, sentences};

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let train = "train --encoder @encoder --data-dir @data --output-dir @x --cache-dir none";
    bench.fails_with(
        &format!("{train} --recipe nothing"),
        &["nothing", "teacher, labels, distill, emd"],
    );
    bench.write("typo.json", r#"{"epoch": 3}"#);
    bench.fails_with(
        &format!("{train} --recipe @typo.json"),
        &["typo.json", "epoch"],
    );
    bench.fails_with(
        &format!("{train} --max-length 65"),
        &["64 pieces at most", "65"],
    );
    // What does not fit is told before any time goes into the features.
    bench.write("data/bad.tsv", "sentence\tlabel\nno label\n");
    bench.fails_with(
        &format!("{train} --train-file bad.tsv --student T3 --layers 0,9,10"),
        &["layers: expected 3 of 0 to 5"],
    );
    bench.out(&format!("{train} --epochs 1"));
    let distill = "distill --teacher @x --data-dir @data --output-dir @y --cache-dir none \
                   --train-file bad.tsv";
    bench.write("loss.json", r#"{"hidden_matches": ["hidden_mze"]}"#);
    bench.fails_with(&format!("{distill} --recipe @loss.json"), &["hidden_mze"]);
    bench.fails_with(distill, &["bad.tsv:2", "expected 2 fields"]);
    assert!(!bench.path("y/inputs.json").exists());
    bench.fails_with(
        "distill --teacher @encoder --data-dir @data --output-dir @x --cache-dir none",
        &["encoder", "train one from it first"],
    );
    bench.fails_with(
        "evaluate --model @nowhere --file @data/dev.tsv",
        &["nowhere"],
    );
}

#[test]
fn an_own_recipe_has_the_lengths_of_the_example() {
    let bench = Bench::new("squad");
    bench.write("mine.json", r#"{"epochs": 1}"#);
    bench.fails_with(
        "train --encoder @encoder --recipe @mine.json --data-dir @data --output-dir @x",
        &["64 pieces at most", "384"],
    );
}

/// An example with a small data set.
fn sst2() -> Bench {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    bench
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let bench = sst2();
    bench.write("predictions", "index\tprediction\n");
    let evaluate = "evaluate --file @data/dev.tsv";
    let of_file = format!("{evaluate} --predictions @predictions");
    let distill = "--teacher @encoder --data-dir @data --output-dir @x";
    for (arguments, expected) in [
        ("evaluate --model @encoder".to_owned(), "--file"),
        (evaluate.to_owned(), "--model"),
        (format!("{evaluate} --model @encoder good"), "good"),
        (format!("{of_file} --model @encoder"), "--model"),
        (format!("{of_file} --output @x"), "--output"),
        (format!("{of_file} --n-best @x"), "--n-best"),
        (format!("{of_file} --batch-size 3"), "--batch-size"),
        (format!("{of_file} --device cpu"), "--device"),
        ("predict --model @encoder".to_owned(), "--file"),
        ("predict --model @encoder".to_owned(), "[TEXTS]"),
        (
            "predict --model @encoder --file @x good".to_owned(),
            "--file",
        ),
        ("predict --file @data/dev.tsv".to_owned(), "--model"),
        (
            "predict --model @encoder good --device gpu".to_owned(),
            "unknown device `gpu`, expected `cpu`, `cuda`, `cuda:N`, `mps` or `vulkan`",
        ),
        (
            format!("distill {distill} --precision fp8"),
            "unknown precision `fp8`, expected one of `float32`, `bf16`, `fp16`",
        ),
        (format!("export {distill} --resume"), "--resume"),
        (
            format!("distill {distill} --resume --overwrite"),
            "--overwrite",
        ),
    ] {
        let finished = bench.run(&arguments);
        assert_eq!(finished.code, Some(2), "{arguments}: {}", finished.err);
        assert!(
            finished.err.contains(expected),
            "{arguments}: {}",
            finished.err
        );
    }
}

#[test]
fn a_training_that_could_not_begin_begins_when_it_can() {
    let bench = sst2();
    let train = "train --encoder @encoder --data-dir @data --output-dir @x --cache-dir none \
                 --batch-size 4 --max-length 32 --epochs 1";
    bench.write(
        "steps.json",
        r#"{"training": {"gradient_accumulation_steps": 64}}"#,
    );
    bench.fails_with(
        &format!("{train} --recipe @steps.json"),
        &["gradient_accumulation_steps", "64", "an epoch has 3"],
    );
    bench.fails_with(
        &train.replace("@x", "@data/train.tsv"),
        &["train.tsv", "File exists"],
    );
    bench.write("decay.json", r#"{"weight_decay": -1}"#);
    bench.fails_with(&format!("{train} --recipe @decay.json"), &["weight_decay"]);
    bench.write("data/test.tsv", "sentence\na film\n");
    bench.fails_with(
        &format!("{train} --dev-file test.tsv"),
        &["test.tsv", "0 of its 1 records have the truth"],
    );
    bench.fails_with(
        &format!("{train} --dev-file tset.tsv"),
        &["tset.tsv", "no such file", "data"],
    );
    // A student that learns from no layer.
    bench.write(
        "layer.json",
        r#"{"distillation": {"hard_label_weight": 1, "intermediate_matches": [
            {"layer_T": 99, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
        ]}}"#,
    );
    bench.out(train);
    let distill = "distill --teacher @x --data-dir @data --output-dir @y --cache-dir none \
                   --batch-size 4 --max-length 32 --epochs 1";
    bench.fails_with(
        &format!("{distill} --recipe @layer.json"),
        &["the teacher has no layer 99 of `hidden`, it has 0 to 6"],
    );
    bench.out(&format!("{distill} --resume"));
    bench.fails_with(
        &format!("{train} --overwrite --device cuda:63"),
        &["error: device: `cuda:63` is not there"],
    );
    // A device of the recipe that is not here is no matter when another is asked for.
    bench.write("device.json", r#"{"training": {"device": "cuda:63"}}"#);
    bench.out(&format!(
        "{train} --recipe @device.json --device cpu --overwrite"
    ));
}

#[test]
fn what_is_begun_with_is_not_replaced() {
    let bench = sst2();
    let common = "--data-dir @data --cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    let encoder = std::fs::read(bench.path("encoder/model.safetensors")).unwrap();
    for flag in ["", "--overwrite"] {
        bench.fails_with(
            &format!("train --encoder @encoder --output-dir @encoder {common} {flag}"),
            &["encoder", "starts from the model"],
        );
    }
    bench.out(&format!(
        "train --encoder @encoder --output-dir @teacher {common}"
    ));
    bench.fails_with(
        &format!("distill --teacher @teacher --output-dir @teacher/../teacher {common}"),
        &["teacher", "starts from the model"],
    );
    // An export writes its student in a folder of its own.
    std::fs::rename(bench.path("teacher"), bench.path("student")).unwrap();
    bench.fails_with(
        &format!("export --teacher @student --output-dir @student/.. {common} --overwrite"),
        &["student", "starts from the model"],
    );
    std::fs::rename(bench.path("student"), bench.path("teacher")).unwrap();
    // Nor do predictions replace what they are made of.
    let predict = "predict --model @teacher --file @data/dev.tsv --cache-dir none";
    let data = std::fs::read(bench.path("data/dev.tsv")).unwrap();
    bench.fails_with(
        &format!("{predict} --output @data/../data/dev.tsv"),
        &["dev.tsv", "another name"],
    );
    assert!(std::fs::read(bench.path("data/dev.tsv")).unwrap() == data);
    bench.fails_with(
        &format!("{predict} --output @teacher/config.json"),
        &["config.json", "a file of the model"],
    );
    bench.out(&format!("{predict} --output @teacher/predictions"));
    bench.fails_with(
        &format!("export --teacher @teacher --output-dir @export {common} --student BiGRU"),
        &["`export` cannot do this: a BiGRU"],
    );
    std::fs::create_dir(bench.path("new")).unwrap();
    let output = format!("--output {}/new/x", bench.path("").display());
    let n_best = format!("--n-best {}/./new/../new/x", bench.path("").display());
    bench.fails_with(&format!("{predict} {output} {n_best}"), &["another name"]);
    // A model that no training of this folder made, of whatever kind.
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let _ = std::fs::remove_dir_all(bench.path("other"));
        std::fs::create_dir(bench.path("other")).unwrap();
        bench.write(&format!("other/{name}"), "precious");
        let train = format!("train --encoder @encoder --output-dir @other {common}");
        bench.fails_with(&train, &["other", "--overwrite replaces"]);
        bench.fails_with(&format!("{train} --resume"), &["other", "no `inputs.json`"]);
        let left = std::fs::read(bench.path(&format!("other/{name}"))).unwrap();
        assert_eq!(left, b"precious");
    }
    // The tokenizer of an earlier model does not stay beside another.
    bench.out(&format!(
        "train --encoder @encoder --output-dir @other {common} --overwrite"
    ));
    assert!(!bench.path("other/tokenizer.json").exists());
    assert!(bench.path("other/vocab.txt").exists());
    assert!(std::fs::read(bench.path("encoder/model.safetensors")).unwrap() == encoder);
}

#[test]
fn teachers_share_a_tokenizer() {
    let bench = sst2();
    let common = "--data-dir @data --cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    for name in ["one", "two"] {
        bench.out(&format!(
            "train --encoder @encoder --output-dir @{name} {common}"
        ));
    }
    let words = std::fs::read_to_string(bench.path("two/vocab.txt")).unwrap();
    bench.write("two/vocab.txt", words.replace("good", "fine"));
    bench.fails_with(
        &format!("distill --teacher @one --teacher @two --output-dir @student {common}"),
        &["two", "share one tokenizer"],
    );
}

#[test]
fn only_readings_have_several_answers() {
    let bench = sst2();
    let common = "--data-dir @data --cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    bench.out(&format!(
        "train --encoder @encoder --output-dir @model {common}"
    ));
    bench.fails_with(
        "predict --model @model --file @data/dev.tsv --output @out --n-best @n_best",
        &["--n-best"],
    );
    assert!(!bench.path("out").exists());
}

#[test]
fn files_are_looked_for_in_the_data_folder() {
    let bench = sst2();
    // As a user has it: the folder of the data is relative, and the same name is within it.
    std::fs::create_dir_all(bench.path("data/data")).unwrap();
    bench.write("data/data/train.tsv", sentences(4));
    bench.write("data/more.tsv", sentences(1));
    let common = "--cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    for (number, (options, expected)) in [
        ("--data-dir data", "12 records to train on"),
        (
            "--data-dir data --train-file more.tsv",
            "6 records to train on",
        ),
        (
            "--data-dir data --augment more.tsv",
            "18 records to train on",
        ),
        (
            "--data-dir data/data --train-file ./data/train.tsv --dev-file data/dev.tsv",
            "12 records",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let arguments =
            format!("train --encoder @encoder {options} {common} --output-dir @{number}");
        let mut command = bench.command(&arguments);
        command.current_dir(bench.path(""));
        let finished = crate::common::example::finish(command);
        assert_eq!(finished.code, Some(0), "{options}: {}", finished.err);
        assert!(
            finished.out.contains(expected),
            "{options}: {}",
            finished.out
        );
    }
}

#[test]
fn a_model_brings_its_own_data_set() {
    let bench = sst2();
    let task = serde_json::json!({"columns": ["sentence"], "labels": ["bad", "good"]});
    let recipe = serde_json::json!({"task": task, "max_length": 32});
    bench.write("mine.json", recipe.to_string());
    for name in ["train", "dev"] {
        let text = sentences(2)
            .replace("\t1", "\tgood")
            .replace("\t0", "\tbad");
        bench.write(&format!("data/{name}.tsv"), text);
    }
    let common = "--data-dir @data --cache-dir none --batch-size 4 --max-length 32 --epochs 1";
    bench.out(&format!(
        "train --encoder @encoder --recipe @mine.json --output-dir @teacher {common}"
    ));
    // Neither a student nor an answer needs the recipe again.
    bench.out(&format!(
        "distill --teacher @teacher --output-dir @student {common}"
    ));
    bench.out(&format!(
        "train --encoder @teacher --recipe labels --output-dir @labels {common}"
    ));
    bench.write("short.json", r#"{"max_length": 16}"#);
    let out = bench.out("predict --model @student --recipe @short.json --cache-dir none funny");
    assert!(out.starts_with("good ") || out.starts_with("bad "), "{out}");
    let out = bench.out("predict --model @student --cache-dir none funny");
    assert!(out.starts_with("good ") || out.starts_with("bad "), "{out}");
    let other = Bench::new("squad");
    let mut command = other.command("evaluate --file @x --cache-dir none");
    let finished = crate::common::example::finish({
        command.arg("--model").arg(bench.path("student"));
        command
    });
    assert_eq!(finished.code, Some(1));
    for expected in ["student: no task of the example `squad`", "columns"] {
        assert!(finished.err.contains(expected), "{}", finished.err);
    }
}
