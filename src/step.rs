//! Where in the training a batch stands.

/// Where in the training a batch stands.
///
/// ```
/// use textbrewer::StepInfo;
///
/// // The seventh batch, after three of twelve optimizer steps, in the first epoch.
/// let step = StepInfo::new(6, 3, 12, 1).with_batch_id(Some(6));
/// assert_eq!(step.progress(), 0.25);
/// assert_eq!(step.batch_id, Some(6));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepInfo {
    /// Batches before this one in the whole run.
    pub forward_step: u64,
    /// Optimizer steps before this batch.
    pub global_step: u64,
    /// Optimizer steps that the whole run is to have.
    pub total_steps: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The number of the batch, where batches are the same in every epoch; teacher outputs are
    /// kept under it.
    pub batch_id: Option<u64>,
    /// Whether batches weigh by their positions in an optimizer step, so that a term is to say how
    /// many there are.
    wants_positions: bool,
}

impl StepInfo {
    /// A point in a run of `total_steps`, for calling a distiller without the engine.
    pub fn new(forward_step: u64, global_step: u64, total_steps: u64, epoch: u64) -> Self {
        StepInfo {
            forward_step,
            global_step,
            total_steps,
            epoch,
            batch_id: None,
            wants_positions: false,
        }
    }

    pub(crate) fn wanting_positions(mut self, wants: bool) -> Self {
        self.wants_positions = wants;
        self
    }

    pub(crate) fn wants_positions(&self) -> bool {
        self.wants_positions
    }

    /// The same point, at a batch that has a number.
    #[must_use]
    pub fn with_batch_id(mut self, id: Option<u64>) -> Self {
        self.batch_id = id;
        self
    }

    /// The part of the run that is done, from 0 to 1.
    pub fn progress(&self) -> f64 {
        self.global_step as f64 / self.total_steps.max(1) as f64
    }
}
