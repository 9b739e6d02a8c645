//! One training by two processes.

use std::process::{Output, Stdio};

use textbrewer::weights;

use super::bench::{Bench, sentences};
use super::common::ranks::{free_port, outputs, said, variables};

/// What comes of both of two processes.
fn outputs_of_two(bench: &Bench, arguments: &str) -> Vec<Output> {
    let port = free_port();
    let start = |rank| {
        let mut command = bench.command(arguments);
        command.envs(variables(rank, 2, port));
        command.env("OMP_NUM_THREADS", "1");
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    outputs(vec![start(0), start(1)])
}

/// What both of two processes print that end well.
fn by_two(bench: &Bench, arguments: &str) -> [String; 2] {
    let outputs = outputs_of_two(bench, arguments);
    let printed = outputs.iter().map(|output| {
        assert!(output.status.success(), "{}", said(output));
        String::from_utf8(output.stdout.clone()).unwrap()
    });
    let printed: Vec<_> = printed.collect();
    printed.try_into().unwrap()
}

#[test]
fn two_processes_train_what_one_does() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(4));
    bench.write("data/dev.tsv", sentences(2));
    // Each process would draw its own.
    let mut config = bench.json("encoder/config.json");
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        config[key] = 0.0.into();
    }
    bench.write("encoder/config.json", config.to_string());
    let common = "--data-dir @data --epochs 2 --max-length 32 --learning-rate 1e-3";
    let train = "train --encoder @encoder";
    let distill = "distill --teacher @teacher";
    bench.out(&format!(
        "{train} {common} --batch-size 4 --output-dir @teacher --cache-dir none"
    ));
    bench.out(&format!(
        "{distill} {common} --batch-size 4 --output-dir @student --cache-dir none"
    ));
    for (command, alone, together) in [(train, "teacher", "two"), (distill, "student", "of_two")] {
        // They make the features at once, and then find them.
        let arguments = format!(
            "{command} {common} --batch-size 2 --output-dir @{together} --cache-dir @features"
        );
        let [first, second] = by_two(&bench, &arguments);
        assert_eq!(second, "");
        assert_eq!(first.matches("epoch   2").count(), 1, "{first}");
        assert_eq!(first.matches("saved in").count(), 1, "{first}");
        let (one, two) = (bench.results(alone), bench.results(together));
        for key in ["metrics", "curve", "steps"] {
            assert_eq!(one[key], two[key], "{key}");
        }
        let weights = |name: &str| {
            let path = bench.path(&format!("{name}/model.safetensors"));
            weights::read(path).unwrap()
        };
        let (one, two) = (weights(alone), weights(together));
        for (name, tensor) in &one {
            let difference = (tensor - &two[name]).abs().max().double_value(&[]);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
        // Started again, both find that it has ended.
        let [first, second] = by_two(&bench, &format!("{arguments} --resume"));
        assert!(first.contains("resuming") && second.is_empty(), "{first}");
        // What only the first can tell does not leave the other waiting.
        let ended = outputs_of_two(&bench, &arguments);
        // The message of the first one goes with it, where it is quicker than the other.
        let reasons: [&[&str]; 2] = [
            &["--overwrite"],
            &["process 0 has left the group", "another process has ended"],
        ];
        for (output, reasons) in ended.iter().zip(reasons) {
            let said = said(output);
            let is_told = reasons.iter().any(|reason| said.contains(reason));
            assert!(!output.status.success() && is_told, "{said}");
        }
    }
    let kept = std::fs::read_dir(bench.path("features")).unwrap();
    let names = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.ends_with(".jsonl")));
}
