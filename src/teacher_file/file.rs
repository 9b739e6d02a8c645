//! A folder with what a teacher said, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::column::{Column, Origin};
use super::content::Content;
use super::manifest::{self, Manifest};
use super::shard_file::{REMEDY, ShardFile};
use super::teacher::{FileTeacher, Recorded};
use super::wrong;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::checkpoint::{Written, examine};
use crate::error::{Error, Result, shown};

/// What a teacher said of each example, on disk: made by a [`Recording`](super::Recording), or from what
/// others wrote.
///
/// Open files are small: in memory are 24 bytes for each example, and for each of its columns 4, or 16
/// where examples have different lengths. Outputs are read when they are asked for. A clone is another handle of
/// the same file.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::teacher_file::{Recording, Stored};
/// use textbrewer::{AdaptorOutput, Logits, TeacherFile};
///
/// let folder = tempfile::tempdir()?;
/// let mut recorder = Recording::new(folder.path())
///     .logits(Stored::Float32)
///     .labels(["negative", "positive"])
///     .begin()?;
/// let logits = Tensor::from_slice2(&[[0.5f32, -0.5], [1.5, 2.5]]);
/// recorder.add(&[10, 11], &AdaptorOutput::new().logits(&logits))?;
/// recorder.finish()?;
///
/// let file = TeacherFile::open(folder.path())?;
/// file.check_labels(&["negative", "positive"])?;
/// file.check_ids([10, 11])?;
/// let error = file.check_ids([10, 12, 13]).unwrap_err().to_string();
/// assert!(error.contains("2 of 3 examples are not in it: 12, 13"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TeacherFile(Arc<Opened>);

struct Opened {
    folder: PathBuf,
    facts: BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    columns: Vec<Column>,
    shards: Vec<ShardFile>,
    written: Vec<Written>,
    /// Sorted by id.
    index: Vec<Entry>,
}

/// Where an example is.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    shard: u32,
    example: u32,
}

/// How many ids a message names.
const NAMED: usize = 5;

impl TeacherFile {
    /// Opens a folder, reads its index, and checks that it is whole.
    ///
    /// # Errors
    /// When it is no recording or is not finished, a shard is missing, cut short or damaged, or processes
    /// that recorded together do not agree.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
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
        Ok(TeacherFile(Arc::new(opened)))
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.0.index.len()
    }

    /// Whether there is no example, which is never so.
    pub fn is_empty(&self) -> bool {
        self.0.index.is_empty()
    }

    /// The ids of all examples, in increasing order.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.index.iter().map(|entry| entry.id)
    }

    /// What there is of each example.
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    /// The names of the classes in their order, if the recording says them.
    pub fn labels(&self) -> Option<&[String]> {
        self.0.labels.as_deref()
    }

    /// What the recording says of teacher, tokenizer and data.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.0.facts
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The bytes of all shards.
    pub fn bytes(&self) -> u64 {
        self.0.written.iter().map(|written| written.bytes).sum()
    }

    fn wrong(&self, reason: String) -> Error {
        wrong(&self.0.folder, reason)
    }

    /// Refuses a file that does not have all of these examples.
    ///
    /// # Errors
    /// How many are missing, and the first of them.
    pub fn check_ids(&self, ids: impl IntoIterator<Item = u64>) -> Result<()> {
        let (mut count, mut missing, mut first) = (0u64, 0u64, Vec::new());
        for id in ids {
            count += 1;
            if self.find(id).is_none() {
                missing += 1;
                if first.len() < NAMED {
                    first.push(id.to_string());
                }
            }
        }
        if missing == 0 {
            return Ok(());
        }
        let more = if missing > NAMED as u64 { ", …" } else { "" };
        Err(self.wrong(format!(
            "{missing} of {count} examples are not in it: {}{more} (it has {} examples, with ids from {} \
             to {}); record the teacher on these data",
            first.join(", "),
            self.len(),
            self.ids().next().unwrap_or(0),
            self.0.index.last().map_or(0, |entry| entry.id),
        )))
    }

    /// Refuses a file whose recording says something else, such as the hash of another tokenizer.
    ///
    /// # Errors
    /// When it says something else, or nothing.
    pub fn check_fact(&self, name: &str, value: &str) -> Result<()> {
        match self.0.facts.get(name) {
            Some(fact) if fact == value => Ok(()),
            Some(fact) => Err(self.wrong(format!(
                "was recorded with another `{}`: {}, not {}",
                shown(name),
                shown(fact),
                shown(value)
            ))),
            None => Err(self.wrong(format!(
                "does not say its `{}`; record it with `Recording::fact`",
                shown(name)
            ))),
        }
    }

    /// Refuses a file whose classes have other names, or another order.
    ///
    /// # Errors
    /// When they have, or the file does not say.
    pub fn check_labels<L: AsRef<str>>(&self, labels: &[L]) -> Result<()> {
        let Some(known) = &self.0.labels else {
            let reason =
                "does not say the names of its classes; record it with `Recording::labels`";
            return Err(self.wrong(reason.to_owned()));
        };
        let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        if known.iter().eq(labels.iter()) {
            return Ok(());
        }
        let of = |labels: &mut dyn Iterator<Item = &str>| {
            let labels: Vec<_> = labels
                .take(20)
                .map(|label| shown(label).into_owned())
                .collect();
            labels.join(", ")
        };
        let (theirs, ours): (BTreeSet<&str>, BTreeSet<&str>) = (
            known.iter().map(String::as_str).collect(),
            labels.iter().copied().collect(),
        );
        let what = match theirs == ours {
            true => "another order of the classes",
            false => "other classes",
        };
        Err(self.wrong(format!(
            "has {what}: {}; wanted are {}",
            of(&mut known.iter().map(String::as_str)),
            of(&mut labels.iter().copied())
        )))
    }

    /// Refuses a file of logits over another number of classes: another vocabulary.
    ///
    /// # Errors
    /// When the number is another, or there are no logits.
    pub fn check_classes(&self, classes: i64) -> Result<()> {
        let mut of_logits = self.columns().iter();
        let of_logits = of_logits.find(|column| matches!(column.of, Origin::Logits { .. }));
        match of_logits {
            Some(column) if column.width == classes => Ok(()),
            Some(column) => Err(self.wrong(format!(
                "has logits of {} classes, wanted are {classes}: another vocabulary or task",
                column.width
            ))),
            None => Err(self.wrong("has no logits".to_owned())),
        }
    }

    /// Reads everything and compares all checksums.
    ///
    /// # Errors
    /// The first thing that is not as it was written.
    pub fn verify(&self) -> Result<()> {
        for (shard, written) in self.0.shards.iter().zip(&self.0.written) {
            let found = examine(&shard.path).map_err(|source| Error::io(&shard.path, source))?;
            // Tells which example it is, if it is one.
            shard.verify()?;
            if (found.bytes, found.crc32) != (written.bytes, written.crc32) {
                let reason = "is damaged: its checksum is not the one that the manifest has";
                return Err(wrong(&shard.path, format!("{reason}; {REMEDY}")));
            }
        }
        Ok(())
    }

    /// The file as a teacher of batches that carry ids.
    ///
    /// `masks` says which positions of a batch were recorded, by the masks that the teacher's adaptor
    /// returned in the recording: `logits_mask`, `inputs_mask`, or that of a feature
    /// ([`Feature::mask`](crate::Feature::mask)). Whatever else it returns goes on to the distiller. Where
    /// an example is one row, as with sentence classification, it returns nothing:
    /// `|_| Ok(AdaptorOutput::new())`.
    ///
    /// Its output is an [`AdaptorOutput`], so that the adaptor of the distiller is
    /// `|_, said| Ok(said.shallow_clone())`. Of several forms of the same logits in the file, the first
    /// recorded is used, or the one that [`FileTeacher::using`] names.
    pub fn teacher<'a, B: Batch>(
        &self,
        masks: impl Fn(&B) -> Result<AdaptorOutput> + 'a,
    ) -> FileTeacher<'a, B> {
        FileTeacher::new(self.clone(), Box::new(masks))
    }

    /// What the file has of these examples, in their order: all forms of logits, in the order of the
    /// columns, and all layers. Where examples have different numbers of positions, those of each come
    /// first and then padding, as `logits_mask` and the masks of the features say.
    ///
    /// ```
    /// use tch::Tensor;
    /// use textbrewer::teacher_file::{Recording, Stored};
    /// use textbrewer::AdaptorOutput;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut recorder = Recording::new(folder.path()).feature("pooled", [0], Stored::Float32).begin()?;
    /// let embeddings = Tensor::from_slice2(&[[0.5f32, -0.5], [1.5, 2.5]]);
    /// recorder.add(&[10, 11], &AdaptorOutput::new().feature("pooled", &[embeddings]))?;
    /// let said = recorder.finish()?.read(&[11])?;
    /// assert_eq!(said.features["pooled"].layers[0], Tensor::from_slice2(&[[1.5f32, 2.5]]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it does not have them, or they cannot be read.
    pub fn read(&self, ids: &[u64]) -> Result<AdaptorOutput> {
        Recorded::all(self, ids)
    }

    fn find(&self, id: u64) -> Option<Entry> {
        let index = &self.0.index;
        let place = index.binary_search_by_key(&id, |entry| entry.id).ok()?;
        index.get(place).copied()
    }

    /// What it has of these examples in these columns, column by column, and how many positions.
    pub(super) fn contents(&self, ids: &[u64], columns: &[usize]) -> Result<Vec<Content>> {
        let entries: Option<Vec<Entry>> = ids.iter().map(|id| self.find(*id)).collect();
        let Some(entries) = entries else {
            self.check_ids(ids.iter().copied())?;
            return Err(self.wrong("has not all examples".to_owned()));
        };
        // Each shard is opened once.
        let mut files: BTreeMap<u32, File> = BTreeMap::new();
        let mut contents = vec![Content::default(); columns.len()];
        for entry in entries {
            let no_shard = || self.wrong("has lost a shard".to_owned());
            let shard = self
                .0
                .shards
                .get(entry.shard as usize)
                .ok_or_else(no_shard)?;
            let file = match files.entry(entry.shard) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(shard.file()?),
            };
            for (content, column) in contents.iter_mut().zip(columns) {
                shard.read(file, (entry.example as usize, *column), content)?;
            }
        }
        Ok(contents)
    }

    /// How many positions an example has in a column.
    pub(super) fn positions(&self, id: u64, column: usize) -> u64 {
        let found = self.find(id).and_then(|entry| {
            let shard = self.0.shards.get(entry.shard as usize)?;
            Some(shard.positions(entry.example as usize, column))
        });
        found.unwrap_or(0)
    }

    /// The error of what does not make sense among these examples.
    pub(super) fn damaged(&self, ids: &[u64], error: &Error) -> Error {
        match ids {
            [id] => match self.find(*id) {
                Some(entry) => match self.0.shards.get(entry.shard as usize) {
                    Some(shard) => shard.damaged(entry.example as usize, error),
                    None => self.wrong(error.to_string()),
                },
                None => self.wrong(error.to_string()),
            },
            _ => self.wrong(error.to_string()),
        }
    }

    /// Tells this file from others: a checksum of its shards' checksums.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for written in &self.0.written {
            hasher.update(&written.crc32.to_le_bytes());
            hasher.update(&written.bytes.to_le_bytes());
        }
        format!(
            "{} examples, checksum {:08x}",
            self.len(),
            hasher.finalize()
        )
    }
}

impl Opened {
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

impl fmt::Debug for TeacherFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeacherFile")
            .field("folder", &self.0.folder)
            .field("examples", &self.len())
            .field("columns", &self.0.columns)
            .field("facts", &self.0.facts)
            .field("labels", &self.0.labels)
            .field("shards", &self.0.shards.len())
            .finish_non_exhaustive()
    }
}
