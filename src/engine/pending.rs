//! What waits on the device to be read.

use tch::{Device, Kind, Tensor};

use super::logs::At;
use crate::error::Result;

/// A part of a step that was not read yet.
#[derive(Debug)]
pub(super) enum Pending {
    Batch {
        at: At,
        /// Whether it is the last batch before an optimizer step.
        ends_step: bool,
        names: Vec<String>,
        /// One number for each name.
        values: Tensor,
    },
    Update {
        at: At,
        /// What the schedule multiplied the learning rates by.
        factor: f64,
        grad_norm: Option<Tensor>,
    },
    /// The gradients of the batches since the last step were dropped.
    Dropped,
}

/// All values in one transfer, and whether the number of skipped steps is the last of them.
pub(super) fn read(
    pending: &[Pending],
    skipped: Option<Tensor>,
) -> Result<(std::vec::IntoIter<f64>, bool)> {
    let values = pending.iter().filter_map(|one| match one {
        Pending::Batch { values, .. } => Some(values.shallow_clone()),
        Pending::Update { grad_norm, .. } => Some(grad_norm.as_ref()?.shallow_clone()),
        Pending::Dropped => None,
    });
    let mut tensors: Vec<Tensor> = values.collect();
    let counts_skipped = skipped.is_some();
    tensors.extend(skipped.map(|count| count.f_reshape([1])).transpose()?);
    let Some(first) = tensors.first() else {
        return Ok((Vec::new().into_iter(), false));
    };
    let device = first.device();
    for tensor in &mut tensors {
        if tensor.device() != device {
            *tensor = tensor.f_to_device(device)?;
        }
    }
    // Converted to double after the transfer: not every device has doubles.
    let read = Tensor::f_cat(&tensors, 0)?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Double)?;
    Ok((Vec::<f64>::try_from(&read)?.into_iter(), counts_skipped))
}
