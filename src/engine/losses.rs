//! Loss values: kept on the device, read together once per interval.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{NonFinite, OnNonFinite};
use crate::checkpoint::SavedPosition;
use crate::distiller::{LossReport, TOTAL_LOSS, without_dimensions};
use crate::error::{Error, Result};
use crate::logging::{self, LogSink};

/// The loss values of the steps since the last read.
#[derive(Debug, Default)]
pub(super) struct PendingLosses {
    steps: Vec<PendingStep>,
    latest: BTreeMap<String, f64>,
    /// Sum and number of the values since the last [`take_means`](Self::take_means).
    sums: BTreeMap<String, (f64, u64)>,
    /// Whether values that are not finite are recorded instead of ending the run.
    notes: bool,
    noted: Option<NonFinite>,
    /// The number of optimizer steps skipped since the last read, on the device.
    skipped: Option<Tensor>,
    /// The number of skipped steps as of the last read.
    skipped_steps: u64,
}

#[derive(Debug)]
struct PendingStep {
    forward_step: u64,
    names: Vec<String>,
    /// One number for each name.
    values: Tensor,
}

impl PendingLosses {
    pub(super) fn new(on_non_finite: OnNonFinite) -> Self {
        PendingLosses {
            notes: on_non_finite != OnNonFinite::Error,
            ..PendingLosses::default()
        }
    }

    /// Keeps the values of one step. Nothing is read from the device.
    pub(super) fn push(&mut self, step: u64, total: &Tensor, report: &LossReport) -> Result<()> {
        let _no_history = tch::no_grad_guard();
        let mut names = vec![TOTAL_LOSS.to_owned()];
        let device = total.device();
        let mut values = vec![beside(total, device)?];
        for term in report
            .losses()
            .iter()
            .filter(|term| term.name != TOTAL_LOSS)
        {
            names.push(term.name.clone());
            values.push(beside(&term.loss, device)?);
        }
        // A copy: libtorch's mean of squares is one number in memory for all the squares.
        let values = Tensor::f_stack(&values, 0)?;
        self.steps.push(PendingStep {
            forward_step: step,
            names,
            values,
        });
        Ok(())
    }

    /// The values that were not finite, if any were recorded.
    pub(super) fn noted(&self) -> Option<&NonFinite> {
        self.noted.as_ref()
    }

    /// Adds 1 or 0, on the device, to the number of skipped optimizer steps.
    pub(super) fn count_skipped(&mut self, found: &Tensor) -> Result<()> {
        self.skipped = Some(match self.skipped.take() {
            Some(count) => count.f_add(found)?,
            None => found.shallow_clone(),
        });
        Ok(())
    }

    /// The number of optimizer steps skipped, as of the last read.
    pub(super) fn skipped_steps(&self) -> u64 {
        self.skipped_steps
    }

    fn note_skipped(&mut self, steps: u64) {
        if steps > 0 {
            logging::warn(format_args!(
                "{steps} optimizer steps since the last reading were skipped, as a gradient was \
                 NaN or infinite; if the losses are finite, look for `sqrt` or `norm` at 0"
            ));
            self.skipped_steps += steps;
        }
    }

    fn note(&mut self, error: Error) {
        let Error::NonFiniteLoss { term, step, value } = error else {
            return;
        };
        logging::warn(format_args!(
            "`{term}` is {value} at training step {step}; a step with such a gradient is skipped"
        ));
        let noted = self.noted.get_or_insert(NonFinite {
            term,
            step,
            batches: 0,
        });
        noted.batches += 1;
    }

    pub(super) fn len(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The values of the last step that was read, by name.
    pub(super) fn latest(&self) -> &BTreeMap<String, f64> {
        &self.latest
    }

    /// Adds the losses to a checkpoint; all values must have been read.
    pub(super) fn add_to(&self, position: &mut SavedPosition) {
        // JSON has no other numbers.
        let finite = self.latest.iter().filter(|(_, value)| value.is_finite());
        position.losses = finite.map(|(name, value)| (name.clone(), *value)).collect();
        position.sums = self.sums.clone();
    }

    /// Continues with the losses of a checkpoint.
    pub(super) fn resume(&mut self, position: &SavedPosition) {
        self.latest = position.losses.clone();
        self.sums = position.sums.clone();
    }

    /// The means of what was read since this was last called, by name.
    pub(super) fn take_means(&mut self) -> BTreeMap<String, f64> {
        let sums = std::mem::take(&mut self.sums).into_iter();
        sums.map(|(name, (sum, count))| (name, sum / count as f64))
            .collect()
    }

    /// Reads all values at once, hands them to the sinks, and fails at the first that is
    /// not finite.
    ///
    /// A sink that fails is reported and dropped: a full disk under the logs must not end
    /// the training.
    pub(super) fn flush(&mut self, sinks: &mut Vec<Box<dyn LogSink + '_>>) -> Result<()> {
        let steps = std::mem::take(&mut self.steps);
        let mut tensors: Vec<Tensor> = steps.iter().map(|s| s.values.shallow_clone()).collect();
        // Appended to the losses, so that there is one transfer.
        let counts_skipped = match self.skipped.take() {
            Some(count) => {
                let device = tensors.first().unwrap_or(&count).device();
                tensors.push(count.f_to_device(device)?.f_reshape([1])?);
                true
            }
            None => false,
        };
        if tensors.is_empty() {
            return Ok(());
        }
        // Converted to double after the transfer: not every device has doubles.
        let read = Tensor::f_cat(&tensors, 0)?
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Double)?;
        let values = Vec::<f64>::try_from(&read)?;
        let mut values = values.into_iter();
        let mut first_bad = Ok(());
        for step in &steps {
            let named: Vec<(&String, f64)> = step.names.iter().zip(&mut values).collect();
            for (name, value) in &named {
                log_to(sinks, name, *value, step.forward_step);
            }
            let checked = check_finite(&named, step.forward_step);
            match checked {
                Err(error) if self.notes => self.note(error),
                checked => first_bad = first_bad.and(checked),
            }
            // Where bad values are recorded, the means leave them out.
            let averaged = named
                .iter()
                .filter(|(_, value)| value.is_finite() || !self.notes);
            for (name, value) in averaged {
                let (sum, count) = self.sums.entry((*name).clone()).or_default();
                *sum += value;
                *count += 1;
            }
            self.latest = named.into_iter().map(|(k, v)| (k.clone(), v)).collect();
        }
        if let (true, Some(count)) = (counts_skipped, values.next()) {
            self.note_skipped(count as u64);
        }
        // The values around the first bad one explain it, so they are logged before the error.
        keep_working(sinks, |sink| sink.flush());
        first_bad
    }
}

/// The value on the device of the others: a user's own term may be on another.
fn beside(loss: &Tensor, device: Device) -> Result<Tensor> {
    let value = without_dimensions(loss)?;
    Ok(match value.device() == device {
        true => value,
        false => value.f_to_device(device)?,
    })
}

/// Gives a number to every sink; one that fails is reported and dropped.
pub(super) fn log_to(sinks: &mut Vec<Box<dyn LogSink + '_>>, name: &str, value: f64, step: u64) {
    let tag = format!("scalar/{name}");
    keep_working(sinks, |sink| sink.scalar(&tag, value, step));
}

fn keep_working(
    sinks: &mut Vec<Box<dyn LogSink + '_>>,
    mut action: impl FnMut(&mut dyn LogSink) -> Result<()>,
) {
    sinks.retain_mut(|sink| match action(sink.as_mut()) {
        Ok(()) => true,
        Err(error) => {
            logging::warn(format_args!("{error}; training continues without this log"));
            false
        }
    });
}

/// Terms are checked before the total, which is not finite whenever one of them is not.
fn check_finite(named: &[(&String, f64)], step: u64) -> Result<()> {
    let parts = named.iter().skip(1).chain(named.first());
    for (name, value) in parts {
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss {
                term: (*name).clone(),
                step,
                value: *value,
            });
        }
    }
    Ok(())
}
