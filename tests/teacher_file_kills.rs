//! Recordings that are ended at moments of all kinds and started again: in the end the folder is the one
//! that nobody disturbed. And recordings of several processes.
//!
//! The process tells what it is about to do and waits; it is killed while it waits. The moments are
//! drawn from a seed and no clock decides anything.

mod common;

#[path = "teacher_shards/mixture.rs"]
mod mixture;
#[path = "teacher_file_cases/shares.rs"]
mod shares;

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;

use common::stepped::Process;
use common::tiny::folder;
use mixture::{bits, contents, loader, mixture, record, recorded};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use textbrewer::TeacherFile;

/// Set where this binary is run again, to record.
const FOLDER: &str = "TEXTBREWER_TEST_FOLDER";
const BATCH_SIZE: &str = "TEXTBREWER_TEST_BATCH_SIZE";

const EXAMPLES: i64 = 37;
const SEED: f64 = 0.5;

/// The kinds of moments, of which there are some in every run.
const KINDS: [&str; 7] = [
    "> CreateFile",
    "> Write",
    "> SyncFile",
    "> Rename",
    "> batch",
    "> SyncFolder",
    "> Remove",
];

/// Prints a line and waits for one.
fn announce(line: &str) {
    println!("> {line}");
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

struct FileOperations;

impl log::Log for FileOperations {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "textbrewer::checkpoint"
    }

    fn log(&self, about: &log::Record<'_>) {
        if self.enabled(about.metadata()) {
            announce(&about.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// What is killed; in the test itself it does nothing.
#[test]
fn records() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let batch_size = std::env::var(BATCH_SIZE).unwrap().parse().unwrap();
    log::set_logger(&FileOperations).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    println!();
    let recording = mixture(Path::new(&folder));
    let mut loader = loader(EXAMPLES, batch_size);
    record(recording, SEED, &mut loader, |ids| {
        announce(&format!("batch of {}", ids[0]));
    })
    .unwrap();
}

impl Process {
    fn start(folder: &Path, batch_size: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command
            .args(["records", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(BATCH_SIZE, batch_size.to_string());
        Process::spawn(command)
    }

    /// The next line that it waits after; `None` when it is done.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if line.starts_with("> ") {
                return Some(line);
            }
        }
    }

    /// Runs on until some moments have gone by and one of this kind comes, and kills it there. Without
    /// one it runs to its end.
    fn kill_after(mut self, moments: u32, kind: &str) -> Option<String> {
        let mut left = moments;
        while let Some(line) = self.next() {
            left = left.saturating_sub(1);
            if left == 0 && line.starts_with(kind) {
                // SIGKILL, while the process waits.
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                return Some(line);
            }
            let _ = self.input.write_all(b"\n");
        }
        assert!(self.child.wait().unwrap().success());
        None
    }
}

/// Kills recordings until there were so many kills; each is started again until it ends.
fn kill(kills: usize, seed: u64) -> Vec<String> {
    let undisturbed = folder();
    recorded(undisturbed.path(), SEED, EXAMPLES)
        .verify()
        .unwrap();
    let wanted = contents(undisturbed.path());
    // Five examples a shard, and the manifest.
    assert_eq!(wanted.len(), 8 + 1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut killed: Vec<String> = Vec::new();
    while killed.len() < kills {
        let folder = folder();
        loop {
            // Every second kill is at the next moment of one kind, each in its turn.
            let kind = match killed.len() % 2 {
                0 => "",
                _ => KINDS[killed.len() / 2 % KINDS.len()],
            };
            let moments = 1 + random.next_u32() % 60;
            let process = Process::start(folder.path(), 4);
            match process.kill_after(moments, kind) {
                Some(line) => killed.push(line),
                None => break,
            }
        }
        let found = contents(folder.path());
        assert!(
            found.keys().eq(wanted.keys()),
            "after {killed:?}: {:?}",
            found.keys()
        );
        for (name, bytes) in &found {
            assert!(*bytes == wanted[name], "{name}, after {killed:?}");
        }
        TeacherFile::open(folder.path()).unwrap().verify().unwrap();
    }
    killed
}

#[test]
fn fifty_kills() {
    // Two at a time: they mostly wait for processes to start.
    let other = std::thread::spawn(|| kill(25, 1));
    let mut kills = kill(25, 2);
    kills.extend(other.join().unwrap());
    assert!(kills.len() >= 50);
    for kind in KINDS {
        let is_there = kills.iter().any(|line| line.starts_with(kind));
        assert!(is_there, "{kind}: {kills:?}");
    }
}

/// Each operation at the end, after the last batch was asked for, when the folder is nearly whole.
#[test]
fn kills_at_the_end() {
    let undisturbed = folder();
    recorded(undisturbed.path(), SEED, EXAMPLES);
    let wanted = contents(undisturbed.path());
    let folder = folder();
    // Each time it begins with what is there, and comes a little further.
    for (kind, name) in [
        ("> CreateFile", "manifest"),
        ("> Write", "manifest"),
        ("> SyncFile", "manifest"),
        ("> Rename", "manifest"),
        ("> Remove", "recording.json"),
    ] {
        let mut process = Process::start(folder.path(), 4);
        let line = loop {
            let line = process.next().unwrap();
            if line.starts_with(kind) && line.contains(name) {
                process.child.kill().unwrap();
                break line;
            }
            let _ = process.input.write_all(b"\n");
        };
        process.child.wait().unwrap();
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("recording.json"), "{line}");
        assert_eq!(is_there("manifest.json"), kind == "> Remove", "{line}");
    }
    assert_eq!(
        Process::start(folder.path(), 4).kill_after(u32::MAX, ""),
        None
    );
    assert!(contents(folder.path()) == wanted);
}

#[test]
fn another_batch_size_after_a_kill() {
    let undisturbed = folder();
    let wanted = recorded(undisturbed.path(), SEED, EXAMPLES);
    for (moments, batch_size) in [(20, 7), (31, 1), (44, 37)] {
        let folder = folder();
        let killed = Process::start(folder.path(), 4).kill_after(moments, "");
        assert!(killed.is_some());
        assert!(TeacherFile::open(folder.path()).is_err());
        let end = Process::start(folder.path(), batch_size).kill_after(u32::MAX, "");
        assert_eq!(end, None);
        let file = TeacherFile::open(folder.path()).unwrap();
        file.verify().unwrap();
        assert!(file.ids().eq(0..EXAMPLES as u64));
        for id in file.ids() {
            assert_eq!(
                bits(&file, id).unwrap(),
                bits(&wanted, id).unwrap(),
                "example {id}"
            );
        }
        assert!(
            contents(folder.path())
                .keys()
                .all(|name| !name.starts_with('.'))
        );
    }
}
