//! Checkpoints that somebody else has written or changed.

use std::fs;

use super::*;
use crate::checkpoint::manifest::{MANIFEST, PROGRESS};
use crate::checkpoint::read::TEXT_LIMIT;
use crate::error::Error;

#[test]
fn a_text_that_could_not_be_read_again_is_neither_written_nor_read() {
    let (folder, mut checkpoints) = saved(&[1]);
    let student = checkpoints.save_student(2, &weights_of(2)).unwrap();
    let mut description = Description::default();
    let long = "x".repeat(TEXT_LIMIT as usize);
    description.distiller.insert("long".to_owned(), long);
    let position = position_of(2);
    let content = Content {
        description: &description,
        position: &position,
        tensors: &StateTensors::default(),
    };
    let text = error_of(checkpoints.save_state(&student, &content));
    assert!(text.contains("manifest.json: would have 1677"), "{text}");
    assert!(text.contains("save_state(false)"), "{text}");
    assert_eq!(names(&folder.path().join("state")), ["gs1"]);
    // From a stranger: nothing of it is read.
    let manifest = std::fs::File::create(folder.path().join("state/gs1/manifest.json")).unwrap();
    manifest.set_len(TEXT_LIMIT + 1).unwrap();
    let text = error_of(checkpoints.newest());
    assert!(text.contains("has 16777217 bytes, more than"), "{text}");
}

/// Changes the manifest of gs2 as text; what loading it says.
fn with_manifest(change: impl Fn(String) -> String) -> String {
    let (folder, checkpoints) = saved(&[2]);
    let path = folder.path().join("state/gs2/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed);
    std::fs::write(&path, changed).unwrap();
    error_of(checkpoints.load(2))
}

#[test]
fn strange_manifests_are_refused() {
    let cases: [(&str, &str, &str); 9] = [
        (
            "\"format\": 1",
            "\"format\": 3",
            "has format 3, written by version",
        ),
        ("\"format\": 1", "\"format\": 2", "has format 2, which it"),
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
    let (folder, checkpoints) = saved(&[1, 2]);
    let path = folder.path().join("state/gs2/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
    assert!(matches!(
        checkpoints.newest().unwrap_err(),
        Error::CheckpointVersion {
            found: 7,
            known: 2,
            ..
        }
    ));
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let (folder, checkpoints) = saved(&[2]);
    // As long as it says, without taking room: a terabyte with a matching manifest.
    let path = folder.path().join("state/gs2/progress.json");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(1 << 40).unwrap();
    let text = error_of(checkpoints.load(2));
    assert!(
        text.contains("progress.json: has 1099511627776 bytes"),
        "{text}"
    );
    let path = folder.path().join("state/gs2/manifest.json");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(1 << 40).unwrap();
    let text = error_of(checkpoints.load(2));
    assert!(text.contains("more than the 16777216"), "{text}");
}

/// Writes a progress file and makes the manifest fit it, as a stranger can.
fn with_position(text: &str) -> Result<Loaded> {
    let (folder, checkpoints) = saved(&[2]);
    let state = folder.path().join("state/gs2");
    std::fs::write(state.join(PROGRESS), text).unwrap();
    let path = state.join(MANIFEST);
    let manifest = std::fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["files"][PROGRESS] = serde_json::json!({
        "bytes": text.len(), "crc32": crc32fast::hash(text.as_bytes()),
    });
    std::fs::write(&path, manifest.to_string()).unwrap();
    checkpoints.load(2)
}

#[test]
fn an_absurd_position_is_refused() {
    let good = serde_json::to_string(&position_of(2)).unwrap();
    assert!(with_position(&good).is_ok());
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
        let text = error_of(with_position(&good.replacen(from, to, 1)));
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
        let (folder, checkpoints) = saved(&[2]);
        let path = folder.path().join(name);
        let target = match path.file_name().unwrap().to_str() {
            Some("gs2") => there.clone(),
            Some(file) => there.join(file),
            None => unreachable!(),
        };
        checkpoints.disk.remove(&path).unwrap();
        symlink(target, &path).unwrap();
        let text = error_of(checkpoints.load(2));
        assert!(text.contains(name) && text.contains(expected), "{text}");
    }
    let (folder, mut checkpoints) = saved(&[2]);
    let path = folder.path().join("state");
    checkpoints.disk.remove(&path).unwrap();
    symlink(elsewhere.path().join("state"), &path).unwrap();
    assert!(error_of(checkpoints.newest()).contains("state: is a link"));
    assert!(error_of(save(&mut checkpoints, 3)).contains("is not a folder"));
    assert_eq!(names(&elsewhere.path().join("state")), ["gs2"]);
}

#[cfg(unix)]
#[test]
fn nothing_is_cleared_away_behind_a_link() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let precious = elsewhere.path().join(".gs1.tmp");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("state")).unwrap();
    let line = error_of(CheckpointFolder::new(folder.path()).prepare());
    assert!(line.contains("is a link"), "{line}");
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

#[test]
fn folders_of_other_names_are_left_alone() {
    let (folder, checkpoints) = saved(&[2]);
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
    let newest = checkpoints.newest().unwrap().unwrap();
    assert_whole(&newest.loaded, 2);
    assert!(newest.damaged.is_empty());
}
