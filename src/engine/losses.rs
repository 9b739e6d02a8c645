//! Values of the steps: kept on the device, read together once per interval.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::learning_rates::LearningRates;
use super::logs::{At, Logs};
use super::pending::{Pending, Read, read};
use super::ranks::{Named, Ranks};
use super::zeros::Zeros;
use super::{NonFinite, OnNonFinite};
use crate::checkpoint::SavedPosition;
use crate::distiller::{LossReport, TOTAL_LOSS, without_dimensions};
use crate::error::{Error, Result};
use crate::logging;

/// The values of the steps since the last read.
#[derive(Debug, Default)]
pub(super) struct PendingLosses {
    /// In the order in which they are logged, however often they are read.
    pending: Vec<Pending>,
    /// The number of batches among them.
    batches: u64,
    rates: LearningRates,
    zeros: Zeros,
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

impl PendingLosses {
    pub(super) fn new(on_non_finite: OnNonFinite, rates: LearningRates) -> Self {
        PendingLosses {
            rates,
            notes: on_non_finite != OnNonFinite::Error,
            ..PendingLosses::default()
        }
    }

    /// Keeps the losses of a batch. Nothing is read from the device.
    pub(super) fn push(
        &mut self,
        at: At,
        ends_step: bool,
        total: &Tensor,
        report: &LossReport,
    ) -> Result<()> {
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
        let losses = names.len();
        for (name, value) in report.observations() {
            names.push(name.to_owned());
            values.push(beside(value, device)?);
        }
        // A copy: libtorch's mean of squares is one number in memory for all the squares.
        let values = Tensor::f_stack(&values, 0)?;
        self.batches += 1;
        self.pending.push(Pending::Batch {
            at,
            ends_step,
            names,
            losses,
            values,
        });
        Ok(())
    }

    /// Keeps what an optimizer step was done with, on the device as well.
    pub(super) fn push_update(
        &mut self,
        at: At,
        factor: f64,
        grad_norm: Option<Tensor>,
    ) -> Result<()> {
        let grad_norm = grad_norm.map(|norm| norm.f_reshape([1])).transpose()?;
        self.pending.push(Pending::Update {
            at,
            factor,
            grad_norm,
        });
        Ok(())
    }

    /// Keeps that the gradients of the batches since the last step were dropped.
    pub(super) fn push_dropped(&mut self) {
        self.pending.push(Pending::Dropped);
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
        let Error::NonFiniteLoss {
            term, step, value, ..
        } = error
        else {
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

    /// The number of batches whose losses were not read.
    pub(super) fn len(&self) -> u64 {
        self.batches
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

    /// The means of what was read since they were last taken, by name.
    pub(super) fn means(&self) -> BTreeMap<String, f64> {
        let sums = self.sums.iter();
        sums.map(|(name, (sum, count))| (name.clone(), sum / *count as f64))
            .collect()
    }

    /// The [`means`](Self::means); from here on they are of what is read next.
    pub(super) fn take_means(&mut self) -> BTreeMap<String, f64> {
        let means = self.means();
        self.sums.clear();
        means
    }

    /// Terms are checked before the total, which is not finite whenever one of them is not.
    fn check_finite(&self, named: &[(String, f64)], at: At) -> Result<()> {
        let mut parts = named.iter().skip(1).chain(named.first());
        match parts.find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((name, value)) => Err(Error::NonFiniteLoss {
                term: name.clone(),
                step: at.forward_step,
                value: *value,
                before: self.latest.get(name).copied(),
                optimizer_steps: at.global_step,
            }),
        }
    }

    /// Reads all values at once, hands them to the logs, and fails at the first loss that is
    /// not finite.
    ///
    /// Losses are means over the ranks, on all of them, and so are observations. These may be NaN:
    /// nothing is learned from them.
    pub(super) fn read_into(&mut self, logs: &mut Logs<'_>, ranks: Ranks<'_>) -> Result<()> {
        self.batches = 0;
        let mut pending = std::mem::take(&mut self.pending);
        let Read {
            batches,
            norms,
            skipped,
        } = read(&mut pending, self.skipped.take())?;
        let (mut batches, mut norms) = (ranks.means(batches)?.into_iter(), norms.into_iter());
        let mut first_bad = Ok(());
        for one in &pending {
            match one {
                Pending::Batch { at, ends_step, .. } => {
                    let [losses, observations] = batches.next().unwrap_or_default();
                    let checked = self.check_finite(&losses, *at);
                    self.zeros.count(&losses);
                    let mut named = losses;
                    named.extend(observations);
                    logs.losses(&named, *at, *ends_step);
                    match checked {
                        Err(error) if self.notes => self.note(error),
                        checked => first_bad = first_bad.and(checked),
                    }
                    self.count(named);
                }
                Pending::Update {
                    at,
                    factor,
                    grad_norm,
                } => {
                    for (name, rate) in self.rates.at(*factor) {
                        logs.scalar(name, rate, *at);
                    }
                    let norm = grad_norm.as_ref().and_then(|_| norms.next());
                    if let Some(norm) = norm {
                        logs.scalar("grad_norm", norm, *at);
                    }
                }
                Pending::Dropped => logs.drop_means(),
            }
        }
        self.zeros.warn();
        self.note_skipped(skipped);
        first_bad
    }

    /// Adds the losses of a batch to the means, which leave out what is not finite: bad losses that
    /// were recorded, and observations.
    fn count(&mut self, named: Named) {
        let averaged = named.iter().filter(|(_, value)| value.is_finite());
        for (name, value) in averaged {
            match self.sums.get_mut(name) {
                Some((sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => {
                    self.sums.insert(name.clone(), (*value, 1));
                }
            }
        }
        self.latest = named.into_iter().collect();
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
