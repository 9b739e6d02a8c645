//! Files that are cut, changed, exchanged or gone.

use std::collections::BTreeMap;

use tch::Device;
use textbrewer::TeacherFile;
use textbrewer::teacher_file::{Recording, Stored};

use super::common::tiny::first_line;
use super::mixture::contents;
use super::{EXAMPLES, Recorded, SHARDS, message, small};

const FILES: [&str; 3] = [SHARDS[0], SHARDS[1], "manifest.json"];

#[test]
fn every_bit_counts() {
    let recorded = Recorded::new(0.5);
    let mut examples = [0; EXAMPLES as usize];
    let mut mended = 0;
    for name in FILES {
        let whole = &recorded.files[name];
        // A bit of every third byte, and each of the eight in its turn.
        for place in (0..whole.len()).step_by(3) {
            let bit = place / 3 % 8;
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << bit;
            let path = recorded.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let what = format!("bit {bit} of byte {place} of {name}");
            let said = match recorded.read() {
                // One that is not looked at, such as in the name of a dimension.
                Ok(file) => message(&what, file.verify()),
                Err(error) => message::<()>(&what, Err(error)),
            };
            assert!(said.contains(name), "{what}: {said}");
            assert!(
                said.contains("start the same recording again"),
                "{what}: {said}"
            );
            for (id, count) in examples.iter_mut().enumerate() {
                if said.contains(&format!("example {id} is damaged: the checksum of `")) {
                    *count += 1;
                }
            }
            if place % 600 == 0 {
                recorded.mend(name);
                mended += 1;
            }
            std::fs::write(&path, whole).unwrap();
        }
    }
    assert!(mended > 10, "{mended}");
    assert!(examples.iter().all(|&count| count > 20), "{examples:?}");
}

#[test]
fn files_that_are_cut_or_grow() {
    let recorded = Recorded::new(0.5);
    for name in FILES {
        let whole = &recorded.files[name];
        let lengths = (0..whole.len()).step_by(37).chain([whole.len() - 1]);
        for (number, length) in lengths.enumerate() {
            std::fs::write(recorded.path().join(name), &whole[..length]).unwrap();
            let what = format!("{length} bytes of {name}");
            let said = match recorded.read() {
                // Only the last line's end is gone.
                Ok(file) if name == "manifest.json" && length == whole.len() - 1 => {
                    file.verify().unwrap();
                    continue;
                }
                Ok(_) => panic!("{what}: accepted"),
                Err(error) => message::<()>(&what, Err(error)),
            };
            assert!(said.contains(name), "{what}: {said}");
            if number % 20 == 0 {
                recorded.mend(name);
            }
        }
        let mut longer = whole.clone();
        longer.extend([0; 9]);
        std::fs::write(recorded.path().join(name), longer).unwrap();
        message(&format!("a longer {name}"), recorded.read());
        recorded.restore();
    }
}

#[test]
fn files_that_are_gone_or_no_files() {
    let recorded = Recorded::new(0.5);
    for name in FILES {
        let path = recorded.path().join(name);
        std::fs::remove_file(&path).unwrap();
        let said = message(&format!("without {name}"), recorded.read());
        assert!(said.contains(name), "{said}");
        recorded.mend(name);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let said = message(&format!("a folder as {name}"), recorded.read());
        assert!(said.contains(name), "{said}");
        recorded.mend(name);
    }
}

#[cfg(unix)]
#[test]
fn links() {
    use std::os::unix::fs::symlink;
    let recorded = Recorded::new(0.5);
    let elsewhere = super::folder();
    for name in FILES {
        let path = recorded.path().join(name);
        let moved = elsewhere.path().join(name);
        std::fs::write(&moved, &recorded.files[name]).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&moved, &path).unwrap();
        // A large shard may be on another disk.
        recorded.read().unwrap().verify().unwrap();
        for target in ["/dev/zero", "nowhere", name] {
            std::fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
            let said = message(&format!("{name} -> {target}"), recorded.read());
            assert!(said.contains(name), "{said}");
        }
        recorded.mend(name);
        assert_eq!(
            std::fs::read(&moved).unwrap(),
            recorded.files[name],
            "written through a link"
        );
    }
}

/// Of the same examples, and of another teacher: only the numbers differ.
#[test]
fn shards_that_are_exchanged() {
    let record = |seed: f64| {
        let folder = super::folder();
        let recording = Recording::new(folder.path())
            .logits(Stored::Float32)
            .top_k(4, 1.0)
            .shard_examples(2)
            .device(Device::Cpu)
            .progress(false);
        super::record(recording, seed, &mut super::loader(4, 3), |_| {}).unwrap();
        folder
    };
    let folder = record(0.5);
    let (files, others) = (contents(folder.path()), contents(record(0.7).path()));
    let put = |files: &BTreeMap<String, Vec<u8>>, from: &str, to: &str| {
        std::fs::write(folder.path().join(to), &files[from]).unwrap();
    };
    for name in SHARDS {
        assert_eq!(files[name].len(), others[name].len());
        put(&others, name, name);
        let said = message(name, TeacherFile::open(folder.path()));
        assert!(said.contains(name), "{said}");
        assert!(
            said.contains("is not the shard that the manifest lists"),
            "{said}"
        );
        put(&files, name, name);
    }
    put(&files, SHARDS[0], SHARDS[1]);
    put(&files, SHARDS[1], SHARDS[0]);
    message(
        "exchanged with each other",
        TeacherFile::open(folder.path()),
    );
    // The whole of another teacher is that teacher's.
    for name in FILES {
        put(&others, name, name);
    }
    let file = TeacherFile::open(folder.path()).unwrap();
    file.verify().unwrap();
}

/// A damaged shard beside one that is missing: what fills the gap does not vouch for the damage.
#[test]
fn recording_again_does_not_hide_damage() {
    let recorded = Recorded::new(0.5);
    let mut bytes = recorded.files[SHARDS[0]].clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(recorded.path().join(SHARDS[0]), bytes).unwrap();
    std::fs::remove_file(recorded.path().join(SHARDS[1])).unwrap();
    let recording = super::mixture(recorded.path()).shard_examples(2);
    let said = first_line(super::record(
        recording,
        0.5,
        &mut super::loader(4, 3),
        |_| {},
    ));
    assert!(
        said.contains(SHARDS[0]) && said.contains("is damaged: the checksum"),
        "{said}"
    );
    recorded.mend(SHARDS[0]);
}

#[test]
fn what_was_begun_is_damaged() {
    let folder = super::folder();
    drop(super::mixture(folder.path()).begin().unwrap());
    let path = folder.path().join("recording.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    for (text, expected) in [
        (&whole[..40], "recording.json: is damaged"),
        ("", "recording.json"),
        ("{}", "recording.json: is damaged"),
        (&whole.replace("a table", "another"), "the fact `teacher`"),
        (
            &whole.replace("\"draws\": 9", "\"draws\": 8"),
            "what is kept",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = message(text, super::mixture(folder.path()).begin());
        assert!(said.contains(expected), "{said}");
    }
    // As the message says.
    std::fs::remove_file(&path).unwrap();
    small(folder.path(), 0.5).verify().unwrap();
}
