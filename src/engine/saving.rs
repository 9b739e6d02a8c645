//! The checkpoints of the current run: which exist, and which is the best.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::Tensor;

use super::run::Options;
use crate::checkpoint::{
    CheckpointFolder, Content, Description, EarlyStopping, Keep, Mode, Newest, Saved,
    SavedPosition, SavedStudent, StateTensors,
};
use crate::error::Result;
use crate::logging;

/// The checkpoints of the current run.
#[derive(Debug)]
pub(super) struct Saving {
    checkpoints: CheckpointFolder,
    keep: Keep,
    mode: Mode,
    early_stopping: Option<EarlyStopping>,
    pub(super) saves_state: bool,
    description: Description,
    /// Every planned checkpoint so far, removed ones too.
    history: Vec<Saved>,
    /// The steps whose students exist.
    kept: Vec<u64>,
    best: Option<Saved>,
}

impl Saving {
    pub(super) fn new(
        checkpoints: CheckpointFolder,
        options: &Options,
        description: Description,
    ) -> Self {
        Saving {
            checkpoints,
            keep: options.keep.clone(),
            mode: options.mode,
            early_stopping: options.early_stopping,
            saves_state: options.saves_state,
            description,
            history: Vec::new(),
            kept: Vec::new(),
            best: None,
        }
    }

    /// Continues with the checkpoints of an interrupted run, and completes the removal and
    /// renaming that it may not have finished.
    pub(super) fn resume(&mut self, newest: &Newest) -> Result<()> {
        self.checkpoints.continue_run(newest);
        let loaded = &newest.loaded;
        let position = &loaded.position;
        self.history = position
            .history
            .iter()
            .map(|point| (*point).into())
            .collect();
        self.best = position.best.map(Into::into);
        let checkpoints = &self.checkpoints;
        if checkpoints.holds(loaded) {
            // In another folder, files of these names belong to another run.
            self.kept = position.kept.clone();
        }
        self.kept
            .retain(|step| checkpoints.existing_student(*step).is_some());
        self.tidy()
    }

    /// Writes the student.
    pub(super) fn student(
        &mut self,
        step: u64,
        state: &[(String, Tensor)],
    ) -> Result<SavedStudent> {
        let student = self.checkpoints.save_student(step, state)?;
        self.kept.retain(|kept| *kept != step);
        self.kept.push(step);
        Ok(student)
    }

    /// Records the metric of a planned checkpoint, and returns whether the run ends early.
    pub(super) fn record(&mut self, step: u64, metric: Option<f64>) -> bool {
        let finite = metric.filter(|metric| metric.is_finite());
        if let (Some(metric), None) = (metric, finite) {
            logging::warn(format_args!(
                "the metric at step {step} is {metric}, which counts as none"
            ));
        }
        let saved = Saved::new(step, finite);
        self.history.push(saved);
        let best = self.best.and_then(|best| best.metric);
        if let Some(metric) = finite
            && best.is_none_or(|best| self.mode.is_better(metric, best))
        {
            self.best = Some(saved);
        }
        self.gives_up()
    }

    /// Whether early stopping ends the run here.
    pub(super) fn gives_up(&self) -> bool {
        let stopping = self.early_stopping.as_ref();
        stopping.is_some_and(|stopping| stopping.should_stop(&self.history, self.mode))
    }

    /// Adds the checkpoints to what is saved.
    pub(super) fn add_to(&self, position: &mut SavedPosition) {
        position.history = self.history.iter().map(|saved| (*saved).into()).collect();
        position.kept = self.kept.clone();
        position.best = self.best.map(Into::into);
    }

    /// Writes the state that belongs to this student, into the folder returned.
    pub(super) fn state(
        &mut self,
        student: &SavedStudent,
        position: &SavedPosition,
        tensors: &StateTensors,
    ) -> Result<PathBuf> {
        let content = Content {
            description: &self.description,
            position,
            tensors,
        };
        self.checkpoints.save_state(student, &content)
    }

    /// Removes the students that are not kept and updates `best.safetensors`. A resumed run does
    /// it again, as it may have been interrupted in the middle.
    pub(super) fn tidy(&mut self) -> Result<()> {
        if let Some(best) = self.best_here() {
            self.checkpoints.point_best(best.step)?;
        }
        let history = self.history.iter().map(|saved| (saved.step, saved.metric));
        let metrics: BTreeMap<u64, Option<f64>> = history.collect();
        let metric_of = |step: &u64| metrics.get(step).copied().flatten();
        let kept = self.kept.iter();
        let saved = kept.map(|step| Saved::new(*step, metric_of(step)));
        let saved: Vec<_> = saved.collect();
        let mut removed = self.keep.to_remove(&saved, self.mode);
        // If a metric was reached twice, the first is the best.
        removed.retain(|step| self.best.is_none_or(|best| best.step != *step));
        for step in &removed {
            self.checkpoints.remove_student(*step);
        }
        self.kept.retain(|step| !removed.contains(step));
        Ok(())
    }

    /// The files of the students that exist.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self
            .kept
            .iter()
            .map(|step| self.checkpoints.existing_student(*step));
        files.flatten().collect()
    }

    /// The best checkpoint and its file.
    pub(super) fn best(&self) -> (Option<Saved>, Option<PathBuf>) {
        let file = self.best_here().map(|_| self.checkpoints.best());
        (self.best, file.filter(|path| path.is_file()))
    }

    /// The best, if its student is in this folder: that of a run resumed into another folder may
    /// be in the previous one.
    fn best_here(&self) -> Option<Saved> {
        self.best.filter(|best| self.kept.contains(&best.step))
    }
}
