//! The loop itself.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::TrainSummary;
use super::callback::Flow;
use super::epochs::Epochs;
use super::evaluations::Evaluations;
use super::hooks::Hooks;
use super::interrupt::Stop;
use super::plan::Plan;
use super::position::Position;
use super::prepare::{Resumed, reducer};
use super::ranks::Ranks;
use super::record::Record;
use super::statistics::Statistics;
use super::update::Update;
use crate::checkpoint::{Newest, StateTensors};
use crate::distiller::Distiller;
use crate::error::Result;
use crate::logging;
use crate::step::StepInfo;

/// A run under way.
pub(super) struct Training<'a, D: Distiller + ?Sized> {
    pub(super) distiller: &'a mut D,
    pub(super) plan: Plan,
    pub(super) evaluations: Evaluations,
    pub(super) at: Position,
    pub(super) epochs: Epochs<'a, D::Batch>,
    pub(super) update: Update<'a>,
    pub(super) hooks: Hooks<'a, D::Student>,
    pub(super) record: Record<'a, D::Student>,
    pub(super) statistics: Statistics<'a>,
    pub(super) stop: Stop,
    pub(super) ranks: Ranks<'a>,
    /// Whether any rank can be asked to stop.
    pub(super) may_stop: bool,
    /// Whether batches weigh by their positions in an optimizer step. A step of one batch is a mean
    /// over its positions anyhow.
    pub(super) weighs_by_positions: bool,
}

impl<D: Distiller + ?Sized> Training<'_, D> {
    /// Trains to the end, from a checkpoint if there is one.
    pub(super) fn run(mut self, resumed: Option<Resumed>) -> Result<TrainSummary> {
        let result = self.run_from(resumed);
        // Batches left over at the end made no step, but they are in the statistics.
        let result = result.and_then(|()| self.statistics.share());
        let cache_bytes = self.distiller.core().cache_bytes();
        let mut summary = self.record.finish(result, &self.at, cache_bytes)?;
        // Here rather than where it ends a run: one that comes in the last callback ends nothing,
        // but a program with more runs is to end there.
        summary.interrupted |= is_interrupted(self.may_stop, &self.stop, self.ranks)?;
        Ok(summary)
    }

    fn run_from(&mut self, resumed: Option<Resumed>) -> Result<()> {
        self.drop_gradients()?;
        let Some(Resumed { newest, before }) = resumed else {
            let steps = self.plan.total_steps();
            logging::info(format_args!("training for {steps} optimizer steps"));
            self.record.begin(&self.at);
            if self.evaluations.at_start && self.evaluate()? == Flow::Stop {
                return Ok(());
            }
            return self.run_epochs();
        };
        let is_over = self.resume(&newest).inspect_err(|_| {
            before.put_back(self.distiller, &mut self.update.optimizer, &mut self.hooks);
        })?;
        drop((newest, before)); // They take as much memory as the gradients will.
        if is_over {
            return Ok(());
        }
        let flow = self.run_batches()?;
        if flow == Flow::Stop || self.is_last_step() {
            return Ok(());
        }
        self.run_epochs()
    }

    /// Returns to the position of the checkpoint, and says whether the run is over there.
    fn resume(&mut self, newest: &Newest) -> Result<bool> {
        let saved = &newest.loaded.position;
        self.record.resume(newest)?;
        self.update.resume(saved.scaling)?;
        self.at = Position::of(saved);
        let step = self.at.global_step;
        let is_complete = self.plan.is_complete_after(&self.at);
        if is_complete || self.record.is_stopped() {
            let (state, remedy) = match is_complete {
                true => ("is complete", "more epochs or steps, "),
                false => ("was ended by a callback or early stopping", ""),
            };
            // The checkpoint is `OUTPUT/state/gsN`.
            let folder = newest.loaded.path.ancestors().nth(2);
            let folder = folder.unwrap_or(&newest.loaded.path).display();
            logging::warn(format_args!(
                "the run in `{folder}` {state} at step {step}: nothing is trained; for more, give \
                 {remedy}another `output_dir`, or `overwrite(true)` in place of resuming"
            ));
            return Ok(true);
        }
        let random = &newest.loaded.tensors.random;
        self.epochs.resume(&self.at, random)?;
        let steps = self.plan.total_steps();
        logging::info(format_args!("going on at step {step} of {steps}"));
        // Last, as it makes values of the interrupted run void, and starts the clocks.
        self.record.begin(&self.at);
        Ok(false)
    }

    fn run_epochs(&mut self) -> Result<()> {
        while self.plan.has_epoch(self.at.epoch) {
            if self.plan.batches_per_epoch().is_some() {
                // Gradients of batches left over from the epoch before are dropped.
                self.drop_gradients()?;
                self.record.drop_gradients();
                self.at.counted = 0;
            }
            self.epochs.begin(&mut self.at)?;
            let flow = self.run_batches()?;
            if flow == Flow::Stop || self.is_last_step() {
                break;
            }
        }
        Ok(())
    }

    /// Runs the batches that are left of the epoch.
    fn run_batches(&mut self) -> Result<Flow> {
        while let Some(batch) = self.epochs.next_batch(&mut self.at)? {
            let flow = self.train_batch(&batch)?;
            let ends_with_step = self.plan.batches_per_epoch().is_none();
            if flow == Flow::Stop || (ends_with_step && self.is_last_step()) {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    fn is_last_step(&self) -> bool {
        self.at.global_step >= self.plan.total_steps()
    }

    fn train_batch(&mut self, batch: &D::Batch) -> Result<Flow> {
        let (counted, forward_step) = (self.at.counted, self.at.forward_step);
        let ends_step = self.plan.steps_after(counted);
        if self.update.needs_reducer() {
            self.update.reducer = None;
            self.update.has_dropped = false;
            let optimizer = &self.update.optimizer;
            (self.update.reducer, self.update.frozen) =
                reducer(self.ranks, optimizer, self.distiller)?;
        }
        self.update.before_forward(ends_step)?;
        let step = self.step_info().with_batch_id(self.epochs.batch_id());
        let report = self.distiller.train_on_batch(batch, &step)?;
        let total = report.total()?;
        self.record.push(&self.at, ends_step, &total, &report)?;
        let (total, divisor) = match self.weighs_by_positions {
            true => (self.update.weight.weigh(&total, &report)?, 1),
            false => (total, self.plan.divisor(counted)),
        };
        self.update
            .backward(total, divisor, forward_step, ends_step)?;
        self.at.counted += 1;
        self.at.forward_step += 1;
        if self.record.is_reading_due() {
            self.read_losses()?;
        }
        if !ends_step {
            return Ok(Flow::Continue);
        }
        self.optimizer_step()?;
        self.after_step()?;
        self.record.step(&self.at);
        self.end_step()
    }

    /// Forgets the batches since the last optimizer step.
    fn drop_gradients(&mut self) -> Result<()> {
        if let Some(mut sums) = self.distiller.core().step_sums() {
            let _ = sums.f_zero_()?;
        }
        self.update.drop_gradients()
    }

    /// The current position, for distillers and hooks.
    fn step_info(&self) -> StepInfo {
        let at = &self.at;
        StepInfo::new(
            at.forward_step,
            at.global_step,
            self.plan.total_steps(),
            at.epoch,
        )
        .wanting_positions(self.weighs_by_positions)
    }

    fn optimizer_step(&mut self) -> Result<()> {
        let steps = (self.at.global_step, self.plan.total_steps());
        let updated = self.update.step(self.distiller, steps)?;
        self.statistics.share()?;
        self.record.push_update(&self.at, updated)?;
        self.at.global_step += 1;
        Ok(())
    }

    /// Lets the distiller and the hooks act before a checkpoint of the step is saved.
    fn after_step(&mut self) -> Result<()> {
        let step = self.step_info();
        let _guard = tch::no_grad_guard();
        if let Some(mut sums) = self.distiller.core().step_sums() {
            let of_all = self.ranks.sum("adding up the losses of a step", &sums)?;
            sums.f_copy_(&of_all)?;
        }
        self.distiller.core_mut().after_step(&step)?;
        self.hooks
            .after_step(self.distiller.core().student(), &step)
    }

    /// Saves a checkpoint if one is due or if the run ends here.
    fn end_step(&mut self) -> Result<Flow> {
        let epoch = self.at.epoch.saturating_sub(1);
        let is_planned = self.plan.saves_after(self.at.global_step, epoch);
        let flow = if is_planned {
            self.checkpoint(is_planned)?
        } else if self.evaluations.are_due(self.at.global_step) && !self.is_interrupted()? {
            self.evaluate()?
        } else {
            // Who asks for a stop may not have the time for an evaluation.
            Flow::Continue
        };
        if flow == Flow::Stop && !is_planned {
            self.checkpoint(is_planned)?;
        }
        let is_interrupted = self.is_interrupted()?;
        // The same on all ranks, as the losses that were read are.
        let gives_up = self.record.gives_up();
        if flow == Flow::Continue && !self.is_last_step() && (is_interrupted || gives_up) {
            if !is_planned {
                self.checkpoint(is_planned)?;
            }
            self.record.ends_early(is_interrupted);
            return Ok(Flow::Stop);
        }
        Ok(flow)
    }

    fn is_interrupted(&self) -> Result<bool> {
        is_interrupted(self.may_stop, &self.stop, self.ranks)
    }

    /// Calls the callbacks without a checkpoint, and without a trace in the run: its random
    /// numbers, means and checkpoints are those of a run that does not evaluate.
    fn evaluate(&mut self) -> Result<Flow> {
        // The losses are told to the callbacks, and one that is not finite ends the run.
        self.read_losses()?;
        let random = self.epochs.random_state()?;
        let flow = self
            .record
            .evaluate(self.distiller.core().student(), &self.at)?;
        self.epochs.return_to(&random)?;
        self.record.after_pause(&self.at);
        Ok(flow)
    }

    /// Saves a checkpoint. Callbacks are called only if it was planned: a run that is not
    /// interrupted would not have called them here.
    fn checkpoint(&mut self, is_planned: bool) -> Result<Flow> {
        // First, so that weights ruined by a NaN are not saved.
        self.read_losses()?;
        let student = self
            .record
            .save_student(self.distiller, self.at.global_step)?;
        let path = student.path.display();
        let flow = if is_planned {
            logging::info(format_args!("saved {path} in epoch {}", self.at.epoch));
            self.record
                .call_back(self.distiller.core().student(), &student, &self.at)?
        } else {
            logging::info(format_args!("saved {path} and stopped"));
            Flow::Continue
        };
        if self.record.saves_state() {
            // After the callbacks, whose random numbers are part of the run.
            let mut position = self.at.to_saved();
            position.scaling = self.update.scaling_state()?;
            let tensors = StateTensors {
                optimizer: self.update.optimizer.state()?,
                distiller: self.distiller_state()?,
                hooks: self.hooks.state(self.at.global_step)?,
                random: self.epochs.saved_random_state()?,
            };
            self.record.save_state(&student, position, &tensors)?;
        }
        self.record.tidy()?;
        self.record.after_pause(&self.at);
        Ok(flow)
    }

    /// What the terms remember, with that of the other ranks, and the parameters.
    fn distiller_state(&self) -> Result<BTreeMap<String, Tensor>> {
        let core = self.distiller.core();
        let mut state = core.state()?;
        if self.ranks.world_size() == 1 {
            return Ok(state);
        }
        let groups = core.param_groups().into_iter();
        let parameters: BTreeSet<String> = groups
            .flat_map(|group| group.parameters)
            .map(|(name, _)| name)
            .collect();
        let own = state.iter().filter(|(name, _)| !parameters.contains(*name));
        let own = own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let own = own.collect();
        state.extend(self.ranks.gather_if_alike("what the terms remember", own)?);
        Ok(state)
    }

    /// Reads the losses since the last time, and the scale as it is now.
    fn read_losses(&mut self) -> Result<()> {
        if self.record.has_unread()
            && let Some(state) = self.update.scaling_state()?
        {
            self.record.loss_scale(state, &self.at)?;
        }
        self.record.read(&self.at)
    }
}

/// Whether any rank was asked to stop. Nobody is asked where none can be.
fn is_interrupted(may_stop: bool, stop: &Stop, ranks: Ranks<'_>) -> Result<bool> {
    Ok(may_stop && ranks.any("asking whether to stop", stop.is_requested())?)
}
