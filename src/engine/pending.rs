//! What waits on the device to be read.

use tch::{Device, Kind, Tensor};

use super::logs::At;
use super::ranks::Named;
use crate::error::Result;

/// A part of a step that was not read yet.
#[derive(Debug)]
pub(super) enum Pending {
    Batch {
        at: At,
        /// Whether it is the last batch before an optimizer step.
        ends_step: bool,
        names: Vec<String>,
        /// How many of them are of losses; those of observations follow.
        losses: usize,
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

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The losses of each batch, and its observations.
    pub(super) batches: Vec<[Named; 2]>,
    /// The norms of the gradients of the steps that have one.
    pub(super) norms: Vec<f64>,
    /// The number of steps that were skipped.
    pub(super) skipped: u64,
}

/// All values, in one transfer. The names are taken out of what was pending.
pub(super) fn read(pending: &mut [Pending], skipped: Option<Tensor>) -> Result<Read> {
    let values = pending.iter().filter_map(|one| match one {
        Pending::Batch { values, .. } => Some(values.shallow_clone()),
        Pending::Update { grad_norm, .. } => Some(grad_norm.as_ref()?.shallow_clone()),
        Pending::Dropped => None,
    });
    let mut tensors: Vec<Tensor> = values.collect();
    let counts_skipped = skipped.is_some();
    tensors.extend(skipped.map(|count| count.f_reshape([1])).transpose()?);
    let Some(first) = tensors.first() else {
        return Ok(Read::default());
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
    let mut values = Vec::<f64>::try_from(&read)?.into_iter();
    let mut read = Read::default();
    for one in pending {
        match one {
            Pending::Batch { names, losses, .. } => {
                let mut names = std::mem::take(names);
                let observed = names.split_off(*losses);
                let losses = names.into_iter().zip(&mut values).collect();
                let observed = observed.into_iter().zip(&mut values).collect();
                read.batches.push([losses, observed]);
            }
            Pending::Update { grad_norm, .. } => {
                read.norms
                    .extend(grad_norm.as_ref().and_then(|_| values.next()));
            }
            Pending::Dropped => {}
        }
    }
    if counts_skipped {
        read.skipped = values.next().unwrap_or_default() as u64;
    }
    Ok(read)
}
