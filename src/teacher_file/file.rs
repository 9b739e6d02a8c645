//! A folder with what a teacher said, opened.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::column::Column;
use super::content::Content;
use super::opened::{Entry, Opened};
use super::recorded::Recorded;
use super::teacher::FileTeacher;
use super::wrong;
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::error::{Error, Result};

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
pub struct TeacherFile(pub(super) Arc<Opened>);

impl TeacherFile {
    /// Opens a folder, reads its index, and checks that it is whole.
    ///
    /// # Errors
    /// When it is no recording or is not finished, a shard is missing, cut short or damaged, or processes
    /// that recorded together do not agree.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(TeacherFile(Arc::new(Opened::open(folder.as_ref())?)))
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.0.index.len()
    }

    /// Always false: a file without examples is not opened.
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

    pub(super) fn wrong(&self, reason: String) -> Error {
        wrong(&self.0.folder, reason)
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

    pub(super) fn find(&self, id: u64) -> Option<Entry> {
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
                Place::Occupied(known) => known.into_mut(),
                Place::Vacant(place) => place.insert(shard.file()?),
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
