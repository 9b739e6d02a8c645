//! What an earlier run left behind is not overwritten unless that is asked for.

mod common;

use std::path::Path;

use common::tiny::{config, files, first_line, loader, numbers, square, Net};
use textbrewer::{weights, BasicTrainer, Distiller, Error, Result, Sgd, TrainSummary};

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
                "output_dir: {} is there, of an earlier run, and would be overwritten; choose \
                 another folder, or ask for it with `overwrite(true)`",
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

#[test]
fn the_first_that_is_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for step in [2, 4] {
        std::fs::write(folder.path().join(format!("gs{step}.safetensors")), "").unwrap();
    }
    let shown = first_line(train(&Net::new(2, 4, 0.2), folder.path(), false));
    assert!(shown.contains("gs2.safetensors is there"), "{shown}");
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
    assert_ne!(first, second);
    assert_eq!(files(&logs), ["run-0001", "run-0002"]);
    assert_eq!(std::fs::read(first.join(&name)).unwrap(), before);
}
