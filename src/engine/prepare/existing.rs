//! What an earlier run left in the folder of the checkpoints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::{CheckpointFolder, step_of};
use crate::error::{Error, Result};

/// What runs of this process have written. A program that trains in several runs goes on with
/// its own files; what must not be lost is what was there when it was started.
static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Notes a student or state that was just written.
pub(in crate::engine) fn note(path: &Path) {
    // The same file has many names, and the working directory may change.
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

/// That no student is there of a step that `saves` says the run may write, and no state that it could be
/// gone on from by mistake, but those that this process wrote itself. Students of other steps
/// are left alone, and are no obstacle.
///
/// States of an earlier run of this process stay: they are older than any that the run will
/// write, and the newest is the one that a run goes on from.
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
                "{} is there, of an earlier run, and would be overwritten; choose another \
                 folder, or ask for it with `overwrite(true)`",
                path.display()
            );
            Err(Error::config("output_dir", reason))
        }
    }
}

/// A run that is killed before its first state, or whose states are damaged, would be gone on
/// from another run's.
fn check_states(checkpoints: &CheckpointFolder) -> Result<()> {
    let left = checkpoints.left_behind()?;
    match left.iter().find(|path| !is_ours(path)) {
        None => Ok(()),
        Some(path) => {
            let reason = format!(
                "{} is there, of an earlier run; choose another folder, go on with that run \
                 (`resume_or_start`), or have it removed with `overwrite(true)`",
                path.display()
            );
            Err(Error::config("output_dir", reason))
        }
    }
}
