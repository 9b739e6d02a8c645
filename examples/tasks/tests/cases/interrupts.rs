//! A training that ends before its time, and goes on.

use super::bench::{Bench, sentences};

#[test]
fn an_interrupted_training_goes_on() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let train = "train --encoder @encoder --data-dir @data --batch-size 4 --max-length 32 \
                 --cache-dir none --epochs 2";
    bench.out(&format!("{train} --output-dir @once"));
    bench.out(&format!("{train} --output-dir @twice"));
    bench.fails_with(
        &format!("{train} --output-dir @twice"),
        &["twice", "overwrite"],
    );
    // As if it had been stopped in the second of its two epochs of three steps.
    std::fs::remove_dir_all(bench.path("twice/checkpoints/state/gs6")).unwrap();
    std::fs::remove_file(bench.path("twice/model.safetensors")).unwrap();
    let out = bench.out(&format!("{train} --output-dir @twice --resume"));
    assert!(
        out.contains("epoch   2") && !out.contains("epoch   1"),
        "{out}"
    );
    let bytes =
        |model: &str| std::fs::read(bench.path(&format!("{model}/model.safetensors"))).unwrap();
    assert!(bytes("once") == bytes("twice"));
    // The evaluation before it was resumed is not lost.
    let (once, twice) = (bench.results("once"), bench.results("twice"));
    assert_eq!(twice["curve_before"].as_array().map(Vec::len), Some(1));
    assert_eq!(twice["curve_before"][0], once["curve"][0]);
    assert_eq!(twice["curve"][0], once["curve"][1]);
    // With other examples, in whatever way, it would be another training.
    bench.write("data/other.tsv", sentences(2).replace("film", "plot"));
    let teacher = include_str!("../../recipes/sst2/teacher.json");
    for (name, key, value) in [
        ("best", "keep", serde_json::json!("best")),
        ("order", "group_by_length", serde_json::json!(false)),
        (
            "task",
            "task",
            serde_json::json!({"columns": ["sentence"], "labels": ["1", "0"]}),
        ),
    ] {
        let mut recipe: serde_json::Value = serde_json::from_str(teacher).unwrap();
        recipe[key] = value;
        bench.write(&format!("{name}.json"), recipe.to_string());
    }
    let usual = [
        ("--batch-size", "4"),
        ("--max-length", "32"),
        ("--epochs", "2"),
    ];
    for (option, value, expected) in [
        ("--train-file", "other.tsv", "other.tsv"),
        ("--dev-file", "other.tsv", "`dev`"),
        ("--max-length", "16", "`max_length`"),
        ("--stride", "3", "`stride`"),
        ("--batch-size", "3", "`batch_size`"),
        ("--train-size", "11", "`train_size`"),
        ("--recipe", "@best.json", "`keep`"),
        ("--recipe", "@order.json", "`group_by_length`"),
        ("--recipe", "@task.json", "`task`"),
        ("--epochs", "3", "`epochs` was 2, and now is 3"),
        ("--learning-rate", "1", "`learning_rate`"),
        ("--student", "T3", "`student`"),
    ] {
        let mut changed =
            String::from("train --encoder @encoder --data-dir @data --cache-dir none");
        for (name, value) in usual.iter().filter(|(name, _)| *name != option) {
            changed.push_str(&format!(" {name} {value}"));
        }
        bench.fails_with(
            &format!("{changed} --output-dir @twice --resume {option} {value}"),
            &["inputs.json", "other inputs", expected],
        );
    }
    // The same under another name is the same.
    bench.write("same.tsv", sentences(2));
    bench.out(&format!(
        "{train} --output-dir @twice --resume --train-file @same.tsv"
    ));
    // One that had ended is as it was.
    bench.out(&format!("{train} --output-dir @twice --resume"));
    assert_eq!(bench.results("twice")["metrics"], once["metrics"]);
    assert!(bytes("once") == bytes("twice"));
    // Without its checkpoints there is nothing to go on from.
    std::fs::remove_dir_all(bench.path("twice/checkpoints")).unwrap();
    bench.fails_with(
        &format!("{train} --output-dir @twice --resume"),
        &["twice", "checkpoints are gone"],
    );
    assert!(bytes("once") == bytes("twice"));
    bench.out(&format!("{train} --output-dir @twice --overwrite"));
}

#[test]
fn teachers_stay_in_their_order() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let common = "--data-dir @data --batch-size 4 --max-length 32 --cache-dir none --epochs 1";
    for (seed, name) in ["one", "two"].iter().enumerate() {
        bench.out(&format!(
            "train --encoder @encoder --output-dir @{name} {common} --seed {seed}"
        ));
    }
    let distill = format!("distill {common} --output-dir @student");
    bench.out(&format!("{distill} --teacher @one --teacher @two"));
    bench.fails_with(
        &format!("{distill} --teacher @two --teacher @one --resume"),
        &["inputs.json", "`models`"],
    );
}

#[test]
fn nobody_goes_on_from_what_was_to_be_replaced() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let train = "train --encoder @encoder --data-dir @data --batch-size 4 --max-length 32 \
                 --cache-dir none --epochs 1 --output-dir @model";
    bench.out(train);
    let before = std::fs::read(bench.path("model/model.safetensors")).unwrap();
    // The labels are corrected, and the training that is to replace the old one cannot begin.
    bench.write("data/train.tsv", sentences(2).replace("good", "funny"));
    bench.write("file", "");
    let log_dir = bench.path("file/logs");
    let recipe = serde_json::json!({"training": {"log_dir": log_dir}});
    bench.write("logs.json", recipe.to_string());
    bench.fails_with(
        &format!("{train} --overwrite --recipe @logs.json"),
        &["file/logs"],
    );
    let out = bench.out(&format!("{train} --resume"));
    assert!(out.contains("epoch   1"), "{out}");
    assert!(std::fs::read(bench.path("model/model.safetensors")).unwrap() != before);
}

/// A training in a process of its own, which is told to end.
#[cfg(unix)]
struct Training {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

#[cfg(unix)]
impl Training {
    fn start(bench: &Bench, arguments: &str) -> Self {
        use std::io::BufRead;
        use std::process::Stdio;
        let mut command = bench.command(arguments);
        let command = command.env("OMP_NUM_THREADS", "1");
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Training { child, lines }
    }

    /// The next epoch that it tells of.
    fn epoch(&mut self) -> Option<u64> {
        self.lines.find_map(|line| {
            let line = line.unwrap();
            let number = line.strip_prefix("epoch")?.split_whitespace().next()?;
            Some(number.parse().unwrap())
        })
    }

    /// Interrupts it after its next epoch; the last epoch that it told of, and what it said.
    fn interrupt(mut self) -> (u64, u64, String) {
        use std::io::Read;
        let first = self.epoch().expect("an epoch");
        let kill = std::process::Command::new("kill")
            .arg("-INT")
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
        let mut last = first;
        while let Some(epoch) = self.epoch() {
            last = epoch;
            // It has thousands more to go.
            if last > first + 2000 {
                self.child.kill().unwrap();
                panic!("the interrupt did not end it");
            }
        }
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{said}");
        (first, last, said)
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_training_that_can_go_on() {
    let bench = Bench::new("sst2");
    bench.write("data/train.tsv", sentences(2));
    bench.write("data/dev.tsv", sentences(1));
    let short = "train --encoder @encoder --data-dir @data --batch-size 4 --max-length 32 \
                 --cache-dir none --output-dir @model";
    // What an earlier training came to is not what comes of this one.
    bench.out(&format!("{short} --epochs 1"));
    let train = &format!("{short} --epochs 1000000");
    let overwriting = Training::start(&bench, &format!("{train} --overwrite"));
    let (first, last, said) = overwriting.interrupt();
    assert_eq!(first, 1);
    assert!(
        said.contains("interrupted") && said.contains("--resume"),
        "{said}"
    );
    // What is there is no whole model.
    assert!(!bench.path("model/model.safetensors").exists());
    assert_eq!(bench.results("model")["interrupted"], true);
    // Three steps an epoch; one more epoch may have begun.
    let steps = || bench.results("model")["steps"].as_u64().unwrap();
    let begun = last * 3..=last * 3 + 3;
    let done = steps();
    assert!(begun.contains(&done), "{done} steps, {last} epochs");
    let dev = "evaluate --model @model --file @data/dev.tsv --cache-dir none";
    bench.fails_with(dev, &["model", "has not ended", "--resume"]);
    let distill = "distill --teacher @model --data-dir @data --output-dir @x --cache-dir none";
    bench.fails_with(distill, &["model", "has not ended"]);

    let resumed = Training::start(&bench, &format!("{train} --resume"));
    let (first, last_of_resumed, _) = resumed.interrupt();
    assert_eq!(first, done / 3 + 1);
    assert!(steps() >= last_of_resumed * 3 && steps() > done);
}
