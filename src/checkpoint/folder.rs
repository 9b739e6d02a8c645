//! The folder of a run's checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::disk::{Disk, Written, temporary};
use super::manifest::damaged;
use super::newest::Newest;
use super::read::{self, Loaded};
use crate::error::{Error, Result};
use crate::logging;
use crate::weights;

/// The folder of the states, inside that of the students.
const STATE: &str = "state";
const BEST: &str = "best.safetensors";

/// The folder of a run's checkpoints.
#[derive(Debug)]
pub(crate) struct CheckpointFolder {
    pub(super) folder: PathBuf,
    pub(super) disk: Disk,
    pub(super) run: String,
    /// The sequence number of the newest checkpoint of any run in the folder.
    pub(super) sequence: u64,
    /// The steps whose states were found damaged when the run was resumed.
    pub(super) damaged: BTreeSet<u64>,
}

/// A saved student: its file, with size and checksum.
#[derive(Debug, Clone)]
pub(crate) struct SavedStudent {
    pub(crate) step: u64,
    pub(crate) path: PathBuf,
    pub(super) written: Written,
}

impl CheckpointFolder {
    /// The checkpoints of a new run in this folder.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        // The hasher's keys are random.
        let random = std::hash::RandomState::new().build_hasher().finish();
        CheckpointFolder {
            folder: folder.into(),
            disk: Disk::default(),
            run: format!("{random:016x}"),
            sequence: 0,
            damaged: BTreeSet::new(),
        }
    }

    /// The same checkpoints in a process that writes none of them: another does.
    pub(crate) fn read_only(mut self) -> Self {
        self.disk = Disk::idle();
        self
    }

    #[cfg(test)]
    pub(super) fn with_disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// Continues the run of a checkpoint.
    pub(crate) fn continue_run(&mut self, newest: &Newest) {
        self.run = newest.loaded.manifest.run.clone();
        if self.holds(&newest.loaded) {
            self.damaged.extend(&newest.damaged_steps);
        }
    }

    /// Whether a checkpoint was loaded from this folder.
    pub(crate) fn holds(&self, loaded: &Loaded) -> bool {
        let here = self.states().canonicalize();
        let there = loaded.path.parent().map(Path::canonicalize);
        matches!((here, there), (Ok(here), Some(Ok(there))) if here == there)
    }

    pub(super) fn student(&self, step: u64) -> PathBuf {
        self.folder.join(format!("gs{step}.safetensors"))
    }

    pub(super) fn states(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    pub(super) fn state(&self, step: u64) -> PathBuf {
        self.states().join(format!("gs{step}"))
    }

    /// Creates the folder and checks that files can be written there, so that a wrong path ends a
    /// run at its start and not at its first checkpoint. Removes the temporary files of a run
    /// that was killed while it was writing.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.disk.create_folder(&self.folder)?;
        let probe = temporary(&self.folder.join("probe"));
        self.disk.write(&probe, |_| Ok(()))?;
        self.disk.remove(&probe)?;
        // First, as it fails if the folder of states is a link: files behind it are not ours.
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

    /// The files of earlier runs that could be taken for those of a run that begins here: the
    /// states, by their steps, and then the best student.
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

    /// Removes what [`left_behind`](Self::left_behind) lists. If that fails half-way the run must
    /// not begin: it could be resumed from another run's state.
    pub(crate) fn clear(&self) -> Result<()> {
        let paths = self.left_behind()?;
        if paths.is_empty() {
            return Ok(());
        }
        let states = self.steps()?;
        if self.disk.is_idle() {
            return Ok(());
        }
        logging::warn(format_args!(
            "removing {} state(s){} of an earlier run from {}, as `overwrite(true)` asks for",
            states.len(),
            if paths.len() > states.len() {
                " and the best student"
            } else {
                ""
            },
            self.folder.display()
        ));
        for step in states {
            self.remove_state(step)?;
        }
        self.disk.remove(&self.best())?;
        self.disk.sync_folder(&self.folder)
    }

    /// Writes `gs{step}.safetensors`, complete or not at all.
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

    /// Removes a student; a failure is only logged.
    pub(crate) fn remove_student(&self, step: u64) {
        if let Err(error) = self.disk.remove(&self.student(step)) {
            logging::warn(format_args!(
                "a student that is no longer needed was not removed: {error}"
            ));
        }
    }

    /// Makes `best.safetensors` a link to the student of this step, if that still exists.
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

    /// The file of a student, if it exists.
    pub(crate) fn existing_student(&self, step: u64) -> Option<PathBuf> {
        Some(self.student(step)).filter(|path| path.is_file())
    }

    /// The steps that have a state folder, whatever is in it.
    pub(super) fn steps(&self) -> Result<Vec<u64>> {
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
}

/// The names in a folder and their paths, sorted; none if it does not exist.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
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

/// The step in `gs20`; `None` for any other spelling, such as `gs020`.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("gs")?.parse().ok()?;
    (format!("gs{step}") == name).then_some(step)
}
