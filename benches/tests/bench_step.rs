//! The example `bench_step` measures a few steps, and says what it measured in a line for programs.

#[path = "../../tests/common/example.rs"]
mod example;

use std::process::Command;

use serde_json::Value;

use example::{Finished, executable, finish};

fn run(arguments: &str) -> Finished {
    let mut command = Command::new(executable("bench_step"));
    command.args(arguments.split_whitespace());
    finish(command)
}

/// What it prints when all goes well.
fn output(arguments: &str) -> String {
    let finished = run(arguments);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    finished.out
}

#[test]
fn explains_its_options() {
    assert!(output("--help").contains("--shape"));
}

/// The last line of `bench_step`, which programs read.
fn measured(arguments: &str) -> Value {
    let out = output(arguments);
    let line = out.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The keys in front, in the order in which the Python scripts have them.
fn assert_keys(line: &Value, expected: &[&str]) {
    let keys: Vec<_> = line.as_object().unwrap().keys().collect();
    assert!(keys.len() >= expected.len(), "{line}");
    assert_eq!(keys[..expected.len()], *expected, "{line}");
}

#[test]
fn measures_random_tokens() {
    let line = measured("--shape random_tokens --steps 3 --batch 2 --length 8 --threads 1");
    let keys = "steps median_step_s min_step_s total_s peak_rss_mb peak_gpu_mb";
    assert_keys(&line, &keys.split(' ').collect::<Vec<_>>());
    let number = |key: &str| {
        line[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {line}"))
    };
    assert_eq!(number("steps"), 3.0);
    assert!(0.0 < number("min_step_s"), "{line}");
    assert!(number("min_step_s") <= number("median_step_s"), "{line}");
    assert!(3.0 * number("min_step_s") <= number("total_s"), "{line}");
    assert!(number("final_loss") > 0.0, "{line}");
    assert_eq!(line["cached"], false);
    assert_eq!(line["device"], "cpu");
    #[cfg(target_os = "linux")]
    assert!(number("peak_rss_mb") > 400.0, "{line}"); // the weights of the teacher alone
}

#[test]
fn measures_the_tiny_model() {
    let line = measured("--shape tiny --steps 3");
    assert_keys(&line, &["steps", "ms_per_step"]);
    assert_eq!((&line["steps"], &line["threads"]), (&3.into(), &1.into()));
    assert!(line["ms_per_step"].as_f64().unwrap() > 0.0, "{line}");
    assert_eq!(line["measured_from_epoch"], 1);
    assert_eq!(line["precision"], "float32");
    assert_eq!(line["epochs"], 1);
}

/// Twenty batches are an epoch, in which the cache is filled; only what follows is measured.
#[test]
fn measures_from_the_second_epoch_with_a_cache() {
    let line = measured("--shape tiny --steps 3 --cache --precision bf16");
    assert_eq!(line["precision"], "bf16");
    assert_eq!(line["teacher_precision"], "bf16");
    assert_eq!(line["steps"], 3);
    assert_eq!(line["cached"], true);
    assert_eq!(
        (&line["measured_from_epoch"], &line["epochs"]),
        (&2.into(), &2.into())
    );
    assert!(line["cache_mb"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn refuses_a_precision_that_it_does_not_know() {
    let refused = run("--shape tiny --steps 1 --precision fp8");
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(refused.err.contains("fp8"), "{}", refused.err);
    assert!(refused.err.contains("bf16"), "{}", refused.err);
}

#[test]
fn has_the_small_student_for_the_large_shape_only() {
    let refused = run("--shape tiny --steps 1 --student small");
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(
        refused.err.contains("--shape random_tokens"),
        "{}",
        refused.err
    );
}
