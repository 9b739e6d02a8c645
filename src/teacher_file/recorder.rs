//! A recording under way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::column::{Column, Origin};
use super::content::Content;
use super::manifest::{self, Listed, Manifest, Plan};
use super::run::tell_of_teacher;
use super::shard::Shard;
use super::shard_file::ShardFile;
use super::{TeacherFile, wrong};
use crate::adaptor::AdaptorOutput;
use crate::checkpoint::{Disk, Written, examine};
use crate::error::{Error, Result};

/// A [`TeacherFile`] in the making: takes what a teacher said of examples, batch by batch.
///
/// It is for programs that have a teacher's outputs from elsewhere, or that ask several teachers in
/// one pass over the data, each with a folder of its own. [`Recording::run`](super::Recording::run)
/// does the usual.
///
/// What was recorded before in the folder is not recorded again: a batch whose examples are all
/// there ([`has_all`](Self::has_all)) need not be computed.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::teacher_file::{Recording, Stored};
/// use textbrewer::{AdaptorOutput, TeacherFile};
///
/// let folder = tempfile::tempdir()?;
/// let mut recorder = Recording::new(folder.path()).logits(Stored::Float32).begin()?;
/// for (ids, scores) in [([7, 3], [[0.1f32, 0.9], [2.0, 1.0]]), ([1, 2], [[0.0, 0.0], [0.5, 0.1]])] {
///     if !recorder.has_all(&ids) {
///         let logits = Tensor::from_slice2(&scores);
///         recorder.add(&ids, &AdaptorOutput::new().logits(logits))?;
///     }
/// }
/// let file = recorder.finish()?;
/// assert_eq!(file.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Recorder {
    folder: PathBuf,
    plan: Plan,
    limits: Limits,
    disk: Disk,
    columns: Option<Vec<Column>>,
    shard: Shard,
    /// The number of the shard in the making.
    number: usize,
    /// The shards that this program wrote.
    written: BTreeMap<PathBuf, Written>,
    /// What was there before this program began.
    before: HashSet<u64>,
    /// What this program was given.
    given: HashSet<u64>,
}

/// When a shard is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) examples: usize,
}

impl Recorder {
    /// Begins, or goes on with what there is of the same recording.
    pub(super) fn begin(folder: PathBuf, plan: Plan, limits: Limits, disk: Disk) -> Result<Self> {
        let mut recorder = Recorder {
            columns: None,
            shard: Shard::default(),
            number: 0,
            written: BTreeMap::new(),
            before: HashSet::new(),
            given: HashSet::new(),
            folder,
            plan,
            limits,
            disk,
        };
        recorder.disk.create_folder(&recorder.folder)?;
        recorder.plan.check_alone(&recorder.folder)?;
        let plan = recorder.plan.path(&recorder.folder);
        match plan.exists() {
            true => {
                let begun: Plan = manifest::read(&plan)?;
                recorder.plan.check_same(&recorder.folder, &begun)?;
            }
            false => manifest::write(&recorder.disk, &plan, &recorder.plan)?,
        }
        for path in recorder.plan.shards_in(&recorder.folder)? {
            let shard = ShardFile::open(&path)?;
            recorder.check_columns(&path, &shard.columns)?;
            recorder.before.extend(shard.ids);
        }
        if !recorder.before.is_empty() {
            tell_of_teacher(&recorder.folder, &recorder.plan.facts);
        }
        recorder.go_to_free();
        Ok(recorder)
    }

    /// A shard that was removed is filled in; those after it are there.
    fn go_to_free(&mut self) {
        while self.path(self.number).exists() {
            self.number += 1;
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(self.plan.shard_name(number))
    }

    fn check_columns(&mut self, path: &Path, columns: &[Column]) -> Result<()> {
        let known = self.columns.get_or_insert_with(|| columns.to_vec());
        let differ = known
            .iter()
            .zip(columns)
            .find(|(known, column)| known != column);
        if known.len() == columns.len() && differ.is_none() {
            return Ok(());
        }
        let reason = match differ {
            Some((known, column)) => format!("has {column}; until now it was {known}"),
            None => format!(
                "has {} columns; until now it had {}",
                columns.len(),
                known.len()
            ),
        };
        Err(wrong(path, reason))
    }

    /// Whether all of these examples were recorded before, so that their teacher need not be asked.
    pub fn has_all(&self, ids: &[u64]) -> bool {
        ids.iter().all(|id| self.before.contains(id))
    }

    /// Adds what the teacher said of a batch, as its adaptor returns it. Examples that were recorded
    /// before are passed over.
    ///
    /// # Errors
    /// When something to be kept is missing, has another shape than before or than the ids, cannot be
    /// stored in that way, or when an id was given before; when the disk is full.
    pub fn add(&mut self, ids: &[u64], said: &AdaptorOutput) -> Result<()> {
        let _no_history = tch::no_grad_guard();
        self.check_new(ids)?;
        let (count, classes) = (ids.len() as i64, self.plan.classes);
        let mut sources = Vec::new();
        for keep in &self.plan.keep {
            sources.extend(keep.sources(said, (count, classes))?);
        }
        let columns: Vec<Column> = sources.iter().map(|source| source.column.clone()).collect();
        let folder = self.folder.clone();
        let what = || format!("recording of example {}", ids.first().copied().unwrap_or(0));
        self.check_columns(&folder, &columns)
            .map_err(|error| error.at(what()))?;
        check_names(&columns)?;
        self.check_labels(&columns)?;
        let encoded = sources.iter().map(|source| source.encode(ids));
        let encoded: Vec<Content> = encoded.collect::<Result<_>>()?;
        // Whatever cannot be recorded may be given again.
        self.given.extend(ids);
        for (place, &id) in ids.iter().enumerate() {
            if self.before.contains(&id) {
                continue;
            }
            self.shard.push(id, place, &encoded)?;
            let is_full = self.shard.bytes() as u64 >= self.limits.bytes;
            if is_full || self.shard.examples() >= self.limits.examples {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Refuses labels that are not as many as the classes.
    fn check_labels(&self, columns: &[Column]) -> Result<()> {
        let Some(labels) = &self.plan.labels else {
            return Ok(());
        };
        let of_logits = |column: &&Column| matches!(column.of, Origin::Logits { .. });
        let differs = |column: &&Column| column.width != labels.len() as i64;
        match columns.iter().filter(of_logits).find(differs) {
            Some(column) => Err(Error::config(
                "labels",
                format!(
                    "there are {}, but `{}` has {} classes",
                    labels.len(),
                    column.name,
                    column.width
                ),
            )),
            None => Ok(()),
        }
    }

    /// Passes over a batch that was recorded before.
    pub(super) fn pass_over(&mut self, ids: &[u64]) -> Result<()> {
        self.check_new(ids)?;
        self.given.extend(ids);
        Ok(())
    }

    /// Refuses an id that comes a second time: its example would be one of two.
    fn check_new(&self, ids: &[u64]) -> Result<()> {
        let mut here = HashSet::with_capacity(ids.len());
        match ids
            .iter()
            .find(|id| !here.insert(**id) || self.given.contains(id))
        {
            Some(id) => {
                let reason = format!(
                    "example {id} came twice; ids have to tell examples apart, and a pass over the data \
                     gives each once"
                );
                Err(Error::protocol("ids", reason))
            }
            None => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        let path = self.path(self.number);
        let columns = self.columns.as_deref().unwrap_or_default();
        let written = self
            .shard
            .write(&self.disk, &path, (columns, self.plan.checksum()?))?;
        self.written.insert(path, written);
        self.shard = Shard::default();
        self.go_to_free();
        Ok(())
    }

    /// Writes what is left, and the manifest. Of several processes, the file is whole when all have
    /// come here; before that this is [`TeacherFile::open`]'s error, which names those that have not.
    ///
    /// # Errors
    /// When nothing was recorded, the disk is full, or another process has not finished.
    pub fn finish(self) -> Result<TeacherFile> {
        let folder = self.folder.clone();
        self.end()?;
        TeacherFile::open(folder)
    }

    /// Writes what is left and the manifest, and opens nothing: for one of several processes, of which
    /// others may still be at work.
    ///
    /// # Errors
    /// When nothing was recorded by a single process, or the disk is full.
    pub fn end(mut self) -> Result<()> {
        if self.shard.examples() > 0 {
            self.write()?;
        }
        let mut shards = Vec::new();
        let mut examples = 0;
        for path in self.plan.shards_in(&self.folder)? {
            let shard = ShardFile::open(&path)?;
            let written = match self.written.get(&path) {
                Some(written) => *written,
                None => {
                    // It may have been damaged since: no manifest is to vouch for it then.
                    shard.verify()?;
                    examine(&path).map_err(|source| Error::io(&path, source))?
                }
            };
            let about = shard.ids.len() as u64;
            examples += about;
            shards.push(Listed {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                examples: about,
                bytes: written.bytes,
                crc32: written.crc32,
                index_crc32: shard.index_checksum(),
            });
        }
        if shards.is_empty() && self.plan.parts == 1 {
            let reason =
                "nothing was recorded: the loader gave no batch, or `add` was never called";
            return Err(Error::protocol("teacher file", reason));
        }
        let manifest = Manifest {
            columns: self.columns.clone().unwrap_or_default(),
            plan: self.plan.clone(),
            examples,
            shards,
            crc32: 0,
        };
        let path = self.plan.manifest_path(&self.folder);
        manifest.write(&self.disk, &path)?;
        self.disk.remove(&self.plan.path(&self.folder))
    }
}

/// Refuses two columns of one name, of which a file would have one.
fn check_names(columns: &[Column]) -> Result<()> {
    let mut names = BTreeSet::new();
    match columns.iter().find(|column| !names.insert(&column.name)) {
        Some(column) => Err(Error::config(
            &column.name,
            "is to be kept twice; keep it in one form",
        )),
        None => Ok(()),
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("folder", &self.folder)
            .field("plan", &self.plan)
            .field("before", &self.before.len())
            .field("given", &self.given.len())
            .finish_non_exhaustive()
    }
}
