//! Files that an earlier run left in the folder of the checkpoints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::{CheckpointFolder, step_of};
use crate::error::{Error, Result};

/// The files that runs of this process have written. A program that trains in several runs may
/// replace its own files, but not those that existed when it was started.
static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Remembers a student or state that was just written.
pub(in crate::engine) fn note(path: &Path) {
    // A file has many paths, and the working directory may change.
    if let Ok(path) = path.canonicalize() {
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(path);
    }
}

fn is_ours(path: &Path) -> bool {
    let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    path.canonicalize()
        .is_ok_and(|path| written.contains(&path))
}

/// Fails if the folder holds files that this run would overwrite or that could be taken for its
/// own: students of a step that `saves` says the run may write, states, and the best student.
/// Students of other steps, and whatever this process wrote itself, are no obstacle.
///
/// States of an earlier run of this process stay. They are older than those that the run will
/// write, and resuming takes the newest.
pub(super) fn check(
    folder: &Path,
    saves: impl Fn(u64) -> bool,
    checkpoints: &CheckpointFolder,
) -> Result<()> {
    let failed = |source| Error::io(folder, source);
    let mut first: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .and_then(|name| name.strip_suffix(".safetensors"));
        let Some(step) = name.and_then(step_of).filter(|step| saves(*step)) else {
            continue;
        };
        let is_first = first.as_ref().is_none_or(|(first, _)| step < *first);
        if is_first && !is_ours(&entry.path()) {
            first = Some((step, entry.path()));
        }
    }
    match first {
        None => check_states(checkpoints),
        Some((_, path)) => {
            let reason = format!(
                "{} is from an earlier run and would be overwritten; choose another folder, or \
                 allow it with `overwrite(true)`",
                path.display()
            );
            Err(Error::config("output_dir", reason))
        }
    }
}

/// A run that is killed before its first state, or whose states are damaged, would be resumed
/// from another run's.
fn check_states(checkpoints: &CheckpointFolder) -> Result<()> {
    let left = checkpoints.left_behind()?;
    match left.iter().find(|path| !is_ours(path)) {
        None => Ok(()),
        Some(path) => {
            let reason = format!(
                "{} is from an earlier run; choose another folder, continue that run \
                 (`resume_or_start`), or have it removed with `overwrite(true)`",
                path.display()
            );
            Err(Error::config("output_dir", reason))
        }
    }
}
