//! The examples that need no files, with settings that are too small to learn much: they end
//! well and print what they promise. Those on real tasks have tests of their own.

mod common;

use std::process::Command;

use common::example::{Finished, executable, finish};
use common::record;

fn run(example: &str, arguments: &str) -> Finished {
    let mut command = Command::new(executable(example));
    command.args(arguments.split_whitespace());
    finish(command)
}

/// What an example prints when all goes well.
fn output(example: &str, arguments: &str) -> String {
    let finished = run(example, arguments);
    assert_eq!(finished.code, Some(0), "{example}: {}", finished.err);
    finished.out
}

/// What an example prints that keeps the weights and losses of these trainings.
fn output_of(example: &str, arguments: &str, trainings: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let out = output(example, &format!("{arguments} --output-dir {path}"));
    for training in trainings {
        let files = common::tiny::files(&folder.path().join(training));
        let has_weights = files.iter().any(|name| name.ends_with(".safetensors"));
        assert!(has_weights, "{example}, {training}: {files:?}");
        let log = folder.path().join(training).join("run-0001");
        assert!(log.is_dir(), "{example}: no {}", log.display());
    }
    record::folder("", folder.path());
    out
}

/// The numbers in the line that begins with `name`, after the name.
fn numbers(out: &str, name: &str) -> Vec<f64> {
    let line = out.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no line begins with `{name}` in:\n{out}"));
    let words = line.split_whitespace();
    words
        .filter_map(|word| word.replace(',', "").parse().ok())
        .collect()
}

fn assert_percentages(name: &str, numbers: &[f64]) {
    let fit = numbers.iter().all(|number| (0.0..=100.0).contains(number));
    assert!(fit && !numbers.is_empty(), "{name}: {numbers:?}");
}

#[test]
fn each_explains_its_options() {
    for (example, option) in [
        ("random_tokens", "--bert-base"),
        ("multi_teacher", "--examples"),
        ("multi_task", "--tau"),
        ("emd", "--reestimate"),
        ("split_batches", "--examples"),
        ("teacher_file", "--teacher-file"),
        ("resume", "--output-dir"),
        ("launch", "--max-restarts"),
        ("data_parallel", "--output-dir"),
    ] {
        let help = output(example, "--help");
        assert!(help.contains("Usage:"), "{example}: {help}");
        assert!(help.contains(option), "{example}: {help}");
        let refused = run(example, "--no-such-option");
        assert_eq!(refused.code, Some(2), "{example}: {}", refused.out);
        assert!(refused.err.contains("--no-such-option"), "{}", refused.err);
    }
}

#[test]
fn random_tokens_saves_its_student() {
    for precision in ["bf16", "float32"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let out = output(
            "random_tokens",
            &format!(
                "--original --verbose --epochs 1 --batch-size 50 --device cpu --precision {precision} \
                 --teacher-precision float32 --output-dir {path} --log-dir {path}"
            ),
        );
        assert!(folder.path().join("gs2.safetensors").exists());
        for line in [
            format!("precision                   : {precision}"),
            "teacher_precision           : float32".to_owned(),
        ] {
            assert!(out.contains(&line), "{out}");
        }
        // Parameters, and their numbers by layer.
        let [teacher, student] = ["teacher ", "student "].map(|name| numbers(&out, name)[0]);
        assert_eq!((teacher, student), (2_590_082.0, 805_634.0), "{out}");
        assert_eq!(numbers(&out, "    encoder")[0], 2_379_264.0, "{out}");
        record::folder(precision, folder.path());
    }
}

/// The accuracies of the three models, of which the last learnt from labels alone.
fn accuracies(out: &str) -> [f64; 3] {
    ["teacher ", "student of teacher ", "student of labels "].map(|name| {
        let numbers = numbers(out, name);
        assert_eq!(numbers.len(), 5, "{out}");
        numbers[4]
    })
}

#[test]
fn random_tokens_saves_a_teacher_and_two_students() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let out = output(
        "random_tokens",
        &format!("--sequences 64 --labels 32 --device cpu --output-dir {path} --log-dir {path}"),
    );
    for training in ["teacher", "student_of_teacher", "student_of_labels"] {
        let of_training = folder.path().join(training);
        assert!(of_training.join("gs2.safetensors").exists(), "{training}");
        assert!(of_training.join("run-0001").is_dir(), "{training}");
    }
    record::folder("", folder.path());
    assert_percentages("random_tokens", &accuracies(&out));
    for missing in ["TrainingConfig", "encoder"] {
        assert!(!out.contains(missing), "{out}");
    }
    let widest = out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{out}");
}

/// At its own sizes: what the first example of all promises.
#[test]
fn random_tokens_shows_what_a_teacher_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let out = output(
        "random_tokens",
        &format!("--device cpu --output-dir {path}"),
    );
    let [teacher, taught, untaught] = accuracies(&out);
    assert!(teacher > 90.0, "{out}");
    assert!(taught > 90.0, "{out}");
    assert!(untaught < 85.0, "{out}");
}

#[test]
fn resume_tells_its_losses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    // Nobody answers, so it does not wait.
    let out = output("resume", &format!("--announce --output-dir {path}"));
    assert!(out.ends_with("done after step 12\n"), "{out}");
    let losses = out.lines().filter_map(|line| {
        let words: Vec<_> = line.strip_prefix("loss ")?.split(' ').collect();
        let bits = u64::from_str_radix(words[2], 16).unwrap();
        Some((words[0].to_owned(), words[1].parse().unwrap(), bits))
    });
    assert!(losses.clone().count() > 28, "{out}");
    record::losses("", losses);
    record::folder("", folder.path());
}

/// The lines of the table of `data_parallel`, and the one below it.
fn epochs(out: &str) -> (Vec<Vec<f64>>, &str) {
    let mut lines: Vec<_> = out.lines().collect();
    let last = lines.pop().unwrap();
    assert!(lines[0].trim_start().starts_with("epoch"), "{out}");
    let row = |line: &&str| numbers(line, "");
    (lines[1..].iter().map(row).collect(), last)
}

#[cfg(unix)]
#[test]
fn data_parallel_is_the_same_program_for_one_and_for_two() {
    let folder = tempfile::tempdir().unwrap();
    let program = executable("data_parallel");
    let arguments = |name: &str, epochs: u64| {
        let folder = folder.path().join(name);
        format!("--epochs {epochs} --output-dir {}", folder.display())
    };
    let two = |epochs| {
        let arguments = arguments("two", epochs);
        let finished = run("launch", &format!("-n 2 {} {arguments}", program.display()));
        assert_eq!(finished.code, Some(0), "{}", finished.err);
        // Not a word of either of them.
        assert_eq!(finished.err, "");
        finished.out
    };
    let (alone, by_two) = (output("data_parallel", &arguments("one", 2)), two(2));
    let ((alone, end), (by_two, end_of_two)) = (epochs(&alone), epochs(&by_two));
    assert_eq!(end, "done after 64 steps of 1 process(es) with 64 examples");
    assert_eq!(
        end_of_two,
        "done after 64 steps of 2 process(es) with 32 examples"
    );
    // The first process alone prints, and both had the examples of one.
    assert_eq!((alone.len(), by_two.len()), (2, 2));
    for (alone, by_two) in alone.iter().zip(&by_two) {
        let [epoch, step, loss, right] = alone[..] else {
            panic!("{alone:?}");
        };
        assert_eq!(by_two[..2], [epoch, step]);
        assert!((by_two[2] - loss).abs() < 1e-3, "{by_two:?}");
        assert!((by_two[3] - right).abs() < 0.5, "{by_two:?}");
    }
    // Started again, they go on.
    let again = two(3);
    let (rows, end) = epochs(&again);
    assert_eq!((rows.len(), rows[0][0]), (1, 3.0), "{again}");
    assert!(end.starts_with("done after 96 steps"), "{end}");
}

#[test]
fn emd_shows_distances_and_flows() {
    let trainings = ["teacher", "student"];
    let out = output_of("emd", "--epochs 2 --examples 64 --reestimate 3", &trainings);
    assert_eq!(out.matches("Flow between").count(), 4, "{out}");
    for name in ["hidden", "attention"] {
        let distances = numbers(&out, &format!("unweighted_emd_{name}"));
        assert!(distances.iter().all(|distance| *distance > 0.0), "{out}");
        assert_eq!(distances.len(), 2, "{out}");
    }
}

#[test]
fn multi_teacher_compares_its_ensembles() {
    let out = output_of(
        "multi_teacher",
        "--epochs 2 --examples 16",
        &[
            "teacher_0",
            "teacher_1",
            "teacher_2",
            "mean_of_logits",
            "mean_of_probabilities",
            "weights_3_1_1",
            "confidence",
        ],
    );
    for name in [
        "teacher 0, BERT 3 × 32",
        "teacher 1, BERT 2 × 64",
        "teacher 2, bag of tokens",
        "student, mean of logits",
        "student, mean of probabilities",
        "student, weights 3, 1, 1",
        "student, confidence",
    ] {
        let accuracies = numbers(&out, name);
        assert_eq!(accuracies.len(), 4, "{name}: {out}");
        assert_percentages(name, &accuracies);
        let mean = accuracies[..3].iter().sum::<f64>() / 3.0;
        assert!((mean - accuracies[3]).abs() < 0.11, "{name}: {out}");
    }
    let cached = numbers(&out, "Each teacher judged each batch once");
    assert!(cached[0] > 0.0, "{out}");
}

#[test]
fn multi_task_counts_the_batches_of_its_tasks() {
    let out = output_of(
        "multi_task",
        "--teacher-epochs 1 --steps 12 --examples 32 --tau 1",
        &["majority", "marker", "student"],
    );
    let [majority, marker] = ["majority", "marker"].map(|name| numbers(&out, name));
    assert_eq!(majority[0] + marker[0], 12.0, "{out}");
    for (name, numbers) in [("majority", &majority), ("marker", &marker)] {
        assert_eq!(numbers.len(), 4, "{out}");
        assert_percentages(name, &numbers[1..]);
    }
}

#[test]
fn split_batches_learns_the_same_from_logits_as_from_their_teacher() {
    let trainings = ["teacher", "words", "logits"];
    let out = output_of("split_batches", "--epochs 2 --examples 64", &trainings);
    let [words, logits] = numbers(&out, "mean loss")[..] else {
        panic!("{out}");
    };
    assert!(words > 0.0, "{out}");
    assert_eq!(words, logits, "{out}");
    assert_percentages("after", &numbers(&out, "accuracy after"));
    let difference = numbers(&out, "Largest difference between the losses of 4 steps:");
    assert!(difference[0] < 1e-6, "{out}");
}

#[test]
fn teacher_file_goes_on_with_what_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--teacher-file {}", folder.path().join("file").display());
    let first = output("teacher_file", &arguments);
    assert!(first.contains("2048 examples in "), "{first}");
    assert_eq!(output("teacher_file", &arguments), first);
}

#[test]
fn a_seed_decides_everything() {
    for (example, settings) in [
        ("multi_teacher", "--epochs 1 --examples 16"),
        ("multi_task", "--teacher-epochs 1 --steps 4 --examples 32"),
        ("split_batches", "--epochs 1 --examples 64"),
    ] {
        let of_seed = |seed| output(example, &format!("{settings} --seed {seed}"));
        let first = of_seed(1);
        assert_eq!(first, of_seed(1), "{example}");
        assert_ne!(first, of_seed(2), "{example}");
    }
}
