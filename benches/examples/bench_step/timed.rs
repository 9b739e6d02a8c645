//! A distiller that records the start of each step.

use std::time::Instant;

use textbrewer::distiller::AnyCore;
use textbrewer::{Distiller, LossReport, Result, StepInfo};

use crate::{report, synchronize};

/// Wraps a distiller and records when each call of `train_on_batch` starts.
#[derive(Debug)]
pub struct Timed<D> {
    distiller: D,
    last: Option<u64>,
    /// The start times of the measured steps and of the step after them.
    pub starts: Vec<Instant>,
    /// The largest resident size up to the end of the last measured step.
    pub peak_rss_mb: Option<f64>,
}

impl<D> Timed<D> {
    pub fn new(distiller: D) -> Self {
        Timed {
            distiller,
            last: None,
            starts: Vec::new(),
            peak_rss_mb: None,
        }
    }

    /// Records times from now on, up to the start of step `last`, counted from 0.
    pub fn measure_until(&mut self, last: u64) {
        self.starts.reserve(last as usize + 1);
        self.last = Some(last);
    }
}

impl<D: Distiller> Distiller for Timed<D> {
    type Batch = D::Batch;
    type Student = D::Student;

    fn train_on_batch(&mut self, batch: &D::Batch, step: &StepInfo) -> Result<LossReport> {
        if let Some(last) = self.last {
            synchronize(self.distiller.config().device);
            self.starts.push(Instant::now());
            if step.forward_step == last {
                // Now, as the checkpoint at the end of the run takes memory too.
                self.peak_rss_mb = report::peak_rss_mb();
            }
        }
        self.distiller.train_on_batch(batch, step)
    }

    fn core(&self) -> &dyn AnyCore<D::Student> {
        self.distiller.core()
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<D::Student> {
        self.distiller.core_mut()
    }
}
