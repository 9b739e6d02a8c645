//! Processes that describe different runs.

use std::path::Path;

use tch::Kind;
use textbrewer::distributed::ProcessGroup;
use textbrewer::{BasicTrainer, Distiller, Result, Sgd};

use super::scene::{Scene, child, in_group, tell};
use crate::common::tiny::{Net, config, loader, square};

/// What a process has that is not the usual.
const OTHER: &str = "TEXTBREWER_TEST_OTHER";

fn train(group: Option<&ProcessGroup>, folder: &Path, other: &str) -> Result<String> {
    let is = |name| other == name;
    let mut student = Net::new(2, if is("width") { 5 } else { 4 }, 0.25);
    if is("depth") {
        student = Net::new(3, 4, 0.25);
    }
    if is("kind") {
        student.variables.set_kind(Kind::BFloat16);
    }
    let accumulation = if is("accumulation") { 2 } else { 1 };
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(
            config(folder)
                .ckpt_steps(2)
                .gradient_accumulation_steps(accumulation),
        )
        .adaptor(square)
        .build()?;
    let mut loader = loader(if is("batches") { 7 } else { 8 });
    let mut run = trainer
        .train(&mut loader)
        .steps(if is("steps") { 5 } else { 4 })
        .optimizer(Sgd::new(if is("rate") { 0.02 } else { 0.01 }))
        .resume_or_start();
    if let Some(group) = group {
        run = run.process_group(group);
    }
    let summary = run.run()?;
    Ok(format!("done after step {}", summary.global_steps))
}

#[test]
fn each_difference_is_named_once_in_all_processes() {
    if let Some((rendezvous, folder)) = child() {
        let other = std::env::var(OTHER).unwrap();
        tell(ProcessGroup::new(&rendezvous).and_then(|group| train(Some(&group), &folder, &other)));
        return;
    }
    for (others, count, expected) in [
        (
            ["", "rate", "rate"],
            1,
            "groups[0].options.lr: 0.01 in process 0, 0.02 in processes 1 and 2",
        ),
        (
            ["", "steps", ""],
            1,
            "steps: 4 in process 0, 5 in process 1",
        ),
        (
            ["", "", "accumulation"],
            1,
            "gradient_accumulation_steps: 1 in process 0, 2 in process 2",
        ),
        (
            ["batches", "", ""],
            1,
            "batches of all processes: 7 in process 0, 8 in processes 1 and 2",
        ),
        (
            ["", "width", ""],
            5,
            "variables `head.weight`.shape: [2,4] in process 0, [2,5] in process 1",
        ),
        (
            ["", "depth", ""],
            3,
            "`layers.2.weight`: not in process 0, {",
        ),
        (
            ["", "kind", ""],
            6,
            "variables `head.weight`.kind: \"Float\" in process 0, \"BFloat16\" in process 1",
        ),
    ] {
        let mut scene = Scene::new("differing::each_difference_is_named_once_in_all_processes");
        for (rank, other) in others.into_iter().enumerate() {
            scene.start(rank, 3, 60, &[(OTHER, other)]);
        }
        for (rank, told) in scene.end().iter().enumerate() {
            let start = format!(
                "process {rank} of 3, comparing the runs: the processes describe different runs"
            );
            assert!(told.text.starts_with(&start), "{others:?} {told:#?}");
            assert!(
                told.text.contains(&format!(" {count} difference(s):")),
                "{others:?} {told:#?}"
            );
            let found = told
                .text
                .lines()
                .filter(|line| line.contains(expected))
                .count();
            assert_eq!(found, 1, "{others:?} {told:#?}");
            assert!(
                !told.text.contains("checkpoint") && told.err.is_empty(),
                "{told:#?}"
            );
        }
    }
}

#[test]
fn folders_of_their_own_are_no_folder_of_all() {
    let name = "differing::folders_of_their_own_are_no_folder_of_all";
    let told = in_group(name, 2, 60, |group, folder| {
        let own = folder.join(group.rank().to_string());
        if group.is_first() {
            // An earlier run, of one process.
            train(None, &own, "")?;
        }
        train(Some(group), &own, "")
    });
    let Some(told) = told else { return };
    for told in told {
        assert!(
            told.text
                .contains("resuming: process 0 has the checkpoint of step 4 of run "),
            "{told:#?}"
        );
        assert!(
            told.text.ends_with(
                ", process 1 no checkpoint to resume from; all need to see one `output_dir`"
            ),
            "{told:#?}"
        );
    }
}
