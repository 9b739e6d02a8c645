//! What a folder says of itself: what is recorded in it, and whether that is all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::column::Column;
use super::keep::Keep;
use super::shard::VERSION;
use super::shard_file::other_version;
use super::wrong;
use crate::checkpoint::Disk;
use crate::error::{Error, Result};
use crate::files::read_text;

/// What a process is to record: written at its start, compared when it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) version: u64,
    /// Which process it is, of how many.
    pub(super) part: usize,
    pub(super) parts: usize,
    pub(super) keep: Vec<Keep>,
    pub(super) classes: Option<i64>,
    /// What the user says of teacher, tokenizer and data.
    pub(super) facts: BTreeMap<String, String>,
    /// The names of the classes, in their order.
    pub(super) labels: Option<Vec<String>>,
}

/// What a process has recorded: written at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) plan: Plan,
    pub(super) columns: Vec<Column>,
    pub(super) examples: u64,
    pub(super) shards: Vec<Listed>,
}

/// A shard, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) examples: u64,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl Plan {
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(name("recording", (self.part, self.parts)))
    }

    pub(super) fn manifest_path(&self, folder: &Path) -> PathBuf {
        folder.join(name("manifest", (self.part, self.parts)))
    }

    pub(super) fn shard_name(&self, number: usize) -> String {
        match self.parts {
            1 => format!("shard-{number:05}.safetensors"),
            parts => format!("shard-{}-of-{parts}-{number:05}.safetensors", self.part),
        }
    }

    /// The shards of this process that are there, in their order.
    pub(super) fn shards_in(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let failed = |source| Error::io(folder, source);
        let first = self.shard_name(0);
        let prefix = first.trim_end_matches("00000.safetensors");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            let number = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(".safetensors"));
            let number = number.and_then(|number| number.parse::<usize>().ok());
            if let Some(number) = number.filter(|number| self.shard_name(*number) == name) {
                found.push((number, folder.join(name)));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Refuses another plan than the one that a folder was begun with.
    pub(super) fn check_same(&self, folder: &Path, other: &Plan) -> Result<()> {
        let differs = [
            ("what is kept", self.keep != other.keep),
            ("the number of classes", self.classes != other.classes),
            ("the labels", self.labels != other.labels),
            (
                "the processes",
                (self.part, self.parts) != (other.part, other.parts),
            ),
        ];
        let facts = self
            .facts
            .iter()
            .find(|(name, value)| other.facts.get(*name) != Some(value));
        let facts = facts.map(|(name, _)| name);
        let facts = facts.or_else(|| {
            other
                .facts
                .keys()
                .find(|name| !self.facts.contains_key(*name))
        });
        let differs = differs.into_iter().find(|(_, differs)| *differs);
        let what = match (differs, facts) {
            (Some((what, _)), _) => what.to_owned(),
            (None, Some(fact)) => format!("the fact `{fact}`"),
            (None, None) => return Ok(()),
        };
        let reason = format!(
            "has another recording, which differs in {what}; choose another folder, or allow it to be \
             replaced with `Recording::overwrite`"
        );
        Err(wrong(folder, reason))
    }
}

fn name(stem: &str, (part, parts): (usize, usize)) -> String {
    match parts {
        1 => format!("{stem}.json"),
        _ => format!("{stem}-{part}-of-{parts}.json"),
    }
}

/// Whether a file of this name belongs to a recording.
pub(super) fn is_ours(name: &str) -> bool {
    let name = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".tmp"))
        .unwrap_or(name);
    let is_json = |stem| {
        let rest = name
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_suffix(".json"));
        rest.is_some_and(|rest| rest.is_empty() || is_part(rest))
    };
    let is_shard = || {
        let rest = name
            .strip_prefix("shard")
            .and_then(|rest| rest.strip_suffix(".safetensors"));
        rest.is_some_and(is_part)
    };
    is_json("recording") || is_json("manifest") || is_shard()
}

/// `-0-of-2`, `-00000`, `-0-of-2-00000`
fn is_part(rest: &str) -> bool {
    let pieces = rest
        .strip_prefix('-')
        .into_iter()
        .flat_map(|rest| rest.split('-'));
    let mut pieces = pieces.peekable();
    pieces.peek().is_some()
        && pieces.all(|piece| {
            piece == "of" || (!piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

/// Reads one of these files.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|error| wrong(path, format!("is damaged: {error}")))
}

impl Manifest {
    /// Reads a manifest and checks what it says.
    pub(super) fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            plan: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Versioned { plan } = read(path)?;
        if plan.version != VERSION {
            return Err(wrong(path, other_version(plan.version)));
        }
        let manifest: Manifest = read(path)?;
        for column in &manifest.columns {
            let damaged = |reason| wrong(path, format!("`{}` {reason}", column.name));
            column.check().map_err(damaged)?;
        }
        if let Some(shard) = manifest.shards.iter().find(|shard| !is_ours(&shard.name)) {
            return Err(wrong(
                path,
                format!("lists `{}`, which is no shard", shard.name),
            ));
        }
        Ok(manifest)
    }
}

/// Writes one of these files.
pub(super) fn write(disk: &Disk, path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Error::other(error.to_string()))?;
    text.push('\n');
    let write = |file: &mut dyn Write| {
        file.write_all(text.as_bytes())
            .map_err(|source| Error::io(path, source))
    };
    disk.replace(path, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_recording_are_told_from_others() {
        for name in [
            "manifest.json",
            "recording-0-of-2.json",
            "shard-00000.safetensors",
            ".shard-1-of-2-00003.safetensors.tmp",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "manifest.json.bak",
            "model.safetensors",
            "shard-.safetensors",
            "shard-a.safetensors",
            "../shard-1.safetensors",
            "manifests.json",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
