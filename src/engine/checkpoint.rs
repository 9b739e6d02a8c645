//! Saving the student, and telling the callback of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::nn::VarStore;

use crate::{weights, Error, Result};

/// Whether training goes on after a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flow {
    /// Go on.
    #[default]
    Continue,
    /// End the run here, as if it had been this long.
    Stop,
}

impl From<()> for Flow {
    fn from((): ()) -> Self {
        Flow::Continue
    }
}

/// What a callback is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// Optimizer steps so far.
    pub global_step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The file that was just written.
    pub path: PathBuf,
    /// The losses of the last batch, by the name under which they are logged, unweighted.
    pub losses: BTreeMap<String, f64>,
}

/// Makes the folder and tries that files can be written there, so that a wrong path ends a
/// run at its start and not at its first checkpoint.
pub(super) fn prepare(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    tempfile::tempfile_in(folder).map_err(|error| Error::io(folder, error))?;
    Ok(())
}

/// Writes `gs{step}.safetensors` whole or not at all.
pub(super) fn save(folder: &Path, step: u64, variables: &VarStore) -> Result<PathBuf> {
    let path = folder.join(format!("gs{step}.safetensors"));
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    weights::save(&path, &weights::state_dict(variables), &metadata)?;
    Ok(path)
}
