//! Who has no logger, or one that shows errors only, sees the crate's warnings all the same.

use std::process::Command;

use textbrewer::logging::BarLogger;
use textbrewer::optim::{AdamW, GroupOptions, Optimizer, ParamGroup, Sgd, Split};
use textbrewer::teacher_file::Recording;
use textbrewer::{AdaptorOutput, BasicDistiller, DistillationConfig, Ids, TrainingConfig, from_fn};

/// The variable that tells the child which logger to have.
const LOGGER: &str = "TEXTBREWER_TEST_LOGGER";

/// Warns twice of the same, and once of something else of the kind.
#[test]
fn child_that_warns() {
    let Ok(logger) = std::env::var(LOGGER) else {
        return;
    };
    let env = |default: &str| env_logger::Env::default().default_filter_or(default.to_owned());
    match logger.as_str() {
        "none" => {}
        "errors" => env_logger::init(),
        "warnings" => env_logger::init_from_env(env("warn")),
        "other crates" => env_logger::init_from_env(env("warn,textbrewer=error")),
        "beside the bar" => {
            let logger = env_logger::Builder::from_env(env("warn")).build();
            let level = logger.filter();
            BarLogger::new(logger).init(level).unwrap();
            let second = env_logger::Builder::from_env(env("warn")).build();
            let error = BarLogger::new(second).init(level).unwrap_err();
            assert!(
                error.to_string().contains("has a logger already"),
                "{error}"
            );
        }
        other => panic!("{other}"),
    }
    for name in ["first", "first", "second"] {
        let options = GroupOptions::new().momentum(0.9);
        let group = ParamGroup::new(name, vec![]).options(options);
        AdamW::new(1e-4).add_group(group).unwrap();
    }
}

/// Three optimizers, of which one has nothing to do.
#[test]
fn child_with_a_rule_that_reaches_nothing() {
    if std::env::var(LOGGER).is_err() {
        return;
    }
    let inner = Split::new(|name| name == "b", Sgd::new(0.1), AdamW::new(0.1));
    let mut optimizer = Split::new(|name| name == "a", Sgd::new(0.1), inner);
    // Nothing to tell as long as there are no parameters at all.
    Split::new(|_| true, Sgd::new(0.1), Sgd::new(0.1))
        .step(1.0)
        .unwrap();
    for name in ["a", "b"] {
        let tensor = tch::Tensor::from_slice(&[1f32]).set_requires_grad(true);
        let group = ParamGroup::new(name, vec![(name.to_owned(), tensor)]);
        optimizer.add_group(group).unwrap();
    }
    optimizer.step(1.0).unwrap();
    optimizer.step(1.0).unwrap();
}

/// A teacher file that goes on without saying its teacher, and is read at another temperature.
#[test]
fn child_with_a_teacher_file() {
    if std::env::var(LOGGER).is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let logits = tch::Tensor::from_slice2(&[[0.5f32, 1.5, 2.5]]);
    let recorded = |name: &str, fact: Option<&str>| {
        let mut last = None;
        for id in 0..2 {
            let recording = Recording::new(folder.path().join(name)).top_k(2, 8.0);
            let recording = match fact {
                Some(teacher) => recording.fact("teacher", teacher),
                None => recording,
            };
            let mut recorder = recording.begin().unwrap();
            if !recorder.has_all(&[id]) {
                recorder
                    .add(&[id], &AdaptorOutput::new().logits(&logits))
                    .unwrap();
            }
            last = Some(recorder.finish().unwrap());
        }
        last.unwrap()
    };
    recorded("unnamed", None);
    let file = recorded("named", Some("a hash"));
    let variables = tch::nn::VarStore::new(tch::Device::Cpu);
    let student = from_fn(|_: &Ids, _| Ok(logits.shallow_clone()));
    for temperature in [8.0, 4.0] {
        let learn = DistillationConfig::default().kd_loss_type("forward_kl");
        BasicDistiller::builder(
            file.teacher(|_: &Ids| Ok(AdaptorOutput::new())),
            &student,
            &variables,
        )
        .train_config(TrainingConfig::default().device(tch::Device::Cpu))
        .distill_config(learn.temperature(temperature))
        .teacher_adaptor(|_, said| Ok(said.shallow_clone()))
        .student_adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
        .build()
        .unwrap();
    }
}

#[test]
fn what_a_teacher_file_cannot_know_is_warned_of() {
    let errors = errors("child_with_a_teacher_file", "none", None);
    let lines: Vec<&str> = errors
        .lines()
        .filter(|line| line.contains("warning"))
        .collect();
    let [teacher, temperature] = lines[..] else {
        panic!("{errors}")
    };
    assert!(
        teacher.contains("unnamed: what was recorded before"),
        "{errors}"
    );
    assert!(
        temperature.contains("`logits.0.top2` was taken at temperature 8, and the loss is at 4"),
        "{errors}"
    );
}

/// What a child writes to standard error.
fn errors(child: &str, logger: &str, switch: Option<&str>) -> String {
    let name = child;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]);
    child
        .env(LOGGER, logger)
        .env_remove("RUST_LOG")
        .env_remove("TEXTBREWER_WARNINGS");
    if let Some(switch) = switch {
        child.env("TEXTBREWER_WARNINGS", switch);
    }
    let output = child.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    errors
}

/// The warnings of the child that warns.
fn warnings(logger: &str, switch: Option<&str>) -> Vec<String> {
    let errors = errors("child_that_warns", logger, switch);
    let lines = errors
        .lines()
        .filter(|line| line.contains("optimizer group"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_rule_that_reaches_nothing_is_warned_of() {
    let errors = errors("child_with_a_rule_that_reaches_nothing", "none", None);
    let lines: Vec<_> = errors
        .lines()
        .filter(|line| line.contains("textbrewer: warning"))
        .collect();
    let expected =
        "textbrewer: warning: Split: the rule gives no parameter to the second optimizer";
    assert_eq!(lines, [expected]);
}

fn written(name: &str) -> String {
    format!(
        "textbrewer: warning: optimizer group `{name}`: this optimizer has no `momentum`; \
         the option is ignored"
    )
}

#[test]
fn without_a_logger_that_takes_them_warnings_are_written_once() {
    for logger in ["none", "errors", "other crates"] {
        let expected = [written("first"), written("second")];
        assert_eq!(warnings(logger, None), expected, "{logger}");
    }
}

#[test]
fn a_logger_that_takes_them_gets_all_of_them_and_nothing_else_is_written() {
    for logger in ["warnings", "beside the bar"] {
        let lines = warnings(logger, None);
        assert_eq!(lines.len(), 3, "{logger}: {lines:?}");
        for line in lines {
            assert!(
                line.contains(" WARN  textbrewer] optimizer group"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_variable_turns_off_what_no_logger_takes() {
    for logger in ["none", "errors"] {
        assert!(warnings(logger, Some("off")).is_empty(), "{logger}");
    }
    assert_eq!(warnings("warnings", Some("off")).len(), 3);
    assert_eq!(warnings("none", Some("on")).len(), 2);
}
