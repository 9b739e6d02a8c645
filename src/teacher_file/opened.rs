//! The index of a folder, read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::column::Column;
use super::manifest::{self, Manifest};
use super::shard_file::{REMEDY, ShardFile};
use super::wrong;
use crate::checkpoint::Written;
use crate::error::{Error, Result};

/// What there is in a folder, and where.
pub(super) struct Opened {
    pub(super) folder: PathBuf,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) columns: Vec<Column>,
    pub(super) shards: Vec<ShardFile>,
    pub(super) written: Vec<Written>,
    /// Sorted by id.
    pub(super) index: Vec<Entry>,
}

/// Where an example is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) shard: u32,
    pub(super) example: u32,
}

impl Opened {
    /// Reads the manifests of a folder, and the index of each shard.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let reason = "is no folder; give the one that a `Recording` wrote";
            return Err(wrong(folder, reason.to_owned()));
        }
        let manifests = manifests_in(folder)?;
        let mut opened = Opened {
            folder: folder.to_path_buf(),
            facts: BTreeMap::new(),
            labels: None,
            columns: Vec::new(),
            shards: Vec::new(),
            written: Vec::new(),
            index: Vec::new(),
        };
        for (part, manifest) in manifests.into_iter().enumerate() {
            opened.add(part, manifest)?;
        }
        opened.sort()?;
        if opened.index.is_empty() {
            return Err(wrong(folder, "has no example".to_owned()));
        }
        Ok(opened)
    }

    fn add(&mut self, part: usize, manifest: Manifest) -> Result<()> {
        let plan = manifest.plan;
        if part == 0 {
            (self.facts, self.labels) = (plan.facts, plan.labels);
        } else if (&self.facts, &self.labels) != (&plan.facts, &plan.labels) {
            let reason =
                format!("process {part} recorded with other facts or labels than process 0");
            return Err(wrong(&self.folder, reason));
        }
        if self.columns.is_empty() {
            self.columns = manifest.columns;
        }
        for listed in manifest.shards {
            let path = self.folder.join(&listed.name);
            let about = std::fs::metadata(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => {
                    let reason =
                        "is missing; start the same recording again, which records what it had";
                    wrong(&path, reason.to_owned())
                }
                _ => Error::io(&path, source),
            })?;
            if about.is_file() && about.len() != listed.bytes {
                let reason = format!(
                    "is cut short or damaged: it has {} bytes, of {} that were written; {REMEDY}",
                    about.len(),
                    listed.bytes
                );
                return Err(wrong(&path, reason));
            }
            let shard = ShardFile::open(&path)?;
            if shard.columns != self.columns
                || shard.ids.len() as u64 != listed.examples
                || shard.index_checksum() != listed.index_crc32
            {
                let reason = "is damaged, or another one of its name: it is not the shard that the \
                              manifest lists";
                return Err(wrong(&path, format!("{reason}; {REMEDY}")));
            }
            let number = self.shards.len() as u32;
            self.index
                .extend(shard.ids.iter().enumerate().map(|(example, &id)| Entry {
                    id,
                    shard: number,
                    example: example as u32,
                }));
            self.shards.push(shard);
            self.written.push(Written {
                bytes: listed.bytes,
                crc32: listed.crc32,
            });
        }
        Ok(())
    }

    fn sort(&mut self) -> Result<()> {
        self.index.sort_by_key(|entry| entry.id);
        let mut pairs = self.index.windows(2);
        match pairs.find_map(|pair| match pair {
            [one, other] if one.id == other.id => Some((one, other)),
            _ => None,
        }) {
            Some((one, other)) => {
                let name = |entry: &Entry| {
                    let shard = self.shards.get(entry.shard as usize)?;
                    Some(shard.path.file_name()?.to_string_lossy().into_owned())
                };
                let [first, second] = [one, other].map(|entry| name(entry).unwrap_or_default());
                let reason = format!(
                    "has example {} twice, in `{first}` and in `{second}`; record again into an empty \
                     folder, each example once",
                    one.id
                );
                Err(wrong(&self.folder, reason))
            }
            None => Ok(()),
        }
    }
}

/// The manifests of all processes that recorded into a folder.
fn manifests_in(folder: &Path) -> Result<Vec<Manifest>> {
    let names = manifest::names_in(folder)?;
    let all = || names.iter().filter(|name| name.starts_with("manifest"));
    let Some(first) = all().next() else {
        let is_begun = names.iter().any(|name| name.starts_with("recording"));
        let reason = match (is_begun, names.is_empty()) {
            (true, _) => {
                "is not finished: start the same recording again, which goes on where it ended"
            }
            (false, true) => "has no `manifest.json`: it is no file of a teacher",
            (false, false) => {
                "has shards, but no `manifest.json`: copy it too, or start the same recording again"
            }
        };
        return Err(wrong(folder, reason.to_owned()));
    };
    let parts = Manifest::read(&folder.join(first))?.plan.parts;
    let mut manifests = Vec::new();
    for part in 0..parts {
        let path = folder.join(manifest::name("manifest", (part, parts)));
        if !path.exists() {
            let reason = format!(
                "is not finished: process {part} of {parts} has not written its manifest; wait for it, \
                 or start it again"
            );
            return Err(wrong(folder, reason));
        }
        manifests.push(Manifest::read(&path)?);
    }
    match all().count() == parts {
        true => Ok(manifests),
        false => Err(wrong(
            folder,
            format!(
                "has {} manifests of {parts} processes; record again into an empty folder",
                all().count()
            ),
        )),
    }
}
