//! What a callback is given and what it returns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Result;

/// Called after a checkpoint, or to evaluate without one.
pub(super) type Callback<'a, S> = Box<dyn FnMut(&S, &CheckpointInfo) -> Result<Verdict> + 'a>;

/// Whether training continues after a callback.
///
/// ```
/// use textbrewer::Flow;
///
/// assert_eq!(Flow::from(()), Flow::Continue);
/// // In a callback: stop once the loss is low enough.
/// let flow = |loss: f64| if loss < 0.1 { Flow::Stop } else { Flow::Continue };
/// assert_eq!((flow(0.5), flow(0.05)), (Flow::Continue, Flow::Stop));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flow {
    /// Continue training.
    #[default]
    Continue,
    /// End the run here, as if this had been its length.
    Stop,
}

impl From<()> for Flow {
    fn from((): ()) -> Self {
        Flow::Continue
    }
}

/// The checkpoint that a callback is called for.
///
/// ```
/// use textbrewer::{weights, CheckpointInfo, Result};
///
/// /// A callback that looks at what was saved.
/// fn callback<S>(_student: &S, checkpoint: &CheckpointInfo) -> Result<()> {
///     assert!(checkpoint.path.ends_with(format!("gs{}.safetensors", checkpoint.global_step)));
///     assert!(!weights::read(&checkpoint.path)?.is_empty());
///     println!("epoch {}: {:?}", checkpoint.epoch, checkpoint.losses);
///     Ok(())
/// }
/// # use tch::{nn, Device, Kind, Tensor};
/// # use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader};
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
/// #     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
/// # trainer.train(&mut loader).epochs(1).optimizer(AdamW::new(0.01)).callback(callback).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// Optimizer steps done.
    pub global_step: u64,
    /// The epoch, counted from 1; 0 before training.
    pub epoch: u64,
    /// Whether a checkpoint was saved. In a run that
    /// [evaluates](crate::Run::evaluate_every) without one it may be false.
    pub saved: bool,
    /// The file that was just written; empty where nothing was.
    pub path: PathBuf,
    /// The losses of the last batch, by the name under which they are logged, unweighted, and what
    /// was [observed](crate::LossReport::observe) of it.
    pub losses: BTreeMap<String, f64>,
    /// The means of the same over all batches since the previous checkpoint.
    pub mean_losses: BTreeMap<String, f64>,
    /// What the callbacks want to be logged.
    pub(super) logged: RefCell<Vec<(String, f64)>>,
}

impl CheckpointInfo {
    /// Logs a value under `scalar/` and this name, at this checkpoint: in TensorBoard it is a
    /// curve beside those of the losses. A metric that the callback returns is logged anyway, as
    /// `scalar/metric`.
    ///
    /// ```
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{
    /// #     from_fn, AdaptorOutput, BasicTrainer, Distiller, MemorySink, Sgd, TrainingConfig,
    /// #     VecLoader,
    /// # };
    /// # let folder = tempfile::tempdir()?;
    /// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
    /// # let variables = nn::VarStore::new(Device::Cpu);
    /// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
    /// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
    /// # let mut trainer = BasicTrainer::builder(&model, &variables)
    /// #     .train_config(config)
    /// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
    /// #     .build()?;
    /// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    /// let curves = MemorySink::new();
    /// trainer // or any other distiller
    ///     .train(&mut loader)
    ///     .epochs(2)
    ///     .optimizer(Sgd::new(0.1))
    ///     .log_sink(curves.clone())
    ///     .callback(|_student, checkpoint| {
    ///         let (accuracy, f1) = (0.5, 0.4); // from an evaluation of the student
    ///         checkpoint.log("f1", f1);
    ///         Ok(accuracy)
    ///     })
    ///     .run()?;
    /// assert_eq!(curves.curve("scalar/f1"), [(1, 0.4), (2, 0.4)]);
    /// assert_eq!(curves.curve("scalar/metric"), [(1, 0.5), (2, 0.5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log(&self, name: impl Into<String>, value: f64) {
        self.logged.borrow_mut().push((name.into(), value));
    }
}

/// What a callback returns: whether to continue, and a metric of the student.
///
/// `()`, a [`Flow`], a number, and a pair of both convert into it, so callbacks write
/// `Ok(())`, `Ok(Flow::Stop)`, `Ok(0.87)` or `Ok((0.87, Flow::Continue))`.
///
/// ```
/// use textbrewer::{Flow, Verdict};
///
/// let verdict = Verdict::from((0.87, Flow::Stop));
/// assert_eq!((verdict.metric, verdict.flow), (Some(0.87), Flow::Stop));
/// assert_eq!(Verdict::from(()), Verdict::default());
/// assert_eq!(Verdict::from(0.5).flow, Flow::Continue);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether training continues.
    pub flow: Flow,
    /// How good the student is, for [`Run::keep`](crate::Run::keep), early stopping and
    /// `best.safetensors`. A metric that is not finite counts as none.
    pub metric: Option<f64>,
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Verdict::default()
    }
}

impl From<Flow> for Verdict {
    fn from(flow: Flow) -> Self {
        Verdict { flow, metric: None }
    }
}

impl From<f64> for Verdict {
    fn from(metric: f64) -> Self {
        Verdict {
            flow: Flow::Continue,
            metric: Some(metric),
        }
    }
}

impl From<(f64, Flow)> for Verdict {
    fn from((metric, flow): (f64, Flow)) -> Self {
        Verdict {
            flow,
            metric: Some(metric),
        }
    }
}
