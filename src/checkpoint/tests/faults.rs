//! Writing that fails at every operation.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::*;
use crate::checkpoint::disk::{Disk, Operation};

/// Which operations a checkpoint consists of, in their order.
fn operations() -> Vec<(Operation, PathBuf)> {
    let (_folder, checkpoints) = saved(&[1, 2]);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let mut checkpoints = checkpoints.with_disk(Disk::failing(move |operation, path| {
        log.borrow_mut().push((operation, path.to_path_buf()));
        Ok(())
    }));
    save(&mut checkpoints, 3).unwrap();

    seen.borrow().clone()
}

#[test]
fn a_failure_at_any_operation_leaves_the_earlier_checkpoints_whole() {
    let operations = operations();
    let count = |wanted| operations.iter().filter(|(o, _)| *o == wanted).count();
    // The test is worth nothing if it does not pass through these.
    assert!(count(Operation::Write) >= 8 && count(Operation::Rename) >= 4);
    assert!(count(Operation::SyncFile) == 6 && count(Operation::Link) == 2);
    let full = io::ErrorKind::StorageFull;
    let denied = io::ErrorKind::PermissionDenied;
    for kind in [full, denied] {
        for (index, operation) in operations.iter().enumerate() {
            let (folder, checkpoints) = saved(&[1, 2]);
            let left = Rc::new(Cell::new(index));
            let failed_at = Rc::new(RefCell::new(None));
            let note = Rc::clone(&failed_at);
            let mut checkpoints = checkpoints.with_disk(Disk::failing(move |operation, path| {
                match left.get().checked_sub(1) {
                    Some(fewer) => left.set(fewer),
                    // A full disk stays full, but what is there can be removed.
                    None if operation != Operation::Remove || note.borrow().is_none() => {
                        *note.borrow_mut() = Some(path.to_path_buf());
                        return Err(io::Error::from(kind));
                    }
                    None => {}
                }
                Ok(())
            }));
            let result = save(&mut checkpoints, 3);
            let place = format!("{kind:?} at {index}: {operation:?}");
            // The last: a removal that fails ends nothing.
            let failed_at = failed_at.borrow().clone().expect("an operation that fails");
            if let Err(error) = &result {
                let text = error.to_string();
                // The name that the file was to get, not the one it is written under.
                let file = failed_at.file_name().unwrap().to_string_lossy();
                let shown = file.trim_start_matches('.').trim_end_matches(".tmp");
                let folder = folder.path().display().to_string();
                assert!(
                    text.contains(shown) && text.contains(&folder),
                    "{place}: {text}"
                );
                let remedy = if kind == full {
                    "make room"
                } else {
                    "output_dir"
                };
                assert!(text.contains(remedy), "{place}: {text}");
            }
            // On a disk that is well again.
            let mut checkpoints = CheckpointFolder::new(folder.path());
            assert_whole(
                &checkpoints
                    .load(2)
                    .unwrap_or_else(|e| panic!("{place}: {e}")),
                2,
            );
            let newest = checkpoints.newest().unwrap().unwrap();
            assert!(newest.damaged.is_empty(), "{place}");
            let step = newest.loaded.position.global_step;
            assert_whole(&newest.loaded, step);
            assert!(step == 2 || step == 3, "{place}");
            assert!(step == 3 || result.is_err(), "{place}: {step}");
            for step in [1, 2] {
                let file = folder.path().join(format!("gs{step}.safetensors"));
                assert_eq!(
                    weights::read(file).unwrap()["weight"],
                    weights_of(step)[0].1
                );
            }
            assert!(weights::read(checkpoints.best()).is_ok(), "{place}");
            // Nothing is left over once a run begins again, and it can go on.
            checkpoints.prepare().unwrap();
            for folder in [folder.path().to_path_buf(), folder.path().join("state")] {
                let names = names(&folder);
                assert!(
                    names.iter().all(|name| !name.starts_with('.')),
                    "{place}: {names:?}"
                );
            }
            save(&mut checkpoints, 3).unwrap();
            assert_whole(&checkpoints.load(3).unwrap(), 3);
        }
    }
}

#[test]
fn a_deleted_folder_is_an_error_and_not_created_again() {
    let (folder, mut checkpoints) = saved(&[1]);
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    checkpoints.folder = gone.clone();
    let student = checkpoints.save_student(2, &weights_of(2)).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
    let text = error_of(checkpoints.save_student(3, &weights_of(3)));
    assert!(
        text.contains("gs3.safetensors") && text.contains("output_dir"),
        "{text}"
    );
    let text = error_of(checkpoints.save_state(
        &student,
        &Content {
            description: &Description::default(),
            position: &position_of(2),
            tensors: &StateTensors::default(),
        },
    ));
    assert!(text.contains("gone: the folder was deleted"), "{text}");
    assert!(!gone.exists());
}

/// A real full disk, where one can be mounted.
#[cfg(target_os = "linux")]
#[test]
fn a_small_file_system_that_fills_up() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=600k", "tmpfs"])
        .arg(folder.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: no file system can be mounted here");
        return;
    }
    /// Unmounts whatever happens.
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).output();
        }
    }
    let _mounted = Mounted(folder.path());
    let output = folder.path().join("out");
    let mut checkpoints = CheckpointFolder::new(&output);
    checkpoints.prepare().unwrap();
    // Each student takes 80 kB; the loop ends long before the limit.
    let failed = (1..100).find_map(|step| {
        save(&mut checkpoints, step)
            .err()
            .map(|error| (step, error))
    });
    let (step, error) = failed.expect("a full disk");
    let text = error.to_string();
    assert!(text.contains("make room"), "{text}");
    assert!(text.contains(&format!("gs{step}")), "{text}");
    let newest = CheckpointFolder::new(&output).newest().unwrap().unwrap();
    assert!(newest.damaged.is_empty());
    assert_whole(&newest.loaded, step - 1);
    for before in 1..step {
        let path = output.join(format!("gs{before}.safetensors"));
        assert_eq!(
            weights::read(path).unwrap()["weight"],
            weights_of(before)[0].1
        );
    }
    // With room again it goes on.
    checkpoints.remove_student(1);
    checkpoints.remove_student(2);
    save(&mut checkpoints, step).unwrap();
    assert_whole(&checkpoints.load(step).unwrap(), step);
}
