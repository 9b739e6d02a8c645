//! The manifest of a state folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::description::Description;
use super::disk::Written;
use crate::error::{Error, Result};

/// The newest version of the format that this crate reads and writes.
pub(super) const FORMAT: u64 = 2;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const PROGRESS: &str = "progress.json";
pub(super) const STUDENT: &str = "student.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const DISTILLER: &str = "distiller.safetensors";
pub(super) const RANDOM: &str = "random.safetensors";

pub(super) const HOOKS: &str = "hooks.safetensors";

/// The files beside every manifest. A run with hooks also has [`HOOKS`]; there are no others.
const FILES: [&str; 5] = [PROGRESS, STUDENT, OPTIMIZER, DISTILLER, RANDOM];

/// The format of a state: 2 with hooks, which versions of this crate that know only format 1
/// would lose, and 1 without.
pub(super) fn format_of(description: &Description) -> u64 {
    match description.has_hooks() {
        true => 2,
        false => 1,
    }
}

/// The manifest of a state folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(super) format: u64,
    /// The version of this crate that wrote it.
    pub(super) crate_version: String,
    /// The run that wrote it; a resumed run keeps its name.
    pub(crate) run: String,
    /// Counts the checkpoints in the folder; the newest has the largest.
    pub(crate) sequence: u64,
    pub(super) global_step: u64,
    pub(crate) description: Description,
    pub(super) files: BTreeMap<String, Written>,
}

/// The version alone, checked before anything that a later version may have changed.
#[derive(Deserialize)]
struct Version {
    format: u64,
    #[serde(default)]
    crate_version: String,
}

impl Manifest {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let damaged = |reason: String| damaged(path, reason);
        let version: Version = serde_json::from_str(text)
            .map_err(|error| damaged(format!("is no manifest of a checkpoint: {error}")))?;
        if version.format > FORMAT {
            return Err(Error::CheckpointVersion {
                path: path.to_path_buf(),
                found: version.format,
                known: FORMAT,
                written_by: version.crate_version,
            });
        }
        let manifest: Manifest =
            serde_json::from_str(text).map_err(|error| damaged(format!("is damaged: {error}")))?;
        if manifest.format != format_of(&manifest.description) {
            let reason = format!("has format {}, which it does not follow", manifest.format);
            return Err(damaged(reason));
        }
        // Names are compared, never used as paths.
        for name in manifest.names() {
            if !manifest.files.contains_key(name) {
                return Err(damaged(format!("does not list `{name}`")));
            }
        }
        let mut listed = manifest.files.keys();
        if let Some(name) = listed.find(|listed| !manifest.names().any(|name| name == *listed)) {
            return Err(damaged(format!(
                "lists `{name}`, which belongs to no checkpoint"
            )));
        }
        Ok(manifest)
    }

    /// The files beside the manifest.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let of_hooks = self.description.has_hooks().then_some(HOOKS);
        FILES.into_iter().chain(of_hooks)
    }
}

/// An error about a file of a checkpoint.
pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Checkpoint {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}
