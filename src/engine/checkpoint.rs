//! What a callback is told of a checkpoint, and what it can say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// Whether training goes on after a callback.
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
    /// Go on.
    #[default]
    Continue,
    /// End the run here, as if it had been this long.
    Stop,
}

impl From<()> for Flow {
    fn from((): ()) -> Self {
        Flow::Continue
    }
}

/// What a callback is told.
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
/// # use tch::{nn, nn::Module, Device, Kind, Tensor};
/// # use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader};
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
/// #     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
/// # trainer.train(&mut loader).epochs(1).optimizer(AdamW::new(0.01)).callback(callback).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// Optimizer steps so far.
    pub global_step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The file that was just written.
    pub path: PathBuf,
    /// The losses of the last batch, by the name under which they are logged, unweighted.
    pub losses: BTreeMap<String, f64>,
    /// The means of the losses of all batches since the checkpoint before.
    pub mean_losses: BTreeMap<String, f64>,
}

/// A finite loss can have a gradient that is not, and the step after it ruins the weights.
/// All variables are asked about together, so that the device is waited for once.
pub(super) fn check_finite<'a>(
    state: impl Iterator<Item = &'a (String, Tensor)>,
    step: u64,
) -> Result<()> {
    let trained: Vec<_> = state.filter(|(_, t)| t.requires_grad()).collect();
    let Some((_, first)) = trained.first() else {
        return Ok(());
    };
    // A distiller's own parameters may be elsewhere than the student's.
    let device = first.device();
    let finite = trained
        .iter()
        .map(|(_, t)| Ok(t.f_isfinite()?.f_all()?.f_to_device(device)?));
    let finite = Tensor::f_stack(&finite.collect::<Result<Vec<_>>>()?, 0)?;
    let finite = Vec::<bool>::try_from(&finite.f_to_device(Device::Cpu)?)?;
    let bad = trained.iter().zip(finite).find(|(_, finite)| !finite);
    match bad {
        Some(((variable, _), _)) => Err(Error::NonFiniteVariable {
            variable: variable.clone(),
            step,
        }),
        None => Ok(()),
    }
}
