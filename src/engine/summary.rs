//! What a run came to.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TrainSummary {
    /// Optimizer steps.
    pub global_steps: u64,
    /// Batches.
    pub forward_steps: u64,
    /// Epochs, the last of which may not be whole in a run of steps.
    pub epochs: u64,
    /// The losses of the last batch, by the name under which they are logged, unweighted.
    pub losses: BTreeMap<String, f64>,
    /// The files of the student's weights, in the order in which they were written.
    pub checkpoints: Vec<PathBuf>,
    /// How much memory the kept teacher outputs take, if they are kept.
    pub cache_bytes: Option<u64>,
    /// Whether a callback ended the run.
    pub stopped_by_callback: bool,
    /// The folder of this run's TensorBoard log, if there is one.
    pub log_dir: Option<PathBuf>,
}
