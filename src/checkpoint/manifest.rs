//! What a state folder says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::description::Description;
use super::disk::Written;
use crate::error::{Error, Result};

/// The version of the format that this crate writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 1;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const PROGRESS: &str = "progress.json";
pub(super) const STUDENT: &str = "student.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const DISTILLER: &str = "distiller.safetensors";
pub(super) const RANDOM: &str = "random.safetensors";

/// The files beside the manifest: these, all of them, and no other.
pub(super) const FILES: [&str; 5] = [PROGRESS, STUDENT, OPTIMIZER, DISTILLER, RANDOM];

/// What a state folder says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(super) format: u64,
    /// The version of this crate that wrote it.
    pub(super) crate_version: String,
    /// The run that wrote it; a resumed run keeps its name.
    pub(crate) run: String,
    /// Counts the checkpoints in the folder: the newest has the largest.
    pub(crate) sequence: u64,
    pub(super) global_step: u64,
    pub(crate) description: Description,
    pub(super) files: BTreeMap<String, Written>,
}

/// Only the version, so that it is told before anything else that a later one changed.
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
        if manifest.format != FORMAT {
            return Err(damaged(format!("has format {}", manifest.format)));
        }
        // Names are compared and never followed.
        for name in FILES {
            if !manifest.files.contains_key(name) {
                return Err(damaged(format!("does not list `{name}`")));
            }
        }
        if let Some(name) = manifest.files.keys().find(|n| !FILES.contains(&n.as_str())) {
            return Err(damaged(format!(
                "lists `{name}`, which belongs to no checkpoint"
            )));
        }
        Ok(manifest)
    }
}

/// A file of a checkpoint is not what it should be.
pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Checkpoint {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}
