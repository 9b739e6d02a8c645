//! What a run leaves behind: logs, the progress bar, checkpoints, and its summary.

use std::cell::RefCell;
use std::path::PathBuf;

use tch::Tensor;

use super::callback::{Callback, CheckpointInfo, Flow, Verdict};
use super::finite::check_finite;
use super::logs::{At, Logs, RunLogs};
use super::losses::PendingLosses;
use super::position::Position;
use super::prepare::existing;
use super::ranks::Ranks;
use super::run::CallbackRanks;
use super::saving::Saving;
use super::update::Updated;
use super::{OnNonFinite, TrainSummary};
use crate::checkpoint::{Newest, SavedPosition, SavedStudent, StateTensors, Stopped};
use crate::distiller::{Distiller, LossReport, TOTAL_LOSS};
use crate::error::{Error, Result};
use crate::logging::{LogFolder, ProgressBar};
use crate::optim::LossScalingState;
use crate::weights;

/// Logs losses, saves checkpoints, calls back, and sums the run up.
pub(super) struct Record<'a, S: ?Sized> {
    logs: Logs<'a>,
    /// The configurations, for the logs.
    texts: Vec<(String, String)>,
    /// The TensorBoard log, by which a resumed run finds it.
    log_folder: Option<LogFolder>,
    bar: ProgressBar,
    callbacks: Vec<Callback<'a, S>>,
    /// The number of batches between two readings of the losses.
    log_interval: Option<u64>,
    on_non_finite: OnNonFinite,
    losses: PendingLosses,
    saving: Saving,
    summary: TrainSummary,
    ranks: Ranks<'a>,
    callback_ranks: CallbackRanks,
}

impl<'a, S: ?Sized> Record<'a, S> {
    pub(super) fn new(
        logs: RunLogs<'a>,
        bar: ProgressBar,
        callbacks: Vec<Callback<'a, S>>,
        log_interval: Option<u64>,
        on_non_finite: OnNonFinite,
        saving: Saving,
        summary: TrainSummary,
    ) -> Self {
        Record {
            logs: logs.logs,
            texts: logs.texts,
            log_folder: logs.folder,
            bar,
            callbacks,
            log_interval,
            on_non_finite,
            losses: PendingLosses::new(on_non_finite, logs.rates),
            saving,
            summary,
            ranks: Ranks::default(),
            callback_ranks: CallbackRanks::default(),
        }
    }

    /// Records what several ranks do together.
    pub(super) fn of_ranks(mut self, ranks: Ranks<'a>, callback_ranks: CallbackRanks) -> Self {
        self.ranks = ranks;
        self.callback_ranks = callback_ranks;
        self
    }

    /// Continues with what a checkpoint has recorded.
    pub(super) fn resume(&mut self, newest: &Newest) -> Result<()> {
        let saved = &newest.loaded.position;
        self.saving.resume(newest)?;
        self.losses.resume(saved);
        let summary = &mut self.summary;
        summary.resumed_from = Some(saved.global_step);
        summary.damaged = newest.damaged.iter().map(Error::to_string).collect();
        summary.stopped_by_callback = saved.stopped == Some(Stopped::Callback);
        summary.stopped_early =
            saved.stopped == Some(Stopped::EarlyStopping) && self.saving.gives_up();
        Ok(())
    }

    /// Whether a callback or early stopping has ended the run.
    pub(super) fn is_stopped(&self) -> bool {
        self.summary.stopped_by_callback || self.summary.stopped_early
    }

    /// Keeps the losses of a batch, on the device.
    pub(super) fn push(
        &mut self,
        at: &Position,
        ends_step: bool,
        total: &Tensor,
        report: &LossReport,
    ) -> Result<()> {
        self.losses.push(At::of(at), ends_step, total, report)
    }

    /// Keeps what is to be known of the optimizer step after the last batch, on the device.
    pub(super) fn push_update(&mut self, at: &Position, updated: Updated) -> Result<()> {
        if let Some(skipped) = &updated.skipped {
            self.losses.count_skipped(skipped)?;
        }
        if self.logs.is_empty() {
            return Ok(());
        }
        let at = At::last_batch(at);
        self.losses
            .push_update(at, updated.factor, updated.grad_norm)
    }

    /// Notes that the gradients of the batches since the last optimizer step were dropped.
    pub(super) fn drop_gradients(&mut self) {
        if !self.logs.is_empty() {
            self.losses.push_dropped();
        }
    }

    /// Whether the losses are due to be read.
    pub(super) fn is_reading_due(&self) -> bool {
        let interval = self.log_interval;
        interval.is_some_and(|interval| self.losses.len() >= interval)
    }

    /// Whether there are losses that were not read.
    pub(super) fn has_unread(&self) -> bool {
        self.losses.len() > 0
    }

    /// Reads and logs the losses since the last reading.
    pub(super) fn read(&mut self, at: &Position) -> Result<()> {
        let read = self.losses.read_into(&mut self.logs, self.ranks);
        // Until here it was waited for the device.
        self.logs.speed(at);
        // The values around one that is not finite explain it, so they are there before the error.
        self.logs.flush();
        read?;
        if let Some(total) = self.losses.latest().get(TOTAL_LOSS) {
            self.bar.loss(*total);
        }
        Ok(())
    }

    /// Logs the loss scale.
    pub(super) fn loss_scale(&mut self, state: LossScalingState, at: &Position) -> Result<()> {
        let at = At::last_batch(at);
        self.logs.scalar("loss_scale", state.scale, at);
        // Below this its inverse is infinite, and every step is skipped from then on.
        if state.scale < f64::from(f32::MIN_POSITIVE) {
            return Err(Error::config("loss scaling", VANISHED));
        }
        Ok(())
    }

    /// Begins to log and to show the progress, from here.
    pub(super) fn begin(&mut self, at: &Position) {
        let is_resumed = self.summary.resumed_from.is_some();
        self.logs.begin(at, is_resumed, &self.texts);
        self.bar.begin(at.epoch, at.global_step);
    }

    /// Says that a checkpoint or an evaluation is done, whose time is not that of the steps.
    pub(super) fn after_pause(&mut self, at: &Position) {
        self.logs.restart_clock(at);
    }

    /// Moves the progress bar.
    pub(super) fn step(&self, at: &Position) {
        self.bar.step(at.epoch, at.global_step);
    }

    /// Whether a loss or a gradient that is not finite is to end the run.
    pub(super) fn gives_up(&self) -> bool {
        self.on_non_finite == OnNonFinite::StopAndSave
            && (self.losses.noted().is_some() || self.losses.skipped_steps() > 0)
    }

    /// Notes that the run ends before its length: interrupted, or because of a bad value.
    pub(super) fn ends_early(&mut self, is_interrupted: bool) {
        self.summary.interrupted = is_interrupted;
    }

    /// Writes the student, if its variables are finite.
    pub(super) fn save_student<D: Distiller + ?Sized>(
        &mut self,
        distiller: &D,
        step: u64,
    ) -> Result<SavedStudent> {
        let state = weights::state_dict(distiller.core().variables());
        let groups = distiller.core().param_groups().into_iter();
        let extra: Vec<_> = groups.flat_map(|group| group.parameters).collect();
        check_finite(state.iter().chain(&extra), step)?;
        let saved = self.saving.student(step, &state)?;
        self.ranks.wait("saving the student")?;
        existing::note(&saved.path);
        Ok(saved)
    }

    /// Calls the callbacks for a student that was just saved.
    pub(super) fn call_back(
        &mut self,
        student: &S,
        saved: &SavedStudent,
        at: &Position,
    ) -> Result<Flow> {
        let info = CheckpointInfo {
            global_step: at.global_step,
            epoch: at.epoch,
            saved: true,
            path: saved.path.clone(),
            losses: self.losses.latest().clone(),
            mean_losses: self.losses.take_means(),
            logged: RefCell::default(),
        };
        let verdict = self.verdict(student, &info, at)?;
        self.summary.stopped_early = self.saving.record(at.global_step, verdict.metric);
        Ok(match self.summary.stopped_early {
            true => Flow::Stop,
            false => verdict.flow,
        })
    }

    /// Calls the callbacks without a checkpoint; the means go on.
    pub(super) fn evaluate(&mut self, student: &S, at: &Position) -> Result<Flow> {
        let info = CheckpointInfo {
            global_step: at.global_step,
            epoch: at.epoch,
            saved: false,
            path: PathBuf::new(),
            losses: self.losses.latest().clone(),
            mean_losses: self.losses.means(),
            logged: RefCell::default(),
        };
        Ok(self.verdict(student, &info, at)?.flow)
    }

    /// What the callbacks say together.
    fn verdict(&mut self, student: &S, info: &CheckpointInfo, at: &Position) -> Result<Verdict> {
        let is_called = self.ranks.is_first() || self.callback_ranks == CallbackRanks::All;
        let callbacks = self.callbacks.iter_mut().filter(|_| is_called);
        let verdict = self.bar.suspend(|| {
            let _guard = tch::no_grad_guard();
            let mut all = Verdict::default();
            for callback in callbacks {
                // All of them run before a stop is obeyed: each may have something to record.
                let verdict = callback(student, info)?;
                all.metric = verdict.metric.or(all.metric);
                if verdict.flow == Flow::Stop {
                    all.flow = Flow::Stop;
                }
            }
            Ok(all)
        });
        let verdict = verdict.map_err(|error: Error| Error::Callback {
            step: info.global_step,
            source: Box::new(error),
        })?;
        let verdict = self.ranks.verdict(verdict)?;
        for (name, value) in info.logged.take() {
            self.logs.scalar(&name, value, At::of(at));
        }
        if let Some(metric) = verdict.metric {
            self.logs.scalar("metric", metric, At::of(at));
        }
        // A process that is killed after it has lost no evaluation.
        self.logs.flush();
        self.summary.stopped_by_callback = verdict.flow == Flow::Stop;
        Ok(verdict)
    }

    /// Whether checkpoints have a state to resume from.
    pub(super) fn saves_state(&self) -> bool {
        self.saving.saves_state
    }

    /// Writes the state that belongs to a student.
    pub(super) fn save_state(
        &mut self,
        student: &SavedStudent,
        mut position: SavedPosition,
        tensors: &StateTensors,
    ) -> Result<()> {
        position.stopped = match (self.summary.stopped_by_callback, self.summary.stopped_early) {
            (true, _) => Some(Stopped::Callback),
            (false, true) => Some(Stopped::EarlyStopping),
            (false, false) => None,
        };
        self.losses.add_to(&mut position);
        position.log = self.log_folder.clone();
        position.world_size = self.ranks.world_size() as u64;
        self.saving.add_to(&mut position);
        let path = self.saving.state(student, &position, tensors)?;
        existing::note(&path);
        self.ranks.wait("saving the state")
    }

    /// Removes the students that are not kept and updates `best.safetensors`.
    pub(super) fn tidy(&mut self) -> Result<()> {
        self.saving.tidy()?;
        if let (_, Some(best)) = self.saving.best() {
            existing::note(&best);
        }
        Ok(())
    }

    /// Closes logs and progress bar whatever the outcome, and sums the run up.
    pub(super) fn finish(
        mut self,
        result: Result<()>,
        at: &Position,
        cache_bytes: Option<u64>,
    ) -> Result<TrainSummary> {
        // The values before an error are what explains it; the error itself matters more than a
        // second one from reading them. Of several ranks the others do not come to read theirs, and
        // one's alone are not what is logged of all.
        let read = match &result {
            Err(_) if self.ranks.world_size() > 1 => Ok(()),
            Err(_) => self.losses.read_into(&mut self.logs, Ranks::default()),
            Ok(()) => self.losses.read_into(&mut self.logs, self.ranks),
        };
        self.logs.flush();
        self.bar.finish();
        result.and(read)?;
        let mut summary = self.summary;
        summary.global_steps = at.global_step;
        summary.forward_steps = at.forward_step;
        summary.epochs = at.epoch;
        summary.losses = self.losses.latest().clone();
        summary.non_finite = self.losses.noted().cloned();
        summary.skipped_steps = self.losses.skipped_steps();
        summary.cache_bytes = cache_bytes;
        summary.checkpoints = self.saving.files();
        (summary.best, summary.best_path) = self.saving.best();
        Ok(summary)
    }
}

const VANISHED: &str = "the scale has fallen to almost 0, as every step had an infinite or NaN \
                        gradient and was skipped; look for what has no gradient there, such as \
                        `sqrt` or `norm` at 0, or train in `bf16` or `float32`";
