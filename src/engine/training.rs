//! The loop itself.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::checkpoint::{CheckpointInfo, Flow, check_finite};
use super::existing;
use super::losses::{PendingLosses, log_to};
use super::plan::Plan;
use super::random::Random;
use super::saving::Saving;
use super::survival::Stop;
use super::{OnNonFinite, TrainSummary, Verdict};
use crate::batch::Batch;
use crate::checkpoint::{Newest, Progress as CheckpointProgress, SavedStudent, Stopped};
use crate::data::DataLoader;
use crate::distiller::{Distiller, LossReport, StepInfo, TeacherCache};
use crate::error::{Context, Error, Result};
use crate::logging::{LogSink, Progress};
use crate::native;
use crate::optim::{LossScaling, Optimizer, ParamGroup, clip_grad_norm};
use crate::scalar::ScalarOps;
use crate::schedule::LrSchedule;
use crate::weights;

pub(super) type Callback<'a, S> = Box<dyn FnMut(&S, &CheckpointInfo) -> Result<Verdict> + 'a>;

/// Where batches come from, as the models are to get them.
pub(super) type Feed<'a, B> = Box<dyn DataLoader<Batch = B> + 'a>;

/// A run under way.
pub(super) struct Training<'a, D: Distiller + ?Sized> {
    pub(super) plan: Plan,
    pub(super) distiller: &'a mut D,
    pub(super) optimizer: Box<dyn Optimizer + 'a>,
    pub(super) schedule: Option<Box<dyn LrSchedule + 'a>>,
    pub(super) max_grad_norm: Option<f64>,
    pub(super) scaling: Option<LossScaling>,
    pub(super) callbacks: Vec<Callback<'a, D::Student>>,
    pub(super) sinks: Vec<Box<dyn LogSink + 'a>>,
    pub(super) progress: Progress,
    pub(super) pending: PendingLosses,
    pub(super) summary: TrainSummary,
    pub(super) forward_step: u64,
    pub(super) saving: Saving,
    pub(super) random: Random,
    pub(super) stop: Stop,
    pub(super) position: Position,
    /// Whether the loss was found to reach the student.
    pub(super) has_gradients: bool,
    pub(super) on_non_finite: OnNonFinite,
}

/// Where in the data a run is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Batches taken from the loader in this epoch.
    batch: u64,
    /// Batches as the plan counts them: in the epoch, or in a run of steps in the run.
    counted: u64,
}

impl<D: Distiller + ?Sized> Training<'_, D> {
    /// Trains to the end, and leaves logs and progress bar in order whatever happens.
    pub(super) fn run(
        mut self,
        mut feed: Feed<'_, D::Batch>,
        newest: Option<Newest>,
    ) -> Result<TrainSummary> {
        let result = self.run_from(&mut feed, newest);
        // The values before an error are what explains it. The error itself matters more
        // than a second one that reading them may give.
        let read = self.pending.flush(&mut self.sinks);
        self.progress.finish();
        result.and(read)?;
        self.summary.losses = self.pending.latest().clone();
        self.summary.non_finite = self.pending.noted().cloned();
        self.summary.skipped_steps = self.pending.skipped_steps();
        self.summary.forward_steps = self.forward_step;
        self.summary.cache_bytes = self.distiller.teacher_cache().map(TeacherCache::bytes);
        self.summary.checkpoints = self.saving.files();
        (self.summary.best, self.summary.best_path) = self.saving.best();
        Ok(self.summary)
    }

    fn run_from(&mut self, feed: &mut Feed<'_, D::Batch>, newest: Option<Newest>) -> Result<()> {
        self.optimizer.zero_grad()?;
        if self.on_non_finite != OnNonFinite::Error {
            self.pending.only_note();
        }
        let Some(newest) = newest else {
            return self.run_epochs(feed);
        };
        let progress = &newest.loaded.progress;
        self.saving.resume(&newest)?;
        self.pending.resume(progress);
        self.forward_step = progress.forward_step;
        self.has_gradients = true;
        if let (Some(scaling), Some(state)) = (&mut self.scaling, progress.scaling) {
            scaling.set_numbers(state)?;
        }
        let summary = &mut self.summary;
        summary.global_steps = progress.global_step;
        summary.epochs = progress.epoch;
        summary.resumed_from = Some(progress.global_step);
        summary.damaged = newest.damaged.iter().map(Error::to_string).collect();
        summary.stopped_by_callback = progress.stopped == Some(Stopped::Callback);
        summary.stopped_early =
            progress.stopped == Some(Stopped::EarlyStopping) && self.saving.gives_up();
        let is_complete = self.plan.is_complete_after(progress);
        if is_complete || summary.stopped_by_callback || summary.stopped_early {
            return Ok(());
        }
        self.progress.step(progress.epoch, progress.global_step);
        let flow = self.finish_epoch(feed, progress, &newest.loaded.random)?;
        if flow == Flow::Stop || self.summary.global_steps >= self.plan.total_steps() {
            return Ok(());
        }
        self.run_epochs(feed)
    }

    /// Runs what is left of the epoch of a checkpoint.
    fn finish_epoch(
        &mut self,
        feed: &mut Feed<'_, D::Batch>,
        progress: &CheckpointProgress,
        random: &BTreeMap<String, Tensor>,
    ) -> Result<Flow> {
        let epoch = progress.epoch.saturating_sub(1);
        let at = |batch: u64| move |error| data_error(epoch, batch, error);
        self.random.load(random);
        if epoch > 0 {
            // Loaders that keep their batches, somewhere inside, collect them when they are
            // begun for the first time, and may have drawn random numbers then. The epoch is
            // the one that is gone on with: data of the first may be there no more.
            self.random.return_to_run()?;
            feed.start_epoch(progress.epoch).map_err(at(0))?;
        }
        self.random.return_to_epoch()?;
        feed.start_epoch(progress.epoch).map_err(at(0))?;
        let skipped = feed.skip(progress.batch).map_err(at(progress.batch))?;
        if skipped < progress.batch {
            let reason = format!(
                "the loader gave only {skipped} batches of the {} that the run had of this \
                 epoch when it was interrupted; give it the data that it had",
                progress.batch
            );
            return Err(at(skipped)(Error::other(reason)));
        }
        self.random.return_to(random)?;
        self.position = Position {
            batch: progress.batch,
            counted: progress.counted,
        };
        self.run_batches(feed, epoch)
    }

    fn run_epochs(&mut self, feed: &mut Feed<'_, D::Batch>) -> Result<()> {
        while self.plan.has_epoch(self.summary.epochs) {
            if self.plan.batches_per_epoch().is_some() {
                // Gradients of batches left over from the epoch before are dropped.
                self.optimizer.zero_grad()?;
                self.position.counted = 0;
            }
            let flow = self.run_epoch(feed)?;
            if flow == Flow::Stop || self.summary.global_steps >= self.plan.total_steps() {
                break;
            }
        }
        Ok(())
    }

    fn run_epoch(&mut self, feed: &mut Feed<'_, D::Batch>) -> Result<Flow> {
        let epoch = self.summary.epochs;
        self.summary.epochs += 1;
        self.random.begin_epoch()?;
        let started = feed.start_epoch(epoch + 1);
        started.map_err(|error| data_error(epoch, 0, error))?;
        self.position.batch = 0;
        self.run_batches(feed, epoch)
    }

    /// Runs the batches that an epoch, counted from 0, has left.
    fn run_batches(&mut self, feed: &mut Feed<'_, D::Batch>, epoch: u64) -> Result<Flow> {
        let expected = self.plan.batches_per_epoch();
        let device = self.distiller.config().device;
        let moved = |feed: &mut Feed<'_, D::Batch>| {
            let batch = feed.next_batch()?;
            batch.map(|batch| batch.to_device(device)).transpose()
        };
        loop {
            let count = self.position.batch;
            let Some(batch) = moved(feed).map_err(|error| data_error(epoch, count, error))? else {
                break;
            };
            if expected == Some(count) {
                return Err(wrong_length(epoch, count, count, "more"));
            }
            // Counted before it is trained on: a checkpoint after it does not want it again.
            let counted = self.position.counted;
            self.position = Position {
                batch: count + 1,
                counted: counted + 1,
            };
            let flow = self.train_batch(&batch, feed.batch_id(), epoch, counted)?;
            let is_done =
                expected.is_none() && self.summary.global_steps >= self.plan.total_steps();
            if flow == Flow::Stop || is_done {
                return Ok(flow);
            }
        }
        let count = self.position.batch;
        match expected {
            _ if count == 0 => Err(no_batch(epoch)),
            Some(expected) if count < expected => Err(wrong_length(
                epoch,
                count,
                expected,
                &format!("only {count}"),
            )),
            _ => Ok(Flow::Continue),
        }
    }

    fn train_batch(
        &mut self,
        batch: &D::Batch,
        batch_id: Option<u64>,
        epoch: u64,
        counted: u64,
    ) -> Result<Flow> {
        let step = StepInfo::new(
            self.forward_step,
            self.summary.global_steps,
            self.plan.total_steps(),
            epoch + 1,
        )
        .with_batch_id(batch_id);
        let report = self.distiller.train_on_batch(batch, &step)?;
        self.backward(&report, counted)?;
        self.forward_step += 1;
        let interval = self.distiller.config().log_interval;
        if interval.is_some_and(|interval| self.pending.len() >= interval) {
            self.read_losses()?;
        }
        if !self.plan.steps_after(counted) {
            return Ok(Flow::Continue);
        }
        self.update()?;
        self.progress.step(epoch + 1, self.summary.global_steps);
        let saves = self.plan.saves_after(self.summary.global_steps, epoch);
        let flow = match saves {
            true => self.save(epoch)?,
            false => Flow::Continue,
        };
        let is_last = self.summary.global_steps >= self.plan.total_steps();
        let is_interrupted = self.stop.is_wanted();
        let gives_up = self.on_non_finite == OnNonFinite::StopAndSave;
        let gives_up =
            gives_up && (self.pending.noted().is_some() || self.pending.skipped_steps() > 0);
        if flow == Flow::Continue && !is_last && (is_interrupted || gives_up) {
            if !saves {
                self.save_between()?;
            }
            self.summary.interrupted = is_interrupted;
            return Ok(Flow::Stop);
        }
        Ok(flow)
    }

    fn backward(&mut self, report: &LossReport, counted: u64) -> Result<()> {
        let total = report.total()?;
        self.pending.push(self.forward_step, &total, report)?;
        let context = || format!("backward pass of training step {}", self.forward_step);
        if !total.requires_grad() {
            let reason = "the loss does not depend on any trainable variable of the student; \
                          were its outputs detached, or made without gradients?";
            return Err(Error::config("student", reason));
        }
        let divisor = self.plan.divisor(counted);
        let mean = match divisor {
            1 => total,
            _ => total.over(divisor as f64)?,
        };
        let scaled = match &mut self.scaling {
            Some(scaling) => scaling.scale(&mean)?,
            None => mean,
        };
        scaled.f_backward().context(context)
    }

    /// The variables of another model get no gradient, and training would change nothing.
    fn check_gradients(&self) -> Result<()> {
        let variables = self.distiller.variables().trainable_variables();
        for variable in &variables {
            if variable.f_grad()?.defined() {
                return Ok(());
            }
        }
        let reason = format!(
            "the loss reaches none of the {} variables that were given with the student; is \
             this the student's own VarStore?",
            variables.len()
        );
        Err(Error::config("student", reason))
    }

    /// One optimizer step. It counts even if loss scaling makes the optimizer skip it.
    fn update(&mut self) -> Result<()> {
        if !self.has_gradients {
            self.check_gradients()?;
            self.has_gradients = true;
        }
        let found = self.found_non_finite()?;
        if let Some(max_norm) = self.max_grad_norm {
            let mut clipped = self.distiller.variables().trainable_variables();
            if self.distiller.config().clip_projections {
                let groups = self.distiller.extra_groups();
                let extra = groups.into_iter().flat_map(|group| group.parameters);
                clipped.extend(extra.map(|(_, tensor)| tensor));
            }
            let _norm = clip_grad_norm(&clipped, max_norm)?;
        }
        let steps_done = self.summary.global_steps;
        let factor = self
            .schedule
            .as_ref()
            .map_or(1.0, |schedule| schedule.factor(steps_done));
        match &found {
            Some(found) => self.optimizer.step_unless(factor, found)?,
            None => self.optimizer.step(factor)?,
        }
        match (&mut self.scaling, &found) {
            (Some(scaling), Some(found)) => scaling.update(found)?,
            // Not under loss scaling, which finds its scale by such steps.
            (None, Some(found)) => self.pending.count_left_out(found)?,
            (_, None) => {}
        }
        self.optimizer.zero_grad()?;
        self.summary.global_steps += 1;
        Ok(())
    }

    /// Whether a gradient is not finite, as a tensor of 1 or 0 on the device, where somebody
    /// asks. The scale of the loss is taken out of the gradients.
    fn found_non_finite(&self) -> Result<Option<Tensor>> {
        let parameters = self.optimizer.groups().iter().flat_map(ParamGroup::tensors);
        match (&self.scaling, self.on_non_finite) {
            (Some(scaling), _) => scaling.unscale(parameters).map(Some),
            (None, OnNonFinite::Error) => Ok(None),
            (None, _) => {
                // Gradients are divided by 1, which changes none.
                let device = self.distiller.config().device;
                let one = Tensor::f_ones([0i64; 0], (Kind::Float, device))?;
                native::optim::unscale(parameters, &one).map(Some)
            }
        }
    }

    /// Reads the losses since the last time, and the scale as it is now.
    fn read_losses(&mut self) -> Result<()> {
        self.read_loss_scale()?;
        self.pending.flush(&mut self.sinks)?;
        if let Some(total) = self.pending.latest().get(crate::distiller::TOTAL_LOSS) {
            self.progress.loss(*total);
        }
        Ok(())
    }

    fn read_loss_scale(&mut self) -> Result<()> {
        let Some(scaling) = &self.scaling else {
            return Ok(());
        };
        if self.pending.len() == 0 {
            return Ok(());
        }
        let scale = scaling.numbers()?.scale;
        let last = self.forward_step.saturating_sub(1);
        log_to(&mut self.sinks, "loss_scale", scale, last);
        // Below this its inverse is infinite, and no step can be done again.
        if scale < f64::from(f32::MIN_POSITIVE) {
            return Err(Error::config("loss scaling", VANISHED));
        }
        Ok(())
    }

    /// Saves the student and calls back. The losses are read before, so that weights that a
    /// NaN has ruined are not saved.
    fn save(&mut self, epoch: u64) -> Result<Flow> {
        self.read_losses()?;
        let step = self.summary.global_steps;
        let saved = self.save_student()?;
        log::info!("saved {} in epoch {}", saved.path.display(), epoch + 1);
        let info = CheckpointInfo {
            global_step: step,
            epoch: epoch + 1,
            path: saved.path.clone(),
            losses: self.pending.latest().clone(),
            mean_losses: self.pending.take_means(),
        };
        let student = self.distiller.student();
        let callbacks = &mut self.callbacks;
        let verdict = self.progress.suspend(|| {
            let _guard = tch::no_grad_guard();
            let mut all = Verdict::default();
            for callback in callbacks {
                // The others still run: each may have something of its own to record.
                let verdict = callback(student, &info)?;
                all.metric = verdict.metric.or(all.metric);
                if verdict.flow == Flow::Stop {
                    all.flow = Flow::Stop;
                }
            }
            Ok(all)
        });
        let verdict = verdict.map_err(|error: Error| Error::Callback {
            step,
            source: Box::new(error),
        })?;
        self.summary.stopped_by_callback = verdict.flow == Flow::Stop;
        self.summary.stopped_early = self.saving.record(step, verdict.metric);
        self.save_state(&saved)?;
        self.tidy()?;
        Ok(match self.summary.stopped_early {
            true => Flow::Stop,
            false => verdict.flow,
        })
    }

    /// A checkpoint that the plan does not know, to go on from: nobody is told of it, so that
    /// the run that goes on is the one that would not have been interrupted.
    fn save_between(&mut self) -> Result<()> {
        self.read_losses()?;
        let saved = self.save_student()?;
        log::info!("saved {} and stopped", saved.path.display());
        self.save_state(&saved)?;
        self.tidy()
    }

    fn tidy(&mut self) -> Result<()> {
        self.saving.tidy()?;
        if let (_, Some(best)) = self.saving.best() {
            existing::note(&best);
        }
        Ok(())
    }

    fn save_student(&mut self) -> Result<SavedStudent> {
        let step = self.summary.global_steps;
        let state = weights::state_dict(self.distiller.variables());
        let groups = self.distiller.extra_groups().into_iter();
        let extra: Vec<_> = groups.flat_map(|group| group.parameters).collect();
        check_finite(state.iter().chain(&extra), step)?;
        let saved = self.saving.student(step, &state)?;
        existing::note(&saved.path);
        Ok(saved)
    }

    /// Writes what the run needs to go on. The callbacks have been called by then: what they
    /// drew of random numbers is part of the run.
    fn save_state(&mut self, student: &SavedStudent) -> Result<()> {
        if !self.saving.saves_state {
            return Ok(());
        }
        let mut progress = CheckpointProgress {
            global_step: self.summary.global_steps,
            forward_step: self.forward_step,
            epoch: self.summary.epochs,
            batch: self.position.batch,
            counted: self.position.counted,
            stopped: match (self.summary.stopped_by_callback, self.summary.stopped_early) {
                (true, _) => Some(Stopped::Callback),
                (false, true) => Some(Stopped::EarlyStopping),
                (false, false) => None,
            },
            scaling: self
                .scaling
                .as_ref()
                .map(LossScaling::numbers)
                .transpose()?,
            ..CheckpointProgress::default()
        };
        self.pending.add_to(&mut progress);
        self.saving.add_to(&mut progress);
        let (optimizer, distiller) = (self.optimizer.state()?, self.distiller.state()?);
        let random = self.random.state()?;
        let path = self
            .saving
            .state(student, &progress, &optimizer, &distiller, &random)?;
        existing::note(&path);
        Ok(())
    }
}

const VANISHED: &str = "the scale has fallen to almost 0, as every step had an infinite or NaN \
                        gradient and was skipped; look for what has no gradient there, such as \
                        `sqrt` or `norm` at 0, or train in `bf16` or `float32`";

/// Tells an error of the user's function from one of the loader.
#[derive(Debug, thiserror::Error)]
#[error("batch_postprocessor: {0}")]
pub(super) struct Postprocessing(#[source] pub(super) Error);

fn data_error(epoch: u64, batch: u64, error: Error) -> Error {
    Error::Data {
        epoch: epoch + 1,
        batch: batch + 1,
        source: Box::new(error),
    }
}

/// The loader had nothing to give.
pub(super) fn no_batch(epoch: u64) -> Error {
    let reason =
        "the loader has no batch; is the data set empty, or smaller than a batch with `drop_last`?";
    data_error(epoch, 0, Error::other(reason))
}

fn wrong_length(epoch: u64, batch: u64, announced: u64, gave: &str) -> Error {
    let reason = format!("the loader announced {announced} batches and gave {gave}");
    data_error(epoch, batch, Error::other(reason))
}
