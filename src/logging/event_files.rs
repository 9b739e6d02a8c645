//! The folders and files of logs for TensorBoard.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const EVENT_FILE: &str = "events.out.tfevents.";

/// The names of the event files of a folder.
pub(super) fn event_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.starts_with(EVENT_FILE));
        files.extend(name.map(str::to_owned));
    }
    Ok(files)
}

/// How many event files this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Creates an event file. TensorBoard reads those of a folder in the order of their names, in
/// which this one is the last. No other file has its name, wherever it is.
pub(super) fn new_event_file(folder: &Path) -> io::Result<File> {
    let seconds_of = |name: &String| name.split('.').nth(3)?.parse::<u64>().ok();
    let latest = event_files(folder)?.iter().filter_map(seconds_of).max();
    let after = latest.map_or(0, |latest| latest.saturating_add(1));
    let mut seconds = now().as_secs().max(after);
    loop {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let name = format!("{EVENT_FILE}{seconds:010}.{process}.{number}");
        match File::create_new(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && seconds < u64::MAX => {
                seconds += 1;
            }
            other => return other,
        }
    }
}

/// Creates the next free `run-NNNN`. Creating a folder fails if it exists, so two runs never
/// share one.
pub(super) fn new_run(log_dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(log_dir)?;
    let mut number = 1;
    for entry in fs::read_dir(log_dir)? {
        let name = entry?.file_name();
        let taken = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if let Some(taken) = taken.and_then(|digits| digits.parse::<u64>().ok()) {
            number = number.max(taken.saturating_add(1));
        }
    }
    loop {
        let path = log_dir.join(format!("run-{number:04}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u64::MAX => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
