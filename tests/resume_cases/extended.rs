//! Runs that are made longer than they were.

use std::cell::RefCell;
use std::path::Path;

use textbrewer::schedule::{LrSchedule, linear_with_warmup_fraction};
use textbrewer::{BasicTrainer, Distiller, Error, Result, Sgd, TrainSummary};

use crate::alone;
use crate::common::tiny::{Net, config, folder, loader, numbers, square};

fn train(
    folder: &Path,
    student: &Net,
    steps: u64,
    rate: f64,
    schedule: impl LrSchedule,
    extend: bool,
) -> Result<TrainSummary> {
    BasicTrainer::builder(student, &student.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()?
        .train(&mut loader(3))
        .steps(steps)
        .optimizer(Sgd::new(rate))
        .schedule(schedule)
        .resume_or_start()
        .extend(extend)
        .run()
}

fn differences(result: Result<TrainSummary>) -> Vec<String> {
    match result {
        Err(Error::ResumeMismatch { differences, .. }) => differences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decaying_run_is_extended_only_when_that_is_asked_for() {
    let _alone = alone();
    let folder = folder();
    let decay = linear_with_warmup_fraction(0.25);
    train(folder.path(), &Net::new(1, 4, 0.2), 4, 0.1, decay, false).unwrap();
    let student = Net::new(1, 4, 0.7);
    let before = numbers(&student.variables);
    let found = differences(train(folder.path(), &student, 8, 0.1, decay, false));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("run.schedule: [0.0,1.0,"), "{found:?}");
    assert!(
        found[0].ends_with("now; `extend(true)` allows another schedule"),
        "{found:?}"
    );
    assert_eq!(numbers(&student.variables), before);
    // All else is compared still.
    let found = differences(train(folder.path(), &student, 8, 0.2, decay, true));
    assert_eq!(
        found,
        ["groups[0].options.lr: 0.1 in the checkpoint, 0.2 now"]
    );
    assert_eq!(numbers(&student.variables), before);

    let calls = RefCell::new(Vec::new());
    let noted = |step, total| {
        calls.borrow_mut().push((step, total));
        decay(step, total)
    };
    let summary = train(folder.path(), &student, 8, 0.1, noted, true).unwrap();
    assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 8));
    // Those at first are for the description.
    let steps = [0, 1, 2, 5, 4, 5, 6, 7];
    assert_eq!(calls.take(), steps.map(|step| (step, 8)));
    // Its checkpoints are those of the longer run.
    let again = train(folder.path(), &student, 8, 0.1, decay, false).unwrap();
    assert_eq!(again.resumed_from, Some(8));
}

#[test]
fn a_longer_run_under_a_schedule_of_a_given_length_needs_no_permission() {
    let _alone = alone();
    let folder = folder();
    let student = Net::new(1, 4, 0.2);
    let schedule = textbrewer::schedule::linear_with_warmup(1, 10);
    train(folder.path(), &student, 4, 0.1, schedule, false).unwrap();
    let summary = train(folder.path(), &student, 8, 0.1, schedule, false).unwrap();
    assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 8));
}

/// A closure that has no answer for steps that the run has not.
#[test]
fn a_schedule_is_asked_for_no_step_after_the_last() {
    let _alone = alone();
    let folder = folder();
    let student = Net::new(1, 4, 0.2);
    let falling = |step: u64, total: u64| (total - step) as f64 / total as f64;
    let fresh = train(folder.path(), &student, 4, 0.1, falling, false).unwrap();
    assert_eq!((fresh.resumed_from, fresh.global_steps), (None, 4));
    let resumed = train(folder.path(), &student, 4, 0.1, falling, false).unwrap();
    assert_eq!((resumed.resumed_from, resumed.global_steps), (Some(4), 4));
    let found = differences(train(folder.path(), &student, 8, 0.1, falling, false));
    assert_eq!(
        found,
        [
            "run.schedule: [1.0,0.75,0.5] in the checkpoint, [1.0,0.875,0.75] now; `extend(true)` \
             allows another schedule"
        ]
    );
    let extended = train(folder.path(), &student, 8, 0.1, falling, true).unwrap();
    assert_eq!((extended.resumed_from, extended.global_steps), (Some(4), 8));
}

/// Checkpoints had the factors of nine steps, however short the run was.
#[test]
fn factors_of_steps_that_the_run_has_not_are_left_out() {
    let _alone = alone();
    let folder = folder();
    let student = Net::new(1, 4, 0.2);
    let schedule = textbrewer::schedule::linear_with_warmup(1, 10);
    train(folder.path(), &student, 4, 0.1, schedule, false).unwrap();
    let states = std::fs::read_dir(folder.path().join("state")).unwrap();
    for state in states {
        let path = state.unwrap().path().join("manifest.json");
        let text = std::fs::read(&path).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let factors = &mut manifest["description"]["run"]["schedule"];
        assert_eq!(factors.as_array().unwrap().len(), 3);
        let at = [0, 1, 2, 5, 10, 100, 1000, 10_000, 100_000];
        *factors = at.map(|step| schedule.factor(step, 4)).to_vec().into();
        std::fs::write(&path, manifest.to_string()).unwrap();
    }
    let another = textbrewer::schedule::linear_with_warmup(1, 9);
    let found = differences(train(folder.path(), &student, 8, 0.1, another, false));
    assert!(found[0].starts_with("run.schedule: [0.0,1.0,"), "{found:?}");
    let summary = train(folder.path(), &student, 8, 0.1, schedule, false).unwrap();
    assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 8));
}
