//! Teacher files that are damaged, or that a stranger wrote: an error that names the file, the example
//! where it is about one, and what to do; never a panic, and never other numbers than were recorded.

mod common;

#[path = "teacher_file_cases/bounds.rs"]
mod bounds;
#[path = "teacher_file_cases/damage.rs"]
mod damage;
#[path = "teacher_shards/forge.rs"]
mod forge;
#[path = "teacher_file_cases/forgery.rs"]
mod forgery;
#[path = "teacher_shards/mixture.rs"]
mod mixture;

use std::collections::BTreeMap;
use std::path::Path;

use common::tiny::folder;
use mixture::{bits, contents, loader, mixture, record};
use tempfile::TempDir;
use textbrewer::{Result, TeacherFile};

const SHARDS: [&str; 2] = ["shard-00000.safetensors", "shard-00001.safetensors"];
const EXAMPLES: u64 = 4;

/// A recording of two shards.
fn small(folder: &Path, seed: f64) -> TeacherFile {
    let recording = mixture(folder).shard_examples(2);
    record(recording, seed, &mut loader(EXAMPLES as i64, 3), |_| {}).unwrap()
}

/// A recording, its files and its numbers, as they were recorded.
struct Recorded {
    folder: TempDir,
    files: BTreeMap<String, Vec<u8>>,
    numbers: Vec<Vec<u32>>,
}

impl Recorded {
    fn new(seed: f64) -> Self {
        let folder = folder();
        let file = small(folder.path(), seed);
        let numbers = file.ids().map(|id| bits(&file, id).unwrap()).collect();
        Recorded {
            files: contents(folder.path()),
            folder,
            numbers,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes everything again as it was.
    fn restore(&self) {
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = std::fs::symlink_metadata(&path).unwrap().is_dir();
            match is_folder {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
        for (name, bytes) in &self.files {
            std::fs::write(self.path().join(name), bytes).unwrap();
        }
    }

    /// Opens and reads everything: what is read is what was recorded, or there is an error.
    fn read(&self) -> Result<TeacherFile> {
        let file = TeacherFile::open(self.path())?;
        let mut read = Vec::new();
        for id in file.ids() {
            read.push((id, bits(&file, id)?));
        }
        for (id, numbers) in read {
            let recorded = self.numbers.get(id as usize);
            assert!(recorded == Some(&numbers), "other numbers of example {id}");
        }
        let labels = file.labels().unwrap();
        assert!(labels.len() == mixture::WORDS as usize && labels[3] == "word 3");
        assert_eq!(file.facts()["teacher"], "a table");
        Ok(file)
    }

    /// As it says in an error about a file: without it, recorded again.
    fn mend(&self, file: &str) {
        let path = self.path().join(file);
        match std::fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => std::fs::remove_dir_all(path).unwrap(),
            Ok(_) => std::fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
        small(self.path(), 0.5);
        assert!(contents(self.path()) == self.files, "without {file}");
    }
}

/// The message of an error, which must be short enough to read and safe to print.
fn message<T>(what: &str, result: Result<T>) -> String {
    let message = match result {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => error.to_string(),
    };
    assert!(message.len() < 8_000, "{what}: {} bytes", message.len());
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!message.contains(is_control), "{what}: {message:?}");
    message
}
