//! Damaged checkpoints, and which is used instead.

use super::*;
use crate::checkpoint::manifest::{DISTILLER, MANIFEST, OPTIMIZER, PROGRESS, RANDOM, STUDENT};

#[test]
fn a_damaged_newest_is_reported_and_the_one_before_is_used() {
    let files = FILES_AND_MANIFEST;
    for name in files {
        for damage in ["flip", "cut", "empty", "missing"] {
            let (folder, checkpoints) = saved(&[1, 2]);
            let path = folder.path().join("state/gs2").join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            // The student shares its bytes with gs2.safetensors; another file takes its place.
            std::fs::remove_file(&path).unwrap();
            match damage {
                "flip" => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                }
                "cut" => bytes.truncate(bytes.len() - 1),
                "empty" => bytes.clear(),
                _ => {}
            }
            if damage != "missing" {
                std::fs::write(&path, &bytes).unwrap();
            }
            let place = format!("{name}, {damage}");
            let newest = checkpoints.newest().unwrap().unwrap();
            if name == "manifest.json" && damage == "flip" {
                // A letter of a name in the description may have become another one: then
                // the run will not fit.
                continue;
            }
            assert_whole(&newest.loaded, 1);
            assert_eq!(newest.damaged.len(), 1, "{place}");
            let text = newest.damaged[0].to_string();
            assert!(text.contains(name), "{place}: {text}");
            assert!(
                text.contains("Resume from another checkpoint"),
                "{place}: {text}"
            );
        }
    }
}

#[test]
fn a_state_known_to_be_damaged_is_not_one_of_the_two_kept() {
    let (folder, _) = saved(&[1, 2]);
    std::fs::write(folder.path().join("state/gs2/progress.json"), "{").unwrap();
    let mut checkpoints = CheckpointFolder::new(folder.path());
    checkpoints.prepare().unwrap();
    let newest = checkpoints.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 1);
    checkpoints.continue_run(&newest);
    save(&mut checkpoints, 3).unwrap();
    let states = || names(&folder.path().join("state"));
    assert_eq!(states(), ["gs1", "gs2", "gs3"]);
    // Written anew it is whole, and counts.
    save(&mut checkpoints, 2).unwrap();
    assert_eq!(states(), ["gs2", "gs3"]);
}

#[test]
fn damaged_states_go_once_two_newer_ones_are_whole() {
    let (folder, _) = saved(&[1, 2]);
    std::fs::write(folder.path().join("state/gs2/progress.json"), "{").unwrap();
    let mut checkpoints = CheckpointFolder::new(folder.path());
    checkpoints.prepare().unwrap();
    let newest = checkpoints.newest().unwrap().unwrap();
    checkpoints.continue_run(&newest);
    save(&mut checkpoints, 3).unwrap();
    save(&mut checkpoints, 4).unwrap();
    assert_eq!(names(&folder.path().join("state")), ["gs3", "gs4"]);
}

const FILES_AND_MANIFEST: [&str; 6] = [MANIFEST, PROGRESS, STUDENT, OPTIMIZER, DISTILLER, RANDOM];

#[test]
fn when_all_are_damaged_that_is_an_error() {
    let (folder, checkpoints) = saved(&[1, 2]);
    for step in [1, 2] {
        std::fs::remove_file(folder.path().join(format!("state/gs{step}/progress.json"))).unwrap();
    }
    let text = error_of(checkpoints.newest());
    let all = "state: all 2 checkpoints are damaged: gs2/progress.json: is missing; \
               gs1/progress.json: is missing. Resume from another checkpoint";
    assert!(text.contains(all), "{text}");
    std::fs::remove_dir_all(folder.path().join("state/gs1")).unwrap();
    let text = error_of(checkpoints.newest());
    assert!(
        text.contains("state/gs2/progress.json: is missing. Resume"),
        "{text}"
    );
}

#[test]
fn of_many_that_are_damaged_some_are_named_and_all_are_counted() {
    let (folder, checkpoints) = saved(&[1]);
    let state = folder.path().join("state");
    for step in 2..=50 {
        // In many ways, and as long as a message may be.
        let path = state.join(format!("gs{step}"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(MANIFEST), "{\"\u{1b}[2J".repeat(step * 100)).unwrap();
    }
    std::fs::write(state.join("gs1").join(PROGRESS), "{").unwrap();
    let text = error_of(checkpoints.newest());
    assert!(
        text.contains("all 50 checkpoints are damaged: gs50/"),
        "{text}"
    );
    assert!(text.contains("; gs47/manifest.json: "), "{text}");
    assert!(
        text.contains("; 45 more; gs1/progress.json: has 1 bytes"),
        "{text}"
    );
    assert!(
        !text.contains("gs46") && !text.contains(char::is_control),
        "{text}"
    );
    assert!(text.len() < 3000);
}
