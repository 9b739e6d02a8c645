//! The outcome of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::NonFinite;
use crate::checkpoint::Saved;

/// The outcome of a run.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, AdaptorOutput, BasicTrainer, Distiller, Sgd, TrainSummary, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// # let batch = || Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
/// # let mut loader = VecLoader::new((0..4).map(|_| batch()).collect())?;
/// let mut trainer = BasicTrainer::builder(&model, &variables)
///     .train_config(config.gradient_accumulation_steps(2))
///     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
///     .build()?;
/// let summary: TrainSummary =
///     trainer.train(&mut loader).epochs(3).optimizer(Sgd::new(0.01)).run()?;
/// // Four batches an epoch, two for each step.
/// assert_eq!((summary.epochs, summary.forward_steps, summary.global_steps), (3, 12, 6));
/// assert!(summary.losses["total_loss"].is_finite());
/// assert_eq!(summary.checkpoints.len(), 3);
/// assert!(!summary.stopped_by_callback);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TrainSummary {
    /// Optimizer steps done.
    pub global_steps: u64,
    /// Batches trained on.
    pub forward_steps: u64,
    /// Epochs begun; in a run of steps the last may be incomplete.
    pub epochs: u64,
    /// The losses of the last batch, by the name under which they are logged, unweighted, and what
    /// was [observed](crate::LossReport::observe) of it.
    pub losses: BTreeMap<String, f64>,
    /// The files of the student's weights that exist at the end, in the order in which they were
    /// written; of a resumed run also those from before.
    pub checkpoints: Vec<PathBuf>,
    /// The memory of the cached teacher outputs in bytes, if they are cached.
    pub cache_bytes: Option<u64>,
    /// Whether a callback ended the run.
    pub stopped_by_callback: bool,
    /// Whether the metric no longer improved and
    /// [`Run::early_stopping`](crate::Run::early_stopping) ended the run.
    pub stopped_early: bool,
    /// The losses that were not finite, if the run did not fail for them
    /// ([`Run::on_non_finite`](crate::Run::on_non_finite)); those from before a resume are not
    /// included.
    pub non_finite: Option<NonFinite>,
    /// The optimizer steps that were skipped for a gradient that was not finite, whether the loss
    /// was finite or not; those from before a resume and those that loss scaling skips are not
    /// included.
    pub skipped_steps: u64,
    /// Whether Ctrl-C, SIGTERM or a [`Run::stop_flag`](crate::Run::stop_flag) asked for the end
    /// while the run lasted, also where it ended there anyway, so that a program does not begin
    /// its next run. A run that ended before its length can be resumed; one that is complete then
    /// trains nothing.
    pub interrupted: bool,
    /// The optimizer step from which the run was resumed.
    pub resumed_from: Option<u64>,
    /// What is wrong with the checkpoints newer than the one that was resumed from.
    pub damaged: Vec<String>,
    /// The checkpoint with the best metric, if callbacks returned any.
    pub best: Option<Saved>,
    /// The file of the best student, `best.safetensors`.
    pub best_path: Option<PathBuf>,
    /// The folder of this run's TensorBoard log, if there is one.
    pub log_dir: Option<PathBuf>,
}
