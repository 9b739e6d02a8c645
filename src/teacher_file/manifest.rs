//! What a folder says of itself: what is recorded in it, and whether that is all.

use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::column::Column;
use super::keep::Keep;
use super::shard::VERSION;
use super::shard_file::{ShardFile, other_version};
use super::wrong;
use crate::checkpoint::Disk;
use crate::error::{Error, Result, shown};
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
    /// Of this manifest as compact JSON, with 0 here.
    pub(super) crc32: u32,
}

/// A shard, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) examples: u64,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
    /// The checksum of its index, by which another shard of its name is found out at once.
    pub(super) index_crc32: u32,
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

    /// Refuses a folder with another recording.
    pub(super) fn check_folder(&self, folder: &Path) -> Result<()> {
        if !folder.exists() {
            return Ok(());
        }
        self.check_alone(folder)?;
        let manifest = self.manifest_path(folder);
        if manifest.exists() {
            self.check_same(folder, &Manifest::read(&manifest)?.plan)?;
        }
        let plan = self.path(folder);
        if plan.exists() {
            self.check_same(folder, &read::<Plan>(&plan)?)?;
        }
        for path in self.shards_in(folder)? {
            if ShardFile::open(&path)?.plan != self.checksum()? {
                let reason = "is left of another recording; remove it, choose another folder, or \
                              allow it to be replaced with `Recording::overwrite`";
                return Err(wrong(&path, reason.to_owned()));
            }
        }
        Ok(())
    }

    /// Whether this process has recorded something to the end.
    pub(super) fn is_recorded(&self, folder: &Path) -> Result<bool> {
        let path = self.manifest_path(folder);
        // One that was killed between the manifest and its end is begun once more, to end.
        if !path.exists() || self.path(folder).exists() {
            return Ok(false);
        }
        let shards = Manifest::read(&path)?.shards;
        Ok(shards.iter().all(|shard| folder.join(&shard.name).exists()))
    }

    /// The ids of the examples that this process has recorded.
    pub(super) fn ids_in(&self, folder: &Path) -> Result<HashSet<u64>> {
        let mut ids = HashSet::new();
        for path in self.shards_in(folder)? {
            ids.extend(ShardFile::open(&path)?.ids);
        }
        Ok(ids)
    }

    /// Tells its shards from those of others.
    pub(super) fn checksum(&self) -> Result<u32> {
        let text = serde_json::to_vec(self).map_err(|error| Error::other(error.to_string()))?;
        Ok(crc32fast::hash(&text))
    }

    /// The shards of this process that are there, in their order.
    pub(super) fn shards_in(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let names = names_in(folder)?.into_iter();
        let mut found: Vec<(usize, PathBuf)> = names
            .filter_map(|name| Some((self.number_of(&name)?, folder.join(name))))
            .collect();
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The number of a shard of this process, from its name.
    fn number_of(&self, name: &str) -> Option<usize> {
        let first = self.shard_name(0);
        let prefix = first.trim_end_matches("00000.safetensors");
        let number = name.strip_prefix(prefix)?.strip_suffix(".safetensors")?;
        let number = number.parse().ok()?;
        (self.shard_name(number) == name).then_some(number)
    }

    /// Refuses a folder that other numbers of processes record into, or did.
    pub(super) fn check_alone(&self, folder: &Path) -> Result<()> {
        let parts = |name: &str| match name.strip_suffix(".json")?.rsplit_once("-of-") {
            Some((_, parts)) => parts.parse().ok(),
            None => Some(1usize),
        };
        let mut names = names_in(folder)?.into_iter();
        let other = names.find(|name| parts(name).is_some_and(|parts| parts != self.parts));
        match other {
            None => Ok(()),
            Some(name) => Err(wrong(
                folder,
                format!(
                    "has another recording, which differs in the processes: `{name}`; choose another \
                     folder, or remove this one"
                ),
            )),
        }
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

/// The names of a recording's files in a folder, in their order, without temporary ones.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| Error::io(folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.retain(|name| is_ours(name) && !name.starts_with('.'));
    names.sort();
    Ok(names)
}

pub(super) fn name(stem: &str, (part, parts): (usize, usize)) -> String {
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

/// What to do about one of these files that is damaged: shards say the rest.
const REMEDY: &str = "remove this file and start the same recording again, which writes it anew";

/// Reads one of these files.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::InvalidData => {
            wrong(path, format!("{source}; {REMEDY}"))
        }
        other => other,
    })?;
    serde_json::from_str(&text)
        .map_err(|error| wrong(path, format!("is damaged: {error}; {REMEDY}")))
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
        if manifest.crc32 != manifest.checksum()? {
            let reason = "is damaged, or was changed: its checksum is another";
            return Err(wrong(path, format!("{reason}; {REMEDY}")));
        }
        for column in &manifest.columns {
            let damaged = |reason| wrong(path, format!("`{}` {reason}", column.name));
            column.check().map_err(damaged)?;
        }
        let plan = &manifest.plan;
        let (part, parts) = (plan.part, plan.parts);
        let is_named = path.file_name() == Some(name("manifest", (part, parts)).as_ref());
        if !is_named || part >= parts {
            let reason = format!("is that of process {part} of {parts}, under another name");
            return Err(wrong(path, format!("{reason}; {REMEDY}")));
        }
        let mut shards = manifest.shards.iter();
        if let Some(shard) = shards.find(|shard| plan.number_of(&shard.name).is_none()) {
            let reason = format!("lists `{}`, which is no shard of it", shown(&shard.name));
            return Err(wrong(path, reason));
        }
        let examples = manifest
            .shards
            .iter()
            .map(|shard| u128::from(shard.examples));
        if examples.sum::<u128>() != u128::from(manifest.examples) {
            let reason = "has another number of examples than its shards";
            return Err(wrong(path, reason.to_owned()));
        }
        Ok(manifest)
    }

    pub(super) fn write(mut self, disk: &Disk, path: &Path) -> Result<()> {
        self.crc32 = self.checksum()?;
        write(disk, path, &self)
    }

    fn checksum(&self) -> Result<u32> {
        let text = serde_json::to_string(&Manifest {
            crc32: 0,
            ..self.clone()
        });
        let text = text.map_err(|error| Error::other(error.to_string()))?;
        Ok(crc32fast::hash(text.as_bytes()))
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
