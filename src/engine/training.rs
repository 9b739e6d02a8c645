//! The loop itself.

use tch::Tensor;

use super::checkpoint::{self, CheckpointInfo, Flow};
use super::existing;
use super::losses::{log_to, PendingLosses};
use super::plan::Plan;
use super::TrainSummary;
use crate::distiller::TeacherCache;
use crate::error::Context;
use crate::logging::{LogSink, Progress};
use crate::optim::{clip_grad_norm, LossScaling, Optimizer, ParamGroup};
use crate::scalar::ScalarOps;
use crate::schedule::LrSchedule;
use crate::{Batch, DataLoader, Distiller, Error, LossReport, Result, StepInfo};

pub(super) type Callback<'a, S> = Box<dyn FnMut(&S, &CheckpointInfo) -> Result<Flow> + 'a>;

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
}

impl<D: Distiller + ?Sized> Training<'_, D> {
    /// Trains to the end, and leaves logs and progress bar in order whatever happens.
    pub(super) fn run(mut self, mut feed: Feed<'_, D::Batch>) -> Result<TrainSummary> {
        let result = self.run_epochs(&mut feed);
        // The values before an error are what explains it. The error itself matters more
        // than a second one that reading them may give.
        let read = self.pending.flush(&mut self.sinks);
        self.progress.finish();
        result.and(read)?;
        self.summary.losses = self.pending.latest().clone();
        self.summary.forward_steps = self.forward_step;
        self.summary.cache_bytes = self.distiller.teacher_cache().map(TeacherCache::bytes);
        Ok(self.summary)
    }

    fn run_epochs(&mut self, feed: &mut Feed<'_, D::Batch>) -> Result<()> {
        // Batches as the plan counts them: in the epoch, or in a run of steps in the run.
        let mut counted = 0;
        self.optimizer.zero_grad()?;
        while self.plan.has_epoch(self.summary.epochs) {
            if self.plan.batches_per_epoch().is_some() {
                // Gradients of batches left over from the epoch before are dropped.
                self.optimizer.zero_grad()?;
                counted = 0;
            }
            let flow = self.run_epoch(feed, &mut counted)?;
            if flow == Flow::Stop || self.summary.global_steps >= self.plan.total_steps() {
                break;
            }
        }
        Ok(())
    }

    fn run_epoch(&mut self, feed: &mut Feed<'_, D::Batch>, counted: &mut u64) -> Result<Flow> {
        let epoch = self.summary.epochs;
        self.summary.epochs += 1;
        let expected = self.plan.batches_per_epoch();
        let device = self.distiller.config().device;
        let started = feed.start_epoch(epoch + 1);
        started.map_err(|error| data_error(epoch, 0, error))?;
        let mut count = 0;
        let moved = |feed: &mut Feed<'_, D::Batch>| {
            let batch = feed.next_batch()?;
            batch.map(|batch| batch.to_device(device)).transpose()
        };
        while let Some(batch) = moved(feed).map_err(|error| data_error(epoch, count, error))? {
            if expected == Some(count) {
                return Err(wrong_length(epoch, count, count, "more"));
            }
            let flow = self.train_batch(&batch, feed.batch_id(), epoch, *counted)?;
            count += 1;
            *counted += 1;
            let is_done =
                expected.is_none() && self.summary.global_steps >= self.plan.total_steps();
            if flow == Flow::Stop || is_done {
                return Ok(flow);
            }
        }
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
        if self.plan.saves_after(self.summary.global_steps, epoch) {
            return self.save(epoch);
        }
        Ok(Flow::Continue)
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
        if self.summary.global_steps == 0 {
            self.check_gradients()?;
        }
        let found_infinity = self.unscale()?;
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
        match (&mut self.scaling, &found_infinity) {
            (Some(scaling), Some(found_infinity)) => {
                self.optimizer.step_unless(factor, found_infinity)?;
                scaling.update(found_infinity)?;
            }
            _ => self.optimizer.step(factor)?,
        }
        self.optimizer.zero_grad()?;
        self.summary.global_steps += 1;
        Ok(())
    }

    /// Takes the scale of the loss out of the gradients; whether one is infinite stays on the
    /// device.
    fn unscale(&self) -> Result<Option<Tensor>> {
        let parameters = self.optimizer.groups().iter().flat_map(ParamGroup::tensors);
        let scaling = self.scaling.as_ref();
        scaling
            .map(|scaling| scaling.unscale(parameters))
            .transpose()
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
        let scale = scaling.state()?.scale;
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
        let folder = &self.distiller.config().output_dir;
        let path = checkpoint::save(folder, step, self.distiller.variables())?;
        existing::note(&path);
        log::info!("saved {} in epoch {}", path.display(), epoch + 1);
        self.summary.checkpoints.push(path.clone());
        let info = CheckpointInfo {
            global_step: step,
            epoch: epoch + 1,
            path,
            losses: self.pending.latest().clone(),
            mean_losses: self.pending.take_means(),
        };
        let student = self.distiller.student();
        let callbacks = &mut self.callbacks;
        let flow = self.progress.suspend(|| {
            let _guard = tch::no_grad_guard();
            let mut flow = Flow::Continue;
            for callback in callbacks {
                // The others still run: each may have something of its own to record.
                if callback(student, &info)? == Flow::Stop {
                    flow = Flow::Stop;
                }
            }
            Ok(flow)
        });
        let flow = flow.map_err(|error: Error| Error::Callback {
            step,
            source: Box::new(error),
        })?;
        self.summary.stopped_by_callback = flow == Flow::Stop;
        Ok(flow)
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
