//! A real process that is ended at moments of all kinds, and started again until it is done.
//!
//! The process tells what it is about to do and waits; it is killed while it waits. The
//! moments are drawn from a seed and no clock decides anything.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::example::executable;
use common::stepped::Process;
use common::tiny::files;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Losses by name and step, as bits.
type Losses = BTreeMap<String, String>;

impl Process {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(executable("resume"));
        let command = command.arg("--announce").arg("--output-dir").arg(folder);
        Process::spawn(command.stderr(Stdio::piped()))
    }

    /// The next line that it waits after; `None` when it is done. What it says at its end is
    /// added to `said`.
    fn next(&mut self, said: &mut Vec<String>) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if line.starts_with("loss ") || line.starts_with("file ") {
                return Some(line);
            }
            said.push(line);
        }
    }

    fn go_on(&mut self) {
        let _ = self.input.write_all(b"\n");
    }

    /// Lets it run to its end; its status and what it said.
    fn finish(mut self, losses: &mut Losses) -> (Option<i32>, Vec<String>) {
        let mut said = Vec::new();
        while let Some(line) = self.next(&mut said) {
            note(losses, &line);
            self.go_on();
        }
        (self.child.wait().unwrap().code(), said)
    }
}

/// Keeps a loss; one that is computed again has to be the same again.
fn note(losses: &mut Losses, line: &str) {
    if let Some((name, bits)) = line.rsplit_once(' ').filter(|_| line.starts_with("loss ")) {
        let before = losses.insert(name.to_owned(), bits.to_owned());
        assert!(before.is_none_or(|before| before == bits), "{line}");
    }
}

/// The kinds of moments.
const KINDS: [&str; 8] = [
    "file CreateFile",
    "file Write",
    "file SyncFile",
    "file Rename",
    "loss ",
    "file Link",
    "file SyncFolder",
    "file Remove",
];

const LAST: &str = "gs12.safetensors";

/// What a run that nobody interrupts comes to.
fn whole() -> (Vec<u8>, Losses, Vec<String>) {
    let folder = common::tiny::folder();
    let mut losses = Losses::new();
    let (status, said) = Process::start(folder.path()).finish(&mut losses);
    assert_eq!(status, Some(0));
    assert_eq!(said, ["done after step 12"]);
    let weights = std::fs::read(folder.path().join(LAST)).unwrap();
    (weights, losses, files(folder.path()))
}

#[test]
fn fifty_kills() {
    let (weights, losses, names) = whole();
    // 28 batches with three losses and TAID's t each, and 12 optimizer steps with a learning rate and a
    // norm.
    assert_eq!(losses.len(), 28 * 4 + 12 * 2);
    let mut random = ChaCha8Rng::seed_from_u64(50);
    let mut kills: Vec<String> = Vec::new();
    let mut runs = 0;
    while kills.len() < 50 {
        runs += 1;
        let folder = common::tiny::folder();
        let mut found = Losses::new();
        loop {
            let mut process = Process::start(folder.path());
            let mut said = Vec::new();
            let mut left = 1 + random.next_u32() % 110;
            // Every second kill is at the next moment of one kind, each in its turn.
            let kind = match kills.len() % 2 {
                0 => "",
                _ => KINDS[kills.len() / 2 % KINDS.len()],
            };
            let killed = loop {
                let Some(line) = process.next(&mut said) else {
                    break None;
                };
                note(&mut found, &line);
                left = left.saturating_sub(1);
                if left == 0 && line.starts_with(kind) {
                    // SIGKILL, while the process waits.
                    process.child.kill().unwrap();
                    break Some(line);
                }
                process.go_on();
            };
            let status = process.child.wait().unwrap();
            match killed {
                Some(line) => kills.push(line),
                None => {
                    assert_eq!(status.code(), Some(0), "{said:?}");
                    assert_eq!(said.last().unwrap(), "done after step 12");
                    break;
                }
            }
        }
        assert!(
            std::fs::read(folder.path().join(LAST)).unwrap() == weights,
            "run {runs}"
        );
        assert_eq!(found, losses, "run {runs}");
        assert_eq!(files(folder.path()), names, "run {runs}");
        let mut states: Vec<_> = std::fs::read_dir(folder.path().join("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        states.sort();
        assert_eq!(states, ["gs10", "gs12"], "run {runs}");
    }
    // The moments were of all kinds.
    for kind in KINDS {
        assert!(
            kills.iter().any(|line| line.starts_with(kind)),
            "{kind}: {kills:?}"
        );
    }
    let in_checkpoints = kills
        .iter()
        .filter(|line| line.starts_with("file "))
        .count();
    assert!(in_checkpoints >= 10, "{in_checkpoints}");
}

#[cfg(unix)]
fn send(signal: &str, process: &Process) {
    let sent = Command::new("kill")
        .arg(signal)
        .arg(process.child.id().to_string())
        .status()
        .unwrap();
    assert!(sent.success());
}

/// The line on standard error after an empty one.
#[cfg(unix)]
fn announced(process: &mut Process) -> String {
    let mut lines = BufReader::new(process.child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "");
    lines.next().unwrap().unwrap()
}

#[cfg(unix)]
#[test]
fn the_first_interrupt_ends_the_run_with_a_checkpoint() {
    ends_with_a_checkpoint(
        "-INT",
        "Ctrl-C: the run saves a checkpoint after this step and stops.",
    );
}

/// As clusters send it some time before they kill.
#[cfg(unix)]
#[test]
fn so_does_a_request_to_terminate() {
    let announcement = "SIGTERM: the run stops after this step, with a checkpoint if";
    ends_with_a_checkpoint("-TERM", announcement);
}

#[cfg(unix)]
fn ends_with_a_checkpoint(signal: &str, announcement: &str) {
    let (weights, losses, _) = whole();
    let folder = common::tiny::folder();
    let mut process = Process::start(folder.path());
    let (mut found, mut said) = (Losses::new(), Vec::new());
    // In the middle of an optimizer step: the first of its two batches was done.
    loop {
        let line = process.next(&mut said).unwrap();
        note(&mut found, &line);
        if line.starts_with("loss ") && found.len() == 19 {
            send(signal, &process);
            // It is said at once: the process waits in the middle of the step.
            let said = announced(&mut process);
            assert!(said.starts_with(announcement), "{said}");
            if signal == "-TERM" {
                // A second one changes nothing.
                send(signal, &process);
            }
            process.go_on();
            break;
        }
        process.go_on();
    }
    let (status, said) = process.finish(&mut found);
    assert_eq!(status, Some(0));
    let step = said.last().unwrap().strip_prefix("interrupted after step ");
    let step: u64 = step.unwrap().parse().unwrap();
    assert!((3..=4).contains(&step), "{step}");
    let (status, said) = Process::start(folder.path()).finish(&mut found);
    assert_eq!(status, Some(0));
    assert_eq!(
        said,
        [
            format!("resumed from step {step}"),
            "done after step 12".to_owned()
        ]
    );
    assert!(std::fs::read(folder.path().join(LAST)).unwrap() == weights);
    assert_eq!(found, losses);
}

#[cfg(unix)]
#[test]
fn the_second_interrupt_ends_the_process_at_once() {
    let folder = common::tiny::folder();
    let mut process = Process::start(folder.path());
    let mut said = Vec::new();
    loop {
        let line = process.next(&mut said).unwrap();
        if line.starts_with("loss ") {
            break;
        }
        process.go_on();
    }
    send("-INT", &process);
    // Two that arrive together count as one: the first has arrived once it goes on.
    process.go_on();
    assert!(process.next(&mut said).is_some());
    send("-INT", &process);
    assert_eq!(process.child.wait().unwrap().code(), Some(130));
    assert!(!folder.path().join("gs1.safetensors").exists());
}
