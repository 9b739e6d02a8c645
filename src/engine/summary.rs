//! What a run came to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::NonFinite;
use crate::checkpoint::Saved;

/// What a run came to.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, AdaptorOutput, BasicTrainer, Distiller, Sgd, TrainSummary, TrainingConfig, VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// # let batch = || Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
/// # let mut loader = VecLoader::new((0..4).map(|_| batch()).collect())?;
/// let mut trainer = BasicTrainer::builder(&model, &variables)
///     .train_config(config.gradient_accumulation_steps(2))
///     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
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
    /// Optimizer steps.
    pub global_steps: u64,
    /// Batches.
    pub forward_steps: u64,
    /// Epochs, the last of which may not be whole in a run of steps.
    pub epochs: u64,
    /// The losses of the last batch, by the name under which they are logged, unweighted.
    pub losses: BTreeMap<String, f64>,
    /// The files of the student's weights that there are at the end, in the order in which
    /// they were written; of a resumed run those from before too.
    pub checkpoints: Vec<PathBuf>,
    /// How much memory the kept teacher outputs take, if they are kept.
    pub cache_bytes: Option<u64>,
    /// Whether a callback ended the run.
    pub stopped_by_callback: bool,
    /// Whether the metric got no better, and [`Run::early_stopping`](crate::Run::early_stopping)
    /// ended the run.
    pub stopped_early: bool,
    /// The losses that were not finite, if the run was not to fail for them
    /// ([`Run::on_non_finite`](crate::Run::on_non_finite)); of a resumed run only its own.
    pub non_finite: Option<NonFinite>,
    /// The optimizer steps that were left out for a gradient that was not finite, whether the
    /// loss was or not, if the run was not to fail for them; of a resumed run only its own.
    /// Those that loss scaling skips are not among them.
    pub skipped_steps: u64,
    /// Whether Ctrl-C or a [`Run::stop_flag`](crate::Run::stop_flag) ended the run, which can
    /// be resumed.
    pub interrupted: bool,
    /// The optimizer step from which a resumed run went on.
    pub resumed_from: Option<u64>,
    /// What is wrong with checkpoints newer than the one that was resumed from.
    pub damaged: Vec<String>,
    /// The checkpoint with the best metric, if callbacks returned any.
    pub best: Option<Saved>,
    /// The file of the best student, `best.safetensors`.
    pub best_path: Option<PathBuf>,
    /// The folder of this run's TensorBoard log, if there is one.
    pub log_dir: Option<PathBuf>,
}
