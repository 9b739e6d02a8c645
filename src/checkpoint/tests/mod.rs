//! Checkpoints that are written and read again.

mod damaged;
mod faults;
mod strangers;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::description::Description;
use super::folder::{CheckpointFolder, entries, step_of};
use super::read::Loaded;
use super::saved_position::SavedPosition;
use super::states::{Content, StateTensors};
use crate::error::Result;
use crate::weights;

/// Weights that depend on the step, over two pieces long.
fn weights_of(step: u64) -> Vec<(String, Tensor)> {
    let values = Tensor::full([20_000], step as f64, (Kind::Float, Device::Cpu));
    vec![("weight".to_owned(), values)]
}

fn position_of(step: u64) -> SavedPosition {
    SavedPosition {
        global_step: step,
        forward_step: 2 * step,
        epoch: 1,
        ..SavedPosition::default()
    }
}

fn save(checkpoints: &mut CheckpointFolder, step: u64) -> Result<()> {
    let student = checkpoints.save_student(step, &weights_of(step))?;
    let tensors = StateTensors {
        optimizer: BTreeMap::from([("weight.step".to_owned(), Tensor::from(step as i64))]),
        ..StateTensors::default()
    };
    checkpoints.save_state(
        &student,
        &Content {
            description: &Description::default(),
            position: &position_of(step),
            tensors: &tensors,
        },
    )?;
    checkpoints.point_best(step)
}

/// A folder with whole checkpoints of these steps.
fn saved(steps: &[u64]) -> (tempfile::TempDir, CheckpointFolder) {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = CheckpointFolder::new(folder.path());
    checkpoints.prepare().unwrap();
    for step in steps {
        save(&mut checkpoints, *step).unwrap();
    }
    (folder, checkpoints)
}

fn assert_whole(loaded: &Loaded, step: u64) {
    assert_eq!(loaded.position, position_of(step));
    assert_eq!(loaded.student["weight"], weights_of(step)[0].1);
    assert_eq!(
        loaded.tensors.optimizer["weight.step"].int64_value(&[]),
        step as i64
    );
    assert!(loaded.tensors.distiller.is_empty() && loaded.tensors.random.is_empty());
}

fn names(folder: &Path) -> Vec<String> {
    let names = entries(folder).unwrap().into_iter();
    names.map(|(name, _)| name).collect()
}

fn error_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    let text = result.unwrap_err().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_was_saved_is_loaded_and_older_states_go() {
    let (folder, checkpoints) = saved(&[1, 2, 10]);
    assert_eq!(
        names(folder.path()),
        [
            "best.safetensors",
            "gs1.safetensors",
            "gs10.safetensors",
            "gs2.safetensors",
            "state"
        ]
    );
    assert_eq!(names(&folder.path().join("state")), ["gs10", "gs2"]);
    assert_whole(&checkpoints.load(2).unwrap(), 2);
    let newest = checkpoints.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 10);
    assert!(newest.damaged.is_empty());
    let best = weights::read(checkpoints.best()).unwrap();
    assert_eq!(best["weight"], weights_of(10)[0].1);
}

#[test]
fn nothing_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        CheckpointFolder::new(folder.path())
            .newest()
            .unwrap()
            .is_none()
    );
    let missing = CheckpointFolder::new(folder.path().join("nowhere"));
    assert!(missing.newest().unwrap().is_none());
}

#[test]
fn another_run_in_the_folder_is_newer_though_its_step_is_smaller() {
    let (folder, _) = saved(&[30, 40]);
    let mut other = CheckpointFolder::new(folder.path());
    other.prepare().unwrap();
    for step in [1, 2, 3] {
        save(&mut other, step).unwrap();
    }
    assert_eq!(
        other.newest().unwrap().unwrap().loaded.position.global_step,
        3
    );
    // The states of the earlier run are not this one's to remove.
    let states = names(&folder.path().join("state"));
    assert_eq!(states, ["gs2", "gs3", "gs30", "gs40"]);
}

#[test]
fn a_state_of_the_same_step_is_replaced() {
    let (folder, mut checkpoints) = saved(&[1, 2]);
    std::fs::write(folder.path().join("state/gs2/manifest.json"), "{").unwrap();
    save(&mut checkpoints, 2).unwrap();
    assert_whole(&checkpoints.load(2).unwrap(), 2);
    assert_eq!(names(&folder.path().join("state")), ["gs1", "gs2"]);
}

#[test]
fn names_of_checkpoints() {
    assert_eq!(step_of("gs12"), Some(12));
    for other in ["gs", "gs01", "gs+1", "gs1.bin", "1"] {
        assert_eq!(step_of(other), None, "{other}");
    }
}

#[test]
fn hooks_have_a_file_and_a_format_of_their_own() {
    let (folder, mut checkpoints) = saved(&[1]);
    let student = checkpoints.save_student(2, &weights_of(2)).unwrap();
    let description = Description {
        hooks: vec!["ema".to_owned()],
        ..Description::default()
    };
    let tensors = StateTensors {
        hooks: BTreeMap::from([("ema/weight".to_owned(), Tensor::from(0.5))]),
        ..StateTensors::default()
    };
    let content = Content {
        description: &description,
        position: &position_of(2),
        tensors: &tensors,
    };
    let path = checkpoints.save_state(&student, &content).unwrap();
    let loaded = checkpoints.load(2).unwrap();
    assert_eq!(loaded.tensors.hooks["ema/weight"], Tensor::from(0.5));
    assert_eq!(
        (loaded.manifest.format, loaded.manifest.files.len()),
        (2, 6)
    );
    // Without hooks all is as before there were any.
    let other = folder.path().join("state/gs1");
    assert_eq!(checkpoints.load(1).unwrap().manifest.format, 1);
    assert!(!other.join("hooks.safetensors").exists());
    let manifest = std::fs::read_to_string(other.join("manifest.json")).unwrap();
    assert!(!manifest.contains("hooks"), "{manifest}");

    let file = path.join("hooks.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let text = error_of(checkpoints.load(2));
    assert!(
        text.contains("hooks.safetensors: has the checksum"),
        "{text}"
    );
    // A manifest that hides the file.
    let path = path.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("hooks.safetensors", "other")).unwrap();
    let text = error_of(checkpoints.load(2));
    assert!(text.contains("does not list `hooks.safetensors`"), "{text}");
}
