//! The schedule of TAID in a training.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::presets::SharedSchedule;
use crate::scalar::ScalarOps;
use crate::step::StepInfo;

/// Advances the schedule of a loss once for each optimizer step, by the mean of the loss over the
/// batches of the step in which there was something to learn, which weigh as they do in the step.
/// Nothing waits for the device.
#[derive(Debug)]
pub(super) struct Taid {
    schedule: SharedSchedule,
    /// The sum of the losses since the last optimizer step, and of what they weigh. The engine adds up
    /// those of all processes, and sets them to 0 where batches make no step.
    sums: Tensor,
}

impl Taid {
    /// With the schedule and what is summed on this device.
    pub(super) fn new(schedule: SharedSchedule, device: Device) -> Result<Self> {
        schedule.borrow_mut().move_to(device)?;
        let sums = Tensor::f_zeros([2i64], (Kind::Double, device))?;
        Ok(Taid { schedule, sums })
    }

    /// The tensor in which it sums.
    pub(super) fn sums(&self) -> Tensor {
        self.sums.shallow_clone()
    }

    /// The teacher's share in the target of this step.
    pub(super) fn t(&self) -> Tensor {
        self.schedule.borrow().t().shallow_clone()
    }

    /// Goes back to the beginning before the first batch of a run.
    pub(super) fn before_batch(&mut self, step: &StepInfo) -> Result<()> {
        match step.forward_step {
            0 => self.schedule.borrow_mut().restart(),
            _ => Ok(()),
        }
    }

    /// Adds the loss of a batch, which weighs by its positions where these are given.
    pub(super) fn add(&mut self, loss: &Tensor, positions: Option<&Tensor>) -> Result<()> {
        let _no_history = tch::no_grad_guard();
        let loss = loss.f_to_kind(Kind::Double)?.f_reshape([0i64; 0])?;
        let counts = loss.is_above(0.0)?.f_to_kind(Kind::Double)?;
        let both = Tensor::f_stack(&[loss, counts], 0)?;
        let both = match positions {
            Some(positions) => both.f_mul(positions)?,
            None => both,
        };
        let _ = self.sums.f_add_(&both)?;
        Ok(())
    }

    /// Moves on by what was summed.
    pub(super) fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        // As of before the step, which is counted already.
        let steps = step.global_step.saturating_sub(1);
        let progress = steps as f64 / step.total_steps.max(1) as f64;
        // Of no loss at all it is NaN, which moves nothing.
        let mean = self.sums.f_get(0)?.f_div(&self.sums.f_get(1)?)?;
        self.schedule.borrow_mut().advance(&mean, progress)?;
        let _ = self.sums.f_zero_()?;
        Ok(())
    }

    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        self.schedule.borrow().state()
    }

    pub(super) fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.schedule.borrow_mut().load_state(state)
    }
}
