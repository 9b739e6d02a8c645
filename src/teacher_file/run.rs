//! Recording: a pass over a loader, or what goes before a [`Recorder`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::manifest::{self, Plan};
use super::recorder::Recorder;
use super::{Recording, TeacherFile, wrong};
use crate::adaptor::AdaptorOutput;
use crate::batch::Batch;
use crate::checkpoint::Disk;
use crate::data::{DataLoader, Shard, Uneven};
use crate::distiller::{MixedPrecision, Teacher};
use crate::error::{Error, Result};
use crate::logging::{self, ProgressBar};
use crate::model::Model;

impl Recording {
    /// Begins to record, or goes on with what was recorded before in the folder.
    ///
    /// # Errors
    /// When nothing is to be kept, the folder has another recording, or it cannot be written.
    pub fn begin(self) -> Result<Recorder> {
        let plan = self.plan()?;
        self.clear(&plan)?;
        Recorder::begin(self.folder, plan, self.limits, Disk::for_recordings())
    }

    /// Refuses another recording in the folder, or removes it if that is allowed.
    fn clear(&self, plan: &Plan) -> Result<()> {
        match plan.check_folder(&self.folder) {
            Err(_) if self.overwrite => remove(&self.folder, plan),
            checked => checked,
        }
    }

    /// Asks the teacher about all examples of the loader's first epoch, and returns the file. The
    /// teacher runs in evaluation mode and without gradients.
    ///
    /// A program that was killed can be started again at any time: what is written is not computed
    /// again, and the file is the same, to the byte, as one that was written undisturbed. If all
    /// examples of the loader are there, the teacher is not asked; those that are not are added.
    ///
    /// Say the teacher's hash as a fact. Without it nobody notices that what is there was said by
    /// another teacher, and a warning says so.
    ///
    /// # Errors
    /// Those of the loader, the model and the adaptor, of [`begin`](Self::begin) and of
    /// [`Recorder::add`]; when batches carry no ids.
    pub fn run<B, T, F, L>(self, teacher: &T, adaptor: F, loader: &mut L) -> Result<TeacherFile>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        let folder = self.folder.clone();
        self.record(teacher, adaptor, loader)?;
        TeacherFile::open(folder)
    }

    /// As [`run`](Self::run), for one of several processes that record into one folder: it asks the
    /// teacher about a share of the examples, and writes files of its own. When all have ended,
    /// [`TeacherFile::open`] opens the whole; before that its error names those that have not.
    ///
    /// ```
    /// use tch::{Device, Tensor};
    /// use textbrewer::data::{DataLoader, Shard, TensorLoader};
    /// use textbrewer::teacher_file::{Recording, Stored};
    /// use textbrewer::{AdaptorOutput, Ids, TeacherFile, from_fn};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let teacher = from_fn(|(_, columns): &(Ids, Vec<Tensor>), _| Ok(columns[0].f_exp()?));
    /// // What each of two processes does.
    /// for rank in 0..2 {
    ///     let numbers = Tensor::from_slice2(&[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]);
    ///     let mut loader = TensorLoader::new(vec![numbers], 1)?.with_ids();
    ///     Recording::new(folder.path()).logits(Stored::Float32).device(Device::Cpu).run_share(
    ///         Shard::new(rank, 2)?,
    ///         &teacher,
    ///         |_, logits| Ok(AdaptorOutput::new().logits(logits)),
    ///         &mut loader,
    ///     )?;
    /// }
    /// assert_eq!(TeacherFile::open(folder.path())?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Self::run), but for those of opening the whole.
    pub fn run_share<B, T, F, L>(
        mut self,
        share: Shard,
        teacher: &T,
        adaptor: F,
        loader: &mut L,
    ) -> Result<()>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        self.share = Some(share);
        self.record(teacher, adaptor, loader)
    }

    /// As [`begin`](Self::begin), for one of several processes that record into one folder; it ends
    /// with [`Recorder::end`].
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_share(mut self, share: Shard) -> Result<Recorder> {
        self.share = Some(share);
        self.begin()
    }

    fn record<B, T, F, L>(self, teacher: &T, adaptor: F, loader: &mut L) -> Result<()>
    where
        B: Batch,
        T: Model<B> + ?Sized,
        F: Fn(&B, &T::Output) -> Result<AdaptorOutput>,
        L: DataLoader<Batch = B>,
    {
        let share = self.share.unwrap_or(Shard::ALL).with_uneven(Uneven::Keep);
        let mut batches = loader.shard(share);
        let plan = self.plan()?;
        self.clear(&plan)?;
        if plan.is_recorded(&self.folder)? {
            let ids = plan.ids_in(&self.folder)?;
            if has_all(&ids, &mut batches)? {
                tell_of_teacher(&self.folder, &self.facts);
                return Ok(());
            }
        }
        let (device, shows_progress) = (self.device, self.shows_progress);
        let precision = MixedPrecision::new(self.precision, device);
        let teacher = Teacher::new(teacher, adaptor);
        let disk = Disk::for_recordings();
        let mut recorder = Recorder::begin(self.folder, plan, self.limits, disk)?;
        let total = batches.num_batches().unwrap_or(0) as u64;
        let bar = match shows_progress {
            true => ProgressBar::new(total),
            false => ProgressBar::hidden(),
        };
        batches.start_epoch(1)?;
        bar.begin(1, 0);
        for number in 1.. {
            let in_batch = |error: Error| error.at(format!("recording batch {number}"));
            let Some(batch) = batches.next_batch().map_err(in_batch)? else {
                break;
            };
            let ids = batch.ids().cloned().ok_or_else(no_ids)?;
            if recorder.has_all(&ids) {
                recorder.pass_over(&ids)?;
            } else {
                let record = |recorder: &mut Recorder| {
                    let said = teacher.run(&batch.to_device(device)?, precision)?;
                    recorder.add(&ids, &said)
                };
                record(&mut recorder).map_err(in_batch)?;
            }
            bar.step(1, number);
        }
        bar.finish();
        recorder.end()
    }
}

/// Whether these are all examples of the loader's first epoch.
fn has_all<B: Batch>(
    known: &HashSet<u64>,
    batches: &mut impl DataLoader<Batch = B>,
) -> Result<bool> {
    for batch in batches.epoch(1)? {
        let batch = batch?;
        let ids = batch.ids().ok_or_else(no_ids)?;
        if !ids.iter().all(|id| known.contains(id)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Warns where what is there may be of another teacher. `source` is what is said of files of others.
pub(super) fn tell_of_teacher(folder: &Path, facts: &BTreeMap<String, String>) {
    if !facts.contains_key("teacher") && !facts.contains_key("source") {
        logging::warn(format_args!(
            "{}: what was recorded before is taken as it is; say the teacher's hash with \
             `Recording::fact(\"teacher\", …)`, or another teacher is not noticed",
            folder.display()
        ));
    }
}

pub(super) fn no_ids() -> Error {
    let reason = "a batch has none, by which its examples could be found; give the batch a field of type \
                  `Ids`, or call `with_ids` on the loader";
    Error::protocol("ids", reason)
}

/// Removes what there is of any recording, and nothing else.
fn remove(folder: &Path, plan: &Plan) -> Result<()> {
    if plan.parts > 1 {
        let reason = "several processes cannot replace a recording; remove the folder first";
        return Err(wrong(folder, reason.to_owned()));
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    // The manifest and the plan last: whoever begins after a kill in between must not take shards of
    // another recording for its own.
    names.sort();
    for name in names
        .iter()
        .rev()
        .filter(|name| manifest::is_ours(&name.to_string_lossy()))
    {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
    }
    Ok(())
}
