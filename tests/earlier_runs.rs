//! What an earlier run left behind is not overwritten unless that is asked for.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::tiny::{Net, config, files, first_line, loader, numbers, square};
use textbrewer::{BasicTrainer, Distiller, Error, Result, Sgd, TrainSummary, weights};

/// Two epochs of two steps, with a checkpoint after each epoch: at steps 2 and 4.
fn train(student: &Net, folder: &Path, overwrite: bool) -> Result<TrainSummary> {
    BasicTrainer::builder(student, &student.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()?
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .overwrite(overwrite)
        .run()
}

#[test]
fn a_checkpoint_of_another_program_is_in_the_way() {
    for step in [2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("gs{step}.safetensors"));
        std::fs::write(&path, "precious").unwrap();
        let student = Net::new(2, 4, 0.2);
        let before = numbers(&student.variables);
        let result = train(&student, folder.path(), false);
        assert!(matches!(&result, Err(Error::Config { .. })), "{result:?}");
        assert_eq!(
            first_line(result),
            format!(
                "output_dir: {} is from an earlier run and would be overwritten; choose another \
                 folder, or allow it with `overwrite(true)`",
                path.display()
            )
        );
        // Before anything was done.
        assert_eq!(numbers(&student.variables), before);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");

        train(&student, folder.path(), true).unwrap();
        assert!(!weights::read(&path).unwrap().is_empty());
    }
}

/// A run that may end with a checkpoint after any of its steps must not find one there.
#[test]
fn a_run_that_may_be_interrupted_needs_all_its_steps_free() {
    for (step, in_the_way) in [(1, true), (3, true), (5, false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("gs{step}.safetensors"));
        std::fs::write(&path, "precious").unwrap();
        let student = Net::new(2, 4, 0.2);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap();
        let mut loader = loader(2);
        let run = trainer
            .train(&mut loader)
            .optimizer(Sgd::new(0.1))
            .epochs(2);
        let result = run.stop_flag(Arc::new(AtomicBool::new(false))).run();
        assert_eq!(result.is_err(), in_the_way, "step {step}: {result:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}

/// The run of [`train`], which goes on from a folder; or from its own, if it can.
fn go_on(student: &Net, from: Option<&Path>, folder: &Path) -> Result<TrainSummary> {
    let mut trainer = BasicTrainer::builder(student, &student.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()?;
    let mut loader = loader(2);
    let run = trainer
        .train(&mut loader)
        .optimizer(Sgd::new(0.1))
        .epochs(2);
    match from {
        Some(from) => run.resume(from).run(),
        None => run.resume_or_start().run(),
    }
}

#[test]
fn a_run_that_goes_on_or_begins_replaces_students_that_have_no_state() {
    let whole = tempfile::tempdir().unwrap();
    train(&Net::new(2, 4, 0.2), whole.path(), false).unwrap();
    let student = |folder: &Path, step: u64| {
        std::fs::read(folder.join(format!("gs{step}.safetensors"))).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    for step in [2, 4] {
        let path = folder.path().join(format!("gs{step}.safetensors"));
        std::fs::write(path, "of an earlier run").unwrap();
    }
    // A run that only begins is refused there.
    let shown = first_line(train(&Net::new(2, 4, 0.2), folder.path(), false));
    assert!(
        shown.contains("gs2.safetensors is from an earlier run"),
        "{shown}"
    );
    assert_eq!(student(folder.path(), 2), b"of an earlier run");

    // What else there is when a run was killed before its first state was complete: a state
    // that did not get its name yet.
    let half = folder.path().join("state").join(".gs2.tmp");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("manifest.json"), "{").unwrap();
    let summary = go_on(&Net::new(2, 4, 0.2), None, folder.path()).unwrap();
    assert_eq!((summary.resumed_from, summary.global_steps), (None, 4));
    for step in [2, 4] {
        assert!(student(folder.path(), step) == student(whole.path(), step));
    }
    // It is one to go on from now.
    let summary = go_on(&Net::new(2, 4, 0.9), None, folder.path()).unwrap();
    assert_eq!(summary.resumed_from, Some(4));
}

#[test]
fn a_run_that_goes_on_in_another_folder_replaces_nothing_there() {
    let first = tempfile::tempdir().unwrap();
    train(&Net::new(2, 4, 0.2), first.path(), false).unwrap();
    let second = tempfile::tempdir().unwrap();
    let path = second.path().join("gs4.safetensors");
    std::fs::write(&path, "precious").unwrap();
    let student = Net::new(2, 4, 0.9);
    let shown = first_line(go_on(&student, Some(first.path()), second.path()));
    assert!(
        shown.contains("gs4.safetensors is from an earlier run"),
        "{shown}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    // In its own folder, by whatever name, its files are its own.
    let again = first.path().join("state").join("..");
    let summary = go_on(&student, Some(&again), first.path()).unwrap();
    assert_eq!(summary.resumed_from, Some(4));
}

#[test]
fn the_first_that_is_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for step in [2, 4] {
        std::fs::write(folder.path().join(format!("gs{step}.safetensors")), "").unwrap();
    }
    let shown = first_line(train(&Net::new(2, 4, 0.2), folder.path(), false));
    assert!(
        shown.contains("gs2.safetensors is from an earlier run"),
        "{shown}"
    );
}

#[test]
fn files_that_the_run_would_not_write_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let others = [
        "gs02.safetensors",
        "gs3.safetensors",
        "gs6.safetensors",
        "notes.txt",
    ];
    for name in others {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    train(&Net::new(2, 4, 0.2), folder.path(), false).unwrap();
    assert_eq!(files(folder.path()).len(), others.len() + 2);
    for name in others {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text, name);
    }
}

#[test]
fn runs_of_one_program_go_on_with_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    train(&student, folder.path(), false).unwrap();
    // By another name of the same folder.
    let again = folder.path().join(".").join("..");
    let again = again.join(folder.path().file_name().unwrap());
    train(&student, &again, false).unwrap();
    assert_eq!(files(folder.path()), ["gs2.safetensors", "gs4.safetensors"]);
}

/// A folder with the states 4 and 20 and the best student of another program.
fn of_another_program() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for step in [20, 4] {
        let state = folder.path().join(format!("state/gs{step}"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("manifest.json"), "{}").unwrap();
    }
    std::fs::write(folder.path().join("best.safetensors"), "precious").unwrap();
    folder
}

fn states(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("state")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn states_and_the_best_student_of_another_program_are_in_the_way() {
    let folder = of_another_program();
    let student = Net::new(2, 4, 0.2);
    let refused = |name: &str| {
        let shown = first_line(train(&student, folder.path(), false));
        let expected = format!(
            "output_dir: {} is from an earlier run; choose another folder, continue that run \
             (`resume_or_start`), or have it removed with `overwrite(true)`",
            folder.path().join(name).display()
        );
        assert_eq!(shown, expected);
    };
    refused("state/gs4");
    assert_eq!(states(folder.path()), ["gs20", "gs4"]);
    // Also where the run goes on, but from elsewhere.
    let other = tempfile::tempdir().unwrap();
    train(&Net::new(2, 4, 0.2), other.path(), false).unwrap();
    let result = go_on(&Net::new(2, 4, 0.2), Some(other.path()), folder.path());
    let shown = first_line(result);
    assert!(shown.contains("gs4 is from an earlier run"), "{shown}");

    std::fs::remove_dir_all(folder.path().join("state/gs4")).unwrap();
    refused("state/gs20");
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    refused("best.safetensors");
    assert_eq!(files(folder.path()), ["best.safetensors"]);
}

#[test]
fn a_run_that_overwrites_leaves_no_state_of_another() {
    let folder = of_another_program();
    let student = Net::new(2, 4, 0.2);
    train(&student, folder.path(), true).unwrap();
    assert_eq!(states(folder.path()), ["gs2", "gs4"]);
    assert_eq!(files(folder.path()), ["gs2.safetensors", "gs4.safetensors"]);
    let summary = go_on(&student, None, folder.path()).unwrap();
    assert_eq!(
        (summary.resumed_from, summary.damaged),
        (Some(4), Vec::new())
    );
}

#[test]
fn a_run_that_overwrites_and_fails_before_its_first_state_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    train(&student, folder.path(), false).unwrap();
    let begin = |epochs| {
        BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()?
            .train(&mut loader(2))
            .optimizer(Sgd::new(0.1))
            .epochs(epochs)
            .overwrite(true)
            .callback(|_, _| -> Result<()> { Err(Error::other("killed")) })
            .run()
    };
    // Nothing is removed for a run that is wrong.
    assert!(begin(0).is_err());
    assert_eq!(states(folder.path()), ["gs2", "gs4"]);
    assert!(begin(2).is_err());
    assert!(states(folder.path()).is_empty());
    let summary = go_on(&Net::new(2, 4, 0.2), None, folder.path()).unwrap();
    assert_eq!(summary.resumed_from, None);
}

#[test]
fn a_run_that_goes_on_removes_no_state_for_overwriting() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    train(&student, folder.path(), false).unwrap();
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .overwrite(true)
        .resume_or_start()
        .run()
        .unwrap();
    assert_eq!(summary.resumed_from, Some(4));
    assert_eq!(states(folder.path()), ["gs2", "gs4"]);
}

#[test]
fn the_best_student_of_this_program_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    for _ in 0..2 {
        let summary = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap()
            .train(&mut loader(2))
            .optimizer(Sgd::new(0.1))
            .epochs(2)
            .callback(|_, info| Ok(info.global_step as f64))
            .run()
            .unwrap();
        assert!(summary.best_path.is_some());
    }
}

#[test]
fn every_run_has_a_log_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let student = Net::new(2, 4, 0.2);
    let run = || {
        let config = config(&folder.path().join("models")).log_dir(&logs);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config)
            .adaptor(square)
            .build()
            .unwrap();
        let mut batches = loader(2);
        let run = trainer.train(&mut batches).optimizer(Sgd::new(0.1));
        run.epochs(1).run().unwrap().log_dir.unwrap()
    };
    let first = run();
    let name = files(&first).pop().unwrap();
    let before = std::fs::read(first.join(&name)).unwrap();
    let second = run();
    assert_eq!(first, logs.join("run-0001"));
    assert_eq!(second, logs.join("run-0002"));
    assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 2);
    assert_eq!(std::fs::read(first.join(&name)).unwrap(), before);
}
