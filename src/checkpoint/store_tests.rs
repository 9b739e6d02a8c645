//! Writing that fails at every operation, and folders from strangers.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tch::{Device, Kind};

use super::super::disk::Operation;
use super::*;

/// Weights that depend on the step, over two pieces long.
fn weights_of(step: u64) -> Vec<(String, Tensor)> {
    let values = Tensor::full([20_000], step as f64, (Kind::Float, Device::Cpu));
    vec![("weight".to_owned(), values)]
}

fn progress_of(step: u64) -> Progress {
    Progress {
        global_step: step,
        forward_step: 2 * step,
        epoch: 1,
        ..Progress::default()
    }
}

fn save(store: &mut Store, step: u64) -> Result<()> {
    let student = store.save_student(step, &weights_of(step))?;
    let tensors = StateTensors {
        optimizer: BTreeMap::from([("weight.step".to_owned(), Tensor::from(step as i64))]),
        ..StateTensors::default()
    };
    store.save_state(
        &student,
        &Content {
            description: &Description::default(),
            progress: &progress_of(step),
            tensors: &tensors,
        },
    )?;
    store.point_best(step)
}

/// A folder with whole checkpoints of these steps.
fn saved(steps: &[u64]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::new(folder.path());
    store.prepare().unwrap();
    for step in steps {
        save(&mut store, *step).unwrap();
    }
    (folder, store)
}

fn assert_whole(loaded: &Loaded, step: u64) {
    assert_eq!(loaded.progress, progress_of(step));
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
    let (folder, store) = saved(&[1, 2, 10]);
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
    assert_whole(&store.load(2).unwrap(), 2);
    let newest = store.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 10);
    assert!(newest.damaged.is_empty());
    let best = weights::read(store.best()).unwrap();
    assert_eq!(best["weight"], weights_of(10)[0].1);
}

#[test]
fn nothing_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Store::new(folder.path()).newest().unwrap().is_none());
    let missing = Store::new(folder.path().join("nowhere"));
    assert!(missing.newest().unwrap().is_none());
}

#[test]
fn another_run_in_the_folder_is_newer_though_its_step_is_smaller() {
    let (folder, _) = saved(&[30, 40]);
    let mut other = Store::new(folder.path());
    other.prepare().unwrap();
    for step in [1, 2, 3] {
        save(&mut other, step).unwrap();
    }
    assert_eq!(
        other.newest().unwrap().unwrap().loaded.progress.global_step,
        3
    );
    // The states of the earlier run are not this one's to remove.
    let states = names(&folder.path().join("state"));
    assert_eq!(states, ["gs2", "gs3", "gs30", "gs40"]);
}

#[test]
fn a_state_of_the_same_step_is_replaced() {
    let (folder, mut store) = saved(&[1, 2]);
    std::fs::write(folder.path().join("state/gs2/manifest.json"), "{").unwrap();
    save(&mut store, 2).unwrap();
    assert_whole(&store.load(2).unwrap(), 2);
    assert_eq!(names(&folder.path().join("state")), ["gs1", "gs2"]);
}

/// Which operations a checkpoint consists of, in their order.
fn operations() -> Vec<(Operation, PathBuf)> {
    let (_folder, store) = saved(&[1, 2]);
    let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let mut store = store.with_disk(Disk::failing(move |operation, path| {
        log.borrow_mut().push((operation, path.to_path_buf()));
        Ok(())
    }));
    save(&mut store, 3).unwrap();

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
            let (folder, store) = saved(&[1, 2]);
            let left = Rc::new(Cell::new(index));
            let failed_at = Rc::new(std::cell::RefCell::new(None));
            let note = Rc::clone(&failed_at);
            let mut store = store.with_disk(Disk::failing(move |operation, path| {
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
            let result = save(&mut store, 3);
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
            let mut store = Store::new(folder.path());
            assert_whole(&store.load(2).unwrap_or_else(|e| panic!("{place}: {e}")), 2);
            let newest = store.newest().unwrap().unwrap();
            assert!(newest.damaged.is_empty(), "{place}");
            let step = newest.loaded.progress.global_step;
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
            assert!(weights::read(store.best()).is_ok(), "{place}");
            // Nothing is left over once a run begins again, and it can go on.
            store.prepare().unwrap();
            for folder in [folder.path().to_path_buf(), folder.path().join("state")] {
                let names = names(&folder);
                assert!(
                    names.iter().all(|name| !name.starts_with('.')),
                    "{place}: {names:?}"
                );
            }
            save(&mut store, 3).unwrap();
            assert_whole(&store.load(3).unwrap(), 3);
        }
    }
}

#[test]
fn a_folder_that_was_deleted_is_told_and_not_made_anew() {
    let (folder, mut store) = saved(&[1]);
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    store.folder = gone.clone();
    let student = store.save_student(2, &weights_of(2)).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
    let text = error_of(store.save_student(3, &weights_of(3)));
    assert!(
        text.contains("gs3.safetensors") && text.contains("output_dir"),
        "{text}"
    );
    let text = error_of(store.save_state(
        &student,
        &Content {
            description: &Description::default(),
            progress: &progress_of(2),
            tensors: &StateTensors::default(),
        },
    ));
    assert!(text.contains("gone: the folder was deleted"), "{text}");
    assert!(!gone.exists());
}

#[test]
fn a_damaged_newest_is_reported_and_the_one_before_is_used() {
    let files = FILES_AND_MANIFEST;
    for name in files {
        for damage in ["flip", "cut", "empty", "missing"] {
            let (folder, store) = saved(&[1, 2]);
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
            let newest = store.newest().unwrap().unwrap();
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
    let mut store = Store::new(folder.path());
    store.prepare().unwrap();
    let newest = store.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 1);
    store.continue_run(&newest);
    save(&mut store, 3).unwrap();
    let states = || names(&folder.path().join("state"));
    assert_eq!(states(), ["gs1", "gs2", "gs3"]);
    // Written anew it is whole, and counts.
    save(&mut store, 2).unwrap();
    assert_eq!(states(), ["gs2", "gs3"]);
}

#[test]
fn damaged_states_go_once_two_newer_ones_are_whole() {
    let (folder, _) = saved(&[1, 2]);
    std::fs::write(folder.path().join("state/gs2/progress.json"), "{").unwrap();
    let mut store = Store::new(folder.path());
    store.prepare().unwrap();
    let newest = store.newest().unwrap().unwrap();
    store.continue_run(&newest);
    save(&mut store, 3).unwrap();
    save(&mut store, 4).unwrap();
    assert_eq!(names(&folder.path().join("state")), ["gs3", "gs4"]);
}

const FILES_AND_MANIFEST: [&str; 6] = [MANIFEST, PROGRESS, STUDENT, OPTIMIZER, DISTILLER, RANDOM];

#[test]
fn when_all_are_damaged_that_is_an_error() {
    let (folder, store) = saved(&[1, 2]);
    for step in [1, 2] {
        std::fs::remove_file(folder.path().join(format!("state/gs{step}/progress.json"))).unwrap();
    }
    let text = error_of(store.newest());
    let all = "state: all 2 checkpoints are damaged: gs2/progress.json: is missing; \
               gs1/progress.json: is missing. Resume from another checkpoint";
    assert!(text.contains(all), "{text}");
    std::fs::remove_dir_all(folder.path().join("state/gs1")).unwrap();
    let text = error_of(store.newest());
    assert!(
        text.contains("state/gs2/progress.json: is missing. Resume"),
        "{text}"
    );
}

#[test]
fn of_many_that_are_damaged_some_are_named_and_all_are_counted() {
    let (folder, store) = saved(&[1]);
    let state = folder.path().join("state");
    for step in 2..=50 {
        // In many ways, and as long as a message may be.
        let path = state.join(format!("gs{step}"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(MANIFEST), "{\"\u{1b}[2J".repeat(step * 100)).unwrap();
    }
    std::fs::write(state.join("gs1").join(PROGRESS), "{").unwrap();
    let text = error_of(store.newest());
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

#[test]
fn a_text_that_could_not_be_read_again_is_neither_written_nor_read() {
    let (folder, mut store) = saved(&[1]);
    let student = store.save_student(2, &weights_of(2)).unwrap();
    let mut description = Description::default();
    let long = "x".repeat(TEXT_LIMIT as usize);
    description.distiller.insert("long".to_owned(), long);
    let progress = progress_of(2);
    let content = Content {
        description: &description,
        progress: &progress,
        tensors: &StateTensors::default(),
    };
    let text = error_of(store.save_state(&student, &content));
    assert!(text.contains("manifest.json: would have 1677"), "{text}");
    assert!(text.contains("save_state(false)"), "{text}");
    assert_eq!(names(&folder.path().join("state")), ["gs1"]);
    // From a stranger: nothing of it is read.
    let manifest = std::fs::File::create(folder.path().join("state/gs1/manifest.json")).unwrap();
    manifest.set_len(TEXT_LIMIT + 1).unwrap();
    let text = error_of(store.newest());
    assert!(text.contains("has 16777217 bytes, more than"), "{text}");
}

/// Changes the manifest of gs2 as text; what loading it says.
fn with_manifest(change: impl Fn(String) -> String) -> String {
    let (folder, store) = saved(&[2]);
    let path = folder.path().join("state/gs2/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed);
    std::fs::write(&path, changed).unwrap();
    error_of(store.load(2))
}

#[test]
fn strange_manifests_are_refused() {
    let cases: [(&str, &str, &str); 8] = [
        (
            "\"format\": 1",
            "\"format\": 2",
            "has format 2, written by version",
        ),
        ("\"format\": 1", "\"format\": 0", "has format 0"),
        (
            "\"global_step\": 2",
            "\"global_step\": 3",
            "is of step 3, its folder is not",
        ),
        (
            "student.safetensors",
            "../../victim",
            "does not list `student.safetensors`",
        ),
        (
            "\"files\": {",
            "\"files\": {\"/etc/passwd\": {\"bytes\": 1, \"crc32\": 1},",
            "lists `/etc/passwd`, which belongs to no checkpoint",
        ),
        (
            "\"files\": {",
            "\"files\": {\"../x\": {\"bytes\": 1, \"crc32\": 1},",
            "lists `../x`",
        ),
        ("\"crc32\": ", "\"crc32\": 9999999999", "is damaged"),
        ("\"sequence\"", "\"surprise\"", "unknown field `surprise`"),
    ];
    for (from, to, expected) in cases {
        let text = with_manifest(|text| text.replacen(from, to, 1));
        assert!(text.contains(expected), "{to}: {text}");
        assert!(text.contains("manifest.json"), "{to}: {text}");
    }
    let text = with_manifest(|_| "[".repeat(100_000));
    assert!(text.contains("is no manifest"), "{text}");
    let text = with_manifest(|_| String::new());
    assert!(text.contains("is no manifest"), "{text}");
}

#[test]
fn a_later_version_is_not_passed_over() {
    let (folder, store) = saved(&[1, 2]);
    let path = folder.path().join("state/gs2/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
    assert!(matches!(
        store.newest().unwrap_err(),
        Error::CheckpointVersion {
            found: 7,
            known: 1,
            ..
        }
    ));
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let (folder, store) = saved(&[2]);
    // As long as it says, without taking room: a terabyte with a matching manifest.
    let path = folder.path().join("state/gs2/progress.json");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(1 << 40).unwrap();
    let text = error_of(store.load(2));
    assert!(
        text.contains("progress.json: has 1099511627776 bytes"),
        "{text}"
    );
    let path = folder.path().join("state/gs2/manifest.json");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(1 << 40).unwrap();
    let text = error_of(store.load(2));
    assert!(text.contains("more than the 16777216"), "{text}");
}

/// Writes a progress file and makes the manifest fit it, as a stranger can.
fn with_progress(text: &str) -> Result<Loaded> {
    let (folder, store) = saved(&[2]);
    let state = folder.path().join("state/gs2");
    std::fs::write(state.join(PROGRESS), text).unwrap();
    let path = state.join(MANIFEST);
    let manifest = std::fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["files"][PROGRESS] = serde_json::json!({
        "bytes": text.len(), "crc32": crc32fast::hash(text.as_bytes()),
    });
    std::fs::write(&path, manifest.to_string()).unwrap();
    store.load(2)
}

#[test]
fn absurd_progress_is_refused() {
    let good = serde_json::to_string(&progress_of(2)).unwrap();
    assert!(with_progress(&good).is_ok());
    for (from, to) in [
        (
            "\"forward_step\":4",
            "\"forward_step\":18446744073709551615",
        ),
        (
            "\"forward_step\":4",
            "\"forward_step\":18446744073709551616",
        ),
        ("\"forward_step\":4", "\"forward_step\":-1"),
        ("\"epoch\":1", "\"epoch\":0"),
        ("\"batch\":0", "\"batch\":9223372036854775807"),
        ("\"global_step\":2", "\"global_step\":1"),
        ("\"stopped\":null", "\"stopped\":\"no\""),
        ("\"history\":[]", "\"history\":[{\"step\":1e400}]"),
    ] {
        assert!(good.contains(from), "{from}");
        let text = error_of(with_progress(&good.replacen(from, to, 1)));
        assert!(text.contains("progress.json"), "{to}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (elsewhere, _) = saved(&[2]);
    let there = elsewhere.path().join("state/gs2");
    // A file, a state folder, the folder of states.
    for (name, expected) in [
        ("state/gs2/optimizer.safetensors", "is a link"),
        ("state/gs2/manifest.json", "is a link"),
        ("state/gs2", "is no folder"),
    ] {
        let (folder, store) = saved(&[2]);
        let path = folder.path().join(name);
        let target = match path.file_name().unwrap().to_str() {
            Some("gs2") => there.clone(),
            Some(file) => there.join(file),
            None => unreachable!(),
        };
        store.disk.remove(&path).unwrap();
        symlink(target, &path).unwrap();
        let text = error_of(store.load(2));
        assert!(text.contains(name) && text.contains(expected), "{text}");
    }
    let (folder, mut store) = saved(&[2]);
    let path = folder.path().join("state");
    store.disk.remove(&path).unwrap();
    symlink(elsewhere.path().join("state"), &path).unwrap();
    assert!(error_of(store.newest()).contains("state: is a link"));
    assert!(error_of(save(&mut store, 3)).contains("is no folder of its own"));
    assert_eq!(names(&elsewhere.path().join("state")), ["gs2"]);
}

#[cfg(unix)]
#[test]
fn nothing_is_cleared_away_behind_a_link() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let precious = elsewhere.path().join(".gs1.tmp");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("state")).unwrap();
    let line = error_of(Store::new(folder.path()).prepare());
    assert!(line.contains("is a link"), "{line}");
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

#[test]
fn folders_of_other_names_are_left_alone() {
    let (folder, store) = saved(&[2]);
    for name in [
        "gs02",
        "gs+3",
        "gs",
        "gs-1",
        "gs99999999999999999999",
        "mine",
        "gs4.bak",
    ] {
        std::fs::create_dir(folder.path().join("state").join(name)).unwrap();
    }
    let newest = store.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 2);
    assert!(newest.damaged.is_empty());
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
    let mut store = Store::new(&output);
    store.prepare().unwrap();
    // Each student takes 80 kB; the loop ends long before the limit.
    let failed = (1..100).find_map(|step| save(&mut store, step).err().map(|error| (step, error)));
    let (step, error) = failed.expect("a full disk");
    let text = error.to_string();
    assert!(text.contains("make room"), "{text}");
    assert!(text.contains(&format!("gs{step}")), "{text}");
    let newest = Store::new(&output).newest().unwrap().unwrap();
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
    store.remove_student(1);
    store.remove_student(2);
    save(&mut store, step).unwrap();
    assert_whole(&store.load(step).unwrap(), step);
}

#[test]
fn names_of_checkpoints() {
    assert_eq!(step_of("gs12"), Some(12));
    for other in ["gs", "gs01", "gs+1", "gs1.bin", "1"] {
        assert_eq!(step_of(other), None, "{other}");
    }
}
