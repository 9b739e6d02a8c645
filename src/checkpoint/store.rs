//! The checkpoints of a run, in its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Tensor;

use super::description::Description;
use super::disk::{Disk, Written, temporary};
use super::manifest::{
    DISTILLER, FORMAT, MANIFEST, Manifest, OPTIMIZER, PROGRESS, RANDOM, STUDENT, damaged,
};
use super::progress::Progress;
use super::read::{self, Loaded, TEXT_LIMIT};
use crate::error::{Error, Result, shortened};
use crate::weights;

/// The folder of the states, inside that of the students.
const STATE: &str = "state";
const BEST: &str = "best.safetensors";
/// Another one, for when the newest is damaged.
const STATES_KEPT: usize = 2;

/// The checkpoints of a run, in its folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    disk: Disk,
    run: String,
    /// The number of the newest checkpoint of any run in the folder.
    sequence: u64,
    /// The steps whose states the run could not go on from.
    damaged: BTreeSet<u64>,
}

/// A saved student: its file, and what was written there.
#[derive(Debug, Clone)]
pub(crate) struct SavedStudent {
    pub(crate) step: u64,
    pub(crate) path: PathBuf,
    written: Written,
}

/// What a state folder holds besides the student.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) description: &'a Description,
    pub(crate) progress: &'a Progress,
    pub(crate) tensors: &'a StateTensors,
}

/// The tensors of a state folder besides the student's, by file and name.
#[derive(Debug, Default)]
pub(crate) struct StateTensors {
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    pub(crate) distiller: BTreeMap<String, Tensor>,
    pub(crate) random: BTreeMap<String, Tensor>,
}

/// The newest checkpoint that is whole, and what is wrong with newer ones.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) loaded: Loaded,
    pub(crate) damaged: Vec<Error>,
    /// The steps of those.
    pub(crate) damaged_steps: Vec<u64>,
}

impl Store {
    /// The checkpoints of a new run in this folder.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        // Keyed by the system's random numbers.
        let random = std::hash::RandomState::new().build_hasher().finish();
        Store {
            folder: folder.into(),
            disk: Disk::default(),
            run: format!("{random:016x}"),
            sequence: 0,
            damaged: BTreeSet::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// Goes on with the run of a checkpoint.
    pub(crate) fn continue_run(&mut self, newest: &Newest) {
        self.run = newest.loaded.manifest.run.clone();
        if self.holds(&newest.loaded) {
            self.damaged.extend(&newest.damaged_steps);
        }
    }

    /// Whether a checkpoint was found in this folder, and not in another.
    pub(crate) fn holds(&self, loaded: &Loaded) -> bool {
        let here = self.states().canonicalize();
        let there = loaded.path.parent().map(Path::canonicalize);
        matches!((here, there), (Ok(here), Some(Ok(there))) if here == there)
    }

    fn student(&self, step: u64) -> PathBuf {
        self.folder.join(format!("gs{step}.safetensors"))
    }

    fn states(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    fn state(&self, step: u64) -> PathBuf {
        self.states().join(format!("gs{step}"))
    }

    /// Makes the folder, tries that files can be written there, so that a wrong path ends a
    /// run at its start and not at its first checkpoint, and clears away what a run that was
    /// killed while it was writing has left.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.disk.create_folder(&self.folder)?;
        let probe = temporary(&self.folder.join("probe"));
        self.disk.write(&probe, |_| Ok(()))?;
        self.disk.remove(&probe)?;
        // First: a folder of states that is a link leads to files that are not ours to remove.
        let steps = self.steps()?;
        for folder in [self.folder.clone(), self.states()] {
            for (name, path) in entries(&folder)? {
                let is_ours = name.starts_with(".gs") || name == format!(".{BEST}.tmp");
                if is_ours && name.ends_with(".tmp") {
                    self.disk.remove(&path)?;
                }
            }
        }
        let manifests = steps.into_iter();
        let manifests = manifests.filter_map(|step| read::manifest(&self.state(step), step).ok());
        self.sequence = manifests.map(|m| m.sequence).max().unwrap_or(0);
        Ok(())
    }

    /// What a run that begins here could be taken to have written: the states, by their
    /// steps, and then the best student.
    pub(crate) fn left_behind(&self) -> Result<Vec<PathBuf>> {
        let mut steps = self.steps()?;
        steps.sort_unstable();
        let mut paths: Vec<_> = steps.into_iter().map(|step| self.state(step)).collect();
        let best = self.best();
        if fs::symlink_metadata(&best).is_ok_and(|about| !about.is_dir()) {
            paths.push(best);
        }
        Ok(paths)
    }

    /// Removes what [`left_behind`](Self::left_behind) lists. Should that fail half-way the
    /// run must not begin: it could be gone on from another run's state.
    pub(crate) fn clear(&self) -> Result<()> {
        let paths = self.left_behind()?;
        if paths.is_empty() {
            return Ok(());
        }
        let states = self.steps()?;
        log::warn!(
            "removing {} state(s){} of an earlier run from {}, as `overwrite(true)` asks for",
            states.len(),
            if paths.len() > states.len() {
                " and the best student"
            } else {
                ""
            },
            self.folder.display()
        );
        for step in states {
            self.remove_state(step)?;
        }
        self.disk.remove(&self.best())?;
        self.disk.sync_folder(&self.folder)
    }

    /// Writes `gs{step}.safetensors`, whole or not at all.
    pub(crate) fn save_student(
        &self,
        step: u64,
        state: &[(String, Tensor)],
    ) -> Result<SavedStudent> {
        let path = self.student(step);
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let written = self.disk.replace(&path, |file| {
            weights::write_to(&path, file, state, &metadata)
        })?;
        Ok(SavedStudent {
            step,
            path,
            written,
        })
    }

    /// Writes the state folder that belongs to a student, complete or not at all, and removes
    /// those of this run that it makes superfluous. The folder's path is returned.
    pub(crate) fn save_state(
        &mut self,
        student: &SavedStudent,
        content: &Content<'_>,
    ) -> Result<PathBuf> {
        let final_path = self.state(student.step);
        let building = temporary(&final_path);
        // Two checkpoints of one number cannot be told apart; no run gets that far.
        self.sequence = self.sequence.saturating_add(1);
        let built = self.build_state(&building, student, content);
        let moved = built.and_then(|()| self.put_in_place(&building, &final_path));
        if moved.is_err() {
            let _ = fs::remove_dir_all(&building);
        }
        moved?;
        self.damaged.remove(&student.step);
        self.remove_old_states();
        Ok(final_path)
    }

    fn build_state(
        &self,
        folder: &Path,
        student: &SavedStudent,
        content: &Content<'_>,
    ) -> Result<()> {
        let states = self.states();
        if fs::symlink_metadata(&states).is_ok_and(|about| !about.is_dir()) {
            let reason = "is no folder of its own; remove it, or choose another `output_dir`";
            return Err(damaged(&states, reason));
        }
        if !self.folder.is_dir() {
            // Making it anew would hide that the checkpoints in it are gone.
            let source = std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "the folder was deleted during the run; choose a folder that stays (`output_dir`)",
            );
            return Err(Error::io(&self.folder, source));
        }
        if !states.is_dir() {
            // Its name too has to survive a power cut.
            self.disk.create_folder(&states)?;
            self.disk.sync_folder(&self.folder)?;
        }
        self.disk.remove(folder)?;
        self.disk.create_folder(folder)?;
        let mut files = BTreeMap::new();
        let path = folder.join(STUDENT);
        self.disk.link(&student.path, &path)?;
        files.insert(STUDENT.to_owned(), student.written);
        for (name, tensors) in [
            (OPTIMIZER, &content.tensors.optimizer),
            (DISTILLER, &content.tensors.distiller),
            (RANDOM, &content.tensors.random),
        ] {
            let path = folder.join(name);
            let tensors: Vec<_> = tensors.iter().collect();
            let written = self.disk.write(&path, |file| {
                weights::write_to(&path, file, &tensors, &BTreeMap::new())
            })?;
            files.insert(name.to_owned(), written);
        }
        let written = self.write_json(&folder.join(PROGRESS), content.progress)?;
        files.insert(PROGRESS.to_owned(), written);
        let manifest = Manifest {
            format: FORMAT,
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            run: self.run.clone(),
            sequence: self.sequence,
            global_step: student.step,
            description: content.description.clone(),
            files,
        };
        self.write_json(&folder.join(MANIFEST), &manifest)?;
        self.disk.sync_folder(folder)
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<Written> {
        let text = serde_json::to_vec_pretty(value).map_err(Error::other)?;
        if text.len() as u64 > TEXT_LIMIT {
            // Written it could not be read again.
            let reason = format!(
                "would have {} bytes, more than the {TEXT_LIMIT} that are read; give fewer \
                 checkpoints (`ckpt_frequency`, `ckpt_steps`) or leave out the state \
                 (`save_state(false)`)",
                text.len()
            );
            return Err(Error::other(format!("{}: {reason}", path.display())));
        }
        self.disk.write(path, |file| {
            file.write_all(&text)
                .map_err(|error| Error::io(path, error))
        })
    }

    fn put_in_place(&self, building: &Path, path: &Path) -> Result<()> {
        if fs::symlink_metadata(path).is_err() {
            return self.disk.rename(building, path);
        }
        // A folder cannot be renamed over one that is not empty. The one that is there is of
        // an earlier run, or damaged.
        let aside = temporary(&path.with_extension("old"));
        self.disk.remove(&aside)?;
        self.disk.rename(path, &aside)?;
        let moved = self.disk.rename(building, path);
        if moved.is_err() {
            let _ = fs::rename(&aside, path);
        }
        moved?;
        self.disk.remove(&aside)
    }

    /// Keeps the newest states of this run. One that is known to be damaged is not counted: a
    /// whole one would go in its place. One that cannot be removed takes room and does no
    /// other harm.
    fn remove_old_states(&self) {
        let Ok(steps) = self.steps() else { return };
        let mut own: Vec<(u64, u64)> = steps
            .into_iter()
            .filter_map(|step| {
                let manifest = read::manifest(&self.state(step), step).ok()?;
                (manifest.run == self.run).then_some((manifest.sequence, step))
            })
            .collect();
        own.sort_unstable();
        own.reverse();
        let mut whole = 0;
        for (_, step) in own {
            if whole < STATES_KEPT {
                whole += usize::from(!self.damaged.contains(&step));
            } else if let Err(error) = self.remove_state(step) {
                log::warn!("a checkpoint that is no longer needed stays: {error}");
            }
        }
    }

    fn remove_state(&self, step: u64) -> Result<()> {
        // Under another name first: half removed it would look damaged.
        let path = self.state(step);
        let aside = temporary(&path);
        self.disk.remove(&aside)?;
        self.disk.rename(&path, &aside)?;
        self.disk.remove(&aside)
    }

    /// Removes a student; one that cannot be removed stays.
    pub(crate) fn remove_student(&self, step: u64) {
        if let Err(error) = self.disk.remove(&self.student(step)) {
            log::warn!("a student that is no longer needed stays: {error}");
        }
    }

    /// Lets `best.safetensors` be the student of this step, if that is still there.
    pub(crate) fn point_best(&self, step: u64) -> Result<()> {
        let student = self.student(step);
        if !student.is_file() {
            return Ok(());
        }
        self.disk.replace_by_link(&student, &self.folder.join(BEST))
    }

    /// The file of the best student.
    pub(crate) fn best(&self) -> PathBuf {
        self.folder.join(BEST)
    }

    /// The file of a student that is there.
    pub(crate) fn existing_student(&self, step: u64) -> Option<PathBuf> {
        Some(self.student(step)).filter(|path| path.is_file())
    }

    /// The steps that have a state folder, whatever is in it.
    fn steps(&self) -> Result<Vec<u64>> {
        let states = self.states();
        if fs::symlink_metadata(&states).is_ok_and(|about| about.is_symlink()) {
            return Err(damaged(&states, "is a link, which is not followed"));
        }
        let entries = entries(&states)?;
        Ok(entries
            .iter()
            .filter_map(|(name, _)| step_of(name))
            .collect())
    }

    /// All of the checkpoint of this step.
    pub(crate) fn load(&self, step: u64) -> Result<Loaded> {
        read::load(&self.state(step), step)
    }

    /// The newest checkpoint that is whole, of any run; `None` when there is no checkpoint at
    /// all.
    ///
    /// # Errors
    /// When all are damaged, and when one is of a later version: passing over it would lose
    /// work that is there.
    pub(crate) fn newest(&self) -> Result<Option<Newest>> {
        let mut damaged = Vec::new();
        let mut damaged_steps = Vec::new();
        let mut readable = Vec::new();
        for step in self.steps()? {
            match read::manifest(&self.state(step), step) {
                Ok(manifest) => readable.push((manifest.sequence, step)),
                Err(error @ Error::CheckpointVersion { .. }) => return Err(error),
                Err(error) => {
                    damaged.push(error);
                    damaged_steps.push(step);
                }
            }
        }
        readable.sort_unstable();
        for (_, step) in readable.into_iter().rev() {
            match self.load(step) {
                Ok(loaded) => {
                    return Ok(Some(Newest {
                        loaded,
                        damaged,
                        damaged_steps,
                    }));
                }
                Err(error) => {
                    damaged.push(error);
                    damaged_steps.push(step);
                }
            }
        }
        let mut all: Vec<_> = damaged_steps.into_iter().zip(damaged).collect();
        all.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        match all.len() {
            0 | 1 => all.pop().map_or(Ok(None), |(_, error)| Err(error)),
            _ => Err(self.all_damaged(&all)),
        }
    }

    /// What is wrong with each, those of the largest steps first, and of many with the last.
    fn all_damaged(&self, all: &[(u64, Error)]) -> Error {
        const FIRST: usize = 4;
        let states = self.states();
        let told = |error: &Error| {
            let text = match error {
                Error::Checkpoint { path, reason } => {
                    let path = path.strip_prefix(&states).unwrap_or(path);
                    format!("{}: {reason}", path.display())
                }
                other => other.to_string(),
            };
            shortened(text.lines().next().unwrap_or_default(), 300).into_owned()
        };
        let first = all.iter().take(FIRST).map(|(_, error)| told(error));
        let mut reasons: Vec<String> = first.collect();
        if let [.., (_, last)] = all.get(FIRST..).unwrap_or_default() {
            if all.len() > FIRST + 1 {
                reasons.push(format!("{} more", all.len() - FIRST - 1));
            }
            reasons.push(told(last));
        }
        let reason = format!(
            "all {} checkpoints are damaged: {}",
            all.len(),
            reasons.join("; ")
        );
        damaged(&states, reason)
    }
}

/// The names in a folder and their paths, sorted; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |error| Error::io(folder, error);
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The step in `gs20`, written the one way that it is written here.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("gs")?.parse().ok()?;
    (format!("gs{step}") == name).then_some(step)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
