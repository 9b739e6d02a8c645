//! Writing and removing the states of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Tensor;

use super::description::Description;
use super::disk::{Written, temporary};
use super::folder::{CheckpointFolder, SavedStudent};
use super::manifest::{
    DISTILLER, HOOKS, MANIFEST, Manifest, OPTIMIZER, PROGRESS, RANDOM, STUDENT, damaged, format_of,
};
use super::read::{self, TEXT_LIMIT};
use super::saved_position::SavedPosition;
use crate::error::{Error, Result};
use crate::logging;
use crate::weights;

/// More than one, in case the newest is damaged.
const STATES_KEPT: usize = 2;

/// The content of a state folder besides the student.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) description: &'a Description,
    pub(crate) position: &'a SavedPosition,
    pub(crate) tensors: &'a StateTensors,
}

/// The tensors of a state folder besides the student's, by file and name.
#[derive(Debug, Default)]
pub(crate) struct StateTensors {
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    pub(crate) distiller: BTreeMap<String, Tensor>,
    pub(crate) hooks: BTreeMap<String, Tensor>,
    pub(crate) random: BTreeMap<String, Tensor>,
}

impl CheckpointFolder {
    /// Writes the state folder that belongs to a student, complete or not at all, and then removes
    /// older ones of this run. Returns the folder's path.
    pub(crate) fn save_state(
        &mut self,
        student: &SavedStudent,
        content: &Content<'_>,
    ) -> Result<PathBuf> {
        let final_path = self.state(student.step);
        if self.disk.is_idle() {
            return Ok(final_path);
        }
        let building = temporary(&final_path);
        // Saturated, two checkpoints would have one number; no run gets that far.
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
            let reason = "is not a folder; remove it, or choose another `output_dir`";
            return Err(damaged(&states, reason));
        }
        if !self.folder.is_dir() {
            // Creating it again would hide that the checkpoints in it are gone.
            let source = std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "the folder was deleted during the run; choose a folder that stays (`output_dir`)",
            );
            return Err(Error::io(&self.folder, source));
        }
        if !states.is_dir() {
            // Its name has to survive a power cut, too.
            self.disk.create_folder(&states)?;
            self.disk.sync_folder(&self.folder)?;
        }
        self.disk.remove(folder)?;
        self.disk.create_folder(folder)?;
        let mut files = BTreeMap::new();
        let path = folder.join(STUDENT);
        self.disk.link(&student.path, &path)?;
        files.insert(STUDENT.to_owned(), student.written);
        let all = content.tensors;
        let of_hooks = content
            .description
            .has_hooks()
            .then_some((HOOKS, &all.hooks));
        for (name, tensors) in [
            (OPTIMIZER, &all.optimizer),
            (DISTILLER, &all.distiller),
            (RANDOM, &all.random),
        ]
        .into_iter()
        .chain(of_hooks)
        {
            let path = folder.join(name);
            let tensors: Vec<_> = tensors.iter().collect();
            let written = self.disk.write(&path, |file| {
                weights::write_to(&path, file, &tensors, &BTreeMap::new())
            })?;
            files.insert(name.to_owned(), written);
        }
        let written = self.write_json(&folder.join(PROGRESS), content.position)?;
        files.insert(PROGRESS.to_owned(), written);
        let manifest = Manifest {
            format: format_of(content.description),
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
            // It could not be read again.
            let reason = format!(
                "would have {} bytes, more than the {TEXT_LIMIT} that can be read again; save \
                 fewer checkpoints (`ckpt_frequency`, `ckpt_steps`) or no states \
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
        // A folder cannot be renamed over one that is not empty. The existing one is from an
        // earlier run, or damaged.
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

    /// Removes all but the newest states of this run. One that is known to be damaged does not
    /// count, as an intact one would be removed in its place. One that cannot be removed takes
    /// up room and does no other harm.
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
        let mut intact = 0;
        for (_, step) in own {
            if intact < STATES_KEPT {
                intact += usize::from(!self.damaged.contains(&step));
            } else if let Err(error) = self.remove_state(step) {
                logging::warn(format_args!(
                    "a checkpoint that is no longer needed was not removed: {error}"
                ));
            }
        }
    }

    pub(super) fn remove_state(&self, step: u64) -> Result<()> {
        // Renamed first: half removed it would look damaged.
        let path = self.state(step);
        let aside = temporary(&path);
        self.disk.remove(&aside)?;
        self.disk.rename(&path, &aside)?;
        self.disk.remove(&aside)
    }
}
