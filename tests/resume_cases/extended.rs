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
    // After those for the description.
    let calls = calls.take().split_off(9);
    assert_eq!(calls, [(4, 8), (5, 8), (6, 8), (7, 8)]);
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
