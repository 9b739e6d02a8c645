//! From a loss to changed parameters.

use tch::{Device, Kind, Tensor};

use super::OnNonFinite;
use super::ranks::Ranks;
use super::step_weight::StepWeight;
use crate::distiller::Distiller;
use crate::error::{Context, Error, Result};
use crate::native::{self, Reducer};
use crate::optim::{LossScaling, LossScalingState, Optimizer, ParamGroup, clip_grad_norm};
use crate::scalar::ScalarOps;
use crate::schedule::LrSchedule;

/// Accumulates gradients and steps the optimizer.
pub(super) struct Update<'a> {
    pub(super) optimizer: Box<dyn Optimizer + 'a>,
    pub(super) schedule: Option<Box<dyn LrSchedule + 'a>>,
    pub(super) max_grad_norm: Option<f64>,
    pub(super) scaling: Option<LossScaling>,
    pub(super) on_non_finite: OnNonFinite,
    pub(super) ranks: Ranks<'a>,
    /// Averages gradients over ranks, where there are several.
    pub(super) reducer: Option<Reducer>,
    /// Variables that had no gradient when the reducer was made.
    pub(super) frozen: Vec<Tensor>,
    /// Whether the reducer has seen gradients that were not brought together yet.
    pub(super) is_accumulating: bool,
    /// Whether such gradients were dropped: the reducer then takes their parameters for used.
    pub(super) has_dropped: bool,
    /// Whether a backward pass was seen to reach the student.
    pub(super) has_gradients: bool,
    /// What the batches since the last step weigh together.
    pub(super) weight: StepWeight,
}

/// An optimizer step that was done.
#[derive(Debug)]
pub(super) struct Updated {
    /// Whether the device skipped it for a gradient that is not finite, as 1 or 0 on the device.
    /// Not by default, where such a gradient is no reason to skip, nor under loss scaling, where
    /// skipping is normal.
    pub(super) skipped: Option<Tensor>,
    /// What the schedule multiplied the learning rates by.
    pub(super) factor: f64,
    /// The norm of the gradients before they were clipped, if they were.
    pub(super) grad_norm: Option<Tensor>,
}

impl Update<'_> {
    /// Drops the gradients accumulated so far.
    pub(super) fn drop_gradients(&mut self) -> Result<()> {
        self.has_dropped |= std::mem::take(&mut self.is_accumulating);
        self.weight.clear();
        self.optimizer.zero_grad()
    }

    /// Continues with the loss scale of a checkpoint.
    pub(super) fn resume(&mut self, scaling: Option<LossScalingState>) -> Result<()> {
        self.has_gradients = true;
        match (&mut self.scaling, scaling) {
            (Some(scaling), Some(state)) => scaling.set_numbers(state),
            _ => Ok(()),
        }
    }

    /// The loss scale, for a checkpoint or the log; this reads it from the device.
    pub(super) fn scaling_state(&self) -> Result<Option<LossScalingState>> {
        self.scaling.as_ref().map(LossScaling::numbers).transpose()
    }

    /// Whether it takes another reducer: a variable is trained that this one does not know, or it
    /// remembers gradients that were dropped.
    pub(super) fn needs_reducer(&self) -> bool {
        self.has_dropped || self.frozen.iter().any(Tensor::requires_grad)
    }

    /// To be called before the forward pass of a batch, of which the last before an optimizer step
    /// brings the gradients of all ranks together.
    pub(super) fn before_forward(&mut self, ends_step: bool) -> Result<()> {
        match &mut self.reducer {
            Some(reducer) if ends_step => reducer
                .before_forward()
                .map_err(|error| self.ranks.in_backward(error)),
            _ => Ok(()),
        }
    }

    /// Adds the gradients of a batch's total loss, divided by `divisor`. After the last batch
    /// before an optimizer step they are means over all ranks.
    pub(super) fn backward(
        &mut self,
        total: Tensor,
        divisor: u64,
        forward_step: u64,
        ends_step: bool,
    ) -> Result<()> {
        if !total.requires_grad() {
            let reason = "the loss does not depend on any trainable variable of the student; \
                          were its outputs detached, or made without gradients?";
            return Err(Error::protocol("student", reason));
        }
        let mean = match divisor {
            1 => total,
            _ => total.over(divisor as f64)?,
        };
        let scaled = match &mut self.scaling {
            Some(scaling) => scaling.scale(&mean)?,
            None => mean,
        };
        let context = || {
            format!(
                "backward pass of training step {forward_step} (what a model, a loss or a term \
                 keeps from batch to batch has to be detached)"
            )
        };
        self.is_accumulating = !ends_step && self.reducer.is_some();
        let Some(reducer) = self.reducer.as_mut().filter(|_| ends_step) else {
            return scaled.f_backward().context(context);
        };
        let announced = reducer.before_backward(&scaled);
        announced.map_err(|error| self.ranks.in_backward(error))?;
        match scaled.f_backward() {
            Err(error) if self.ranks.is_of_others(&error) => Err(self.ranks.in_backward(error)),
            done => done.context(context),
        }
    }

    /// Does one optimizer step. It counts even if the device skips it.
    pub(super) fn step<D: Distiller + ?Sized>(
        &mut self,
        distiller: &D,
        (steps_done, total_steps): (u64, u64),
    ) -> Result<Updated> {
        if !self.has_gradients {
            check_gradients(distiller)?;
            self.has_gradients = true;
        }
        let parameters = self.optimizer.groups().iter().flat_map(ParamGroup::tensors);
        self.weight.divide(parameters, self.ranks)?;
        let found = self.found_non_finite(distiller.core().config().device)?;
        let grad_norm = self.clip(distiller)?;
        let schedule = self.schedule.as_ref();
        let factor = schedule.map_or(1.0, |schedule| schedule.factor(steps_done, total_steps));
        match &found {
            Some(found) => self.optimizer.step_unless(factor, found)?,
            None => self.optimizer.step(factor)?,
        }
        let skipped = match (&mut self.scaling, found) {
            (Some(scaling), Some(found)) => {
                scaling.update(&found)?;
                None
            }
            (_, found) => found,
        };
        self.optimizer.zero_grad()?;
        Ok(Updated {
            skipped,
            factor,
            grad_norm,
        })
    }

    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.optimizer.groups().iter().flat_map(ParamGroup::tensors)
    }

    /// Whether a gradient is not finite, as 1 or 0 on the device, unless the step is done in any
    /// case. Gradients of a scaled loss are divided by the scale.
    fn found_non_finite(&self, device: Device) -> Result<Option<Tensor>> {
        match (&self.scaling, self.on_non_finite) {
            (Some(scaling), _) => scaling.unscale(self.parameters()).map(Some),
            (None, OnNonFinite::Error) => Ok(None),
            (None, _) => {
                // Dividing by 1 changes no gradient.
                let one = Tensor::f_ones([0i64; 0], (Kind::Float, device))?;
                native::optim::unscale(self.parameters(), &one).map(Some)
            }
        }
    }

    fn clip<D: Distiller + ?Sized>(&self, distiller: &D) -> Result<Option<Tensor>> {
        let Some(max_norm) = self.max_grad_norm else {
            return Ok(None);
        };
        let mut clipped = distiller.core().variables().trainable_variables();
        if distiller.core().config().clip_projections {
            let groups = distiller.core().param_groups();
            let extra = groups.into_iter().flat_map(|group| group.parameters);
            clipped.extend(extra.map(|(_, tensor)| tensor));
        }
        clip_grad_norm(&clipped, max_norm).map(Some)
    }
}

/// Fails if no variable of the student got a gradient: with the variables of another model,
/// training would change nothing.
fn check_gradients<D: Distiller + ?Sized>(distiller: &D) -> Result<()> {
    let variables = distiller.core().variables().trainable_variables();
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
    Err(Error::protocol("student", reason))
}
