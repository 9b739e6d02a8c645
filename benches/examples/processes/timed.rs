//! A distiller that records how long its process works on each step.

use std::time::Instant;

use textbrewer::distiller::AnyCore;
use textbrewer::distributed::ProcessGroup;
use textbrewer::{Distiller, LossReport, Result, StepInfo};

use crate::usage;

/// Steps before the measured ones.
pub const WARM_UP: u64 = 3;

/// Wraps a distiller and records when each optimizer step ends and the next one begins.
#[derive(Debug)]
pub struct Timed<'g, D> {
    distiller: D,
    /// Before each step all processes wait for each other, which counts for none.
    waits: Option<&'g ProcessGroup>,
    batches_of_a_step: u64,
    /// The end of the step before, and the beginning of each step.
    between: Vec<(Moment, Moment)>,
}

/// What the clocks say.
#[derive(Debug, Clone, Copy)]
struct Moment {
    time: Instant,
    cpu_seconds: f64,
    sent_bytes: f64,
}

impl Moment {
    fn now() -> Self {
        Moment {
            time: Instant::now(),
            cpu_seconds: usage::cpu_seconds().unwrap_or(f64::NAN),
            sent_bytes: usage::sent_bytes().unwrap_or(f64::NAN),
        }
    }
}

/// What each measured step took.
#[derive(Debug, Default)]
pub struct Steps {
    pub seconds: Vec<f64>,
    pub cpu_seconds: f64,
    /// Of all processes.
    pub sent_bytes: f64,
}

impl<'g, D> Timed<'g, D> {
    pub fn new(distiller: D, waits: Option<&'g ProcessGroup>, batches_of_a_step: u64) -> Self {
        Timed {
            distiller,
            waits,
            batches_of_a_step,
            between: Vec::new(),
        }
    }

    /// The measured steps; the one after the last ends it.
    pub fn measured(&self) -> Steps {
        let mut steps = Steps::default();
        let first = WARM_UP as usize;
        let next = self.between.iter().skip(first + 1);
        for ((_, begin), (end, _)) in self.between.iter().skip(first).zip(next) {
            let seconds = end.time.duration_since(begin.time).as_secs_f64();
            steps.seconds.push(seconds);
            steps.cpu_seconds += end.cpu_seconds - begin.cpu_seconds;
            steps.sent_bytes += end.sent_bytes - begin.sent_bytes;
        }
        steps
    }
}

impl<D: Distiller> Distiller for Timed<'_, D> {
    type Batch = D::Batch;
    type Student = D::Student;

    fn train_on_batch(&mut self, batch: &D::Batch, step: &StepInfo) -> Result<LossReport> {
        if step.forward_step.is_multiple_of(self.batches_of_a_step) {
            let end = Moment::now();
            if let Some(group) = self.waits {
                group.barrier()?;
            }
            self.between.push((end, Moment::now()));
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
