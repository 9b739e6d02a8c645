//! By how much the batches of an optimizer step weigh in it.

use tch::{Device, Kind, Tensor};

use super::ranks::Ranks;
use crate::distiller::LossReport;
use crate::error::{Error, Result};
use crate::kind::in_kind;
use crate::losses::mean::at_least_one;
use crate::native::optim::unscale;
use crate::scalar::ScalarOps;

/// The positions of the batches since the last optimizer step, where batches weigh by them.
///
/// A loss `L = Σ l / n` of a batch enters the step as `n · L`, and the gradients are divided by
/// `Σ n` over all batches of all ranks before anything else looks at them. How many positions there
/// are is only known when a batch was run, so that what is divided by is not known before.
#[derive(Debug, Default)]
pub(super) struct StepWeight {
    /// What the batches weigh together: a number on the device, which is not waited for.
    weights: Option<Tensor>,
}

impl StepWeight {
    /// Forgets the batches since the last step.
    pub(super) fn clear(&mut self) {
        self.weights = None;
    }

    /// The total loss of a batch, times its number of positions.
    pub(super) fn weigh(&mut self, total: &Tensor, report: &LossReport) -> Result<Tensor> {
        let Some(positions) = report.positions() else {
            return Err(Error::protocol("weigh_by_positions", UNKNOWN));
        };
        let weight = weight_of(positions, total.device())?;
        self.weights = Some(match self.weights.take() {
            Some(before) => before.f_add(&weight)?,
            None => weight.shallow_clone(),
        });
        Ok(total.f_mul(&in_kind(&weight, total.f_kind()?)?)?)
    }

    /// Divides the gradients of these parameters, which are means over the ranks.
    pub(super) fn divide<'a>(
        &mut self,
        parameters: impl Iterator<Item = &'a Tensor>,
        ranks: Ranks<'_>,
    ) -> Result<()> {
        let Some(weights) = self.weights.take() else {
            return Ok(());
        };
        let of_all = ranks.sum("adding up the positions of a step", &weights)?;
        let of_each = at_least_one(&of_all)?.over(ranks.world_size() as f64)?;
        unscale(parameters, &of_each).map(drop)
    }
}

/// Batches weigh by 1,024 positions: a weight that is near 1 keeps scaled losses and gradients in the
/// range of 16 bits, and a power of 2 changes no bit of the others.
const UNIT: f64 = 1024.0;

/// A number of positions as a weight, detached.
fn weight_of(positions: &Tensor, device: Device) -> Result<Tensor> {
    if !positions.defined() || positions.numel() != 1 {
        let what = "`LossReport::weigh`";
        return Err(Error::shape(
            what,
            "a single number of positions",
            "another tensor",
        ));
    }
    let _no_history = tch::no_grad_guard();
    let positions = positions.f_detach()?.f_to_device(device)?;
    let positions = positions.f_reshape([0i64; 0])?.f_to_kind(Kind::Double)?;
    Ok(positions.over(UNIT)?)
}

const UNKNOWN: &str = "no term said how many positions the batch has; give the student's `labels` \
                       with its `losses`, call `LossReport::weigh`, or set it to false";
