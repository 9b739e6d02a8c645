//! The description of a training run.

mod observers;
mod optimization;
mod options;
mod processes;

use std::fmt;

use super::ranks::Ranks;
use super::{TrainSummary, prepare};
use crate::data::DataLoader;
use crate::distiller::Distiller;
use crate::error::Result;
use crate::logging;

pub(super) use observers::Observers;
pub(super) use optimization::{Optimization, OptionsOf};
pub(super) use options::{Begin, Options};
pub(super) use processes::{CallbackRanks, Processes};

/// The description of a training run; [`run`](Run::run) carries it out.
///
/// Made by [`Distiller::train`], or by [`Run::new`] for a `&mut dyn Distiller`.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::schedule::linear_with_warmup;
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, Flow, MemorySink, TrainingConfig,
///     VecLoader,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
/// #     .build()?;
/// # let batch = || Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
/// # let mut loader = VecLoader::new(vec![batch(), batch()])?;
/// let losses = MemorySink::new();
/// let summary = trainer // or any other distiller
///     .train(&mut loader)
///     .epochs(10)
///     .optimizer(AdamW::new(1e-3))
///     .no_decay(["bias"])
///     .schedule(linear_with_warmup(2, 20))
///     .max_grad_norm(1.0)
///     .log_sink(losses.clone())
///     .callback(|_student, checkpoint| {
///         Ok(if checkpoint.epoch == 3 { Flow::Stop } else { Flow::Continue })
///     })
///     .run()?;
/// assert_eq!(summary.global_steps, 6); // three epochs of two batches
/// assert_eq!(losses.curve("scalar/total_loss").len(), 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is trained until `run` is called"]
pub struct Run<'a, D: Distiller + ?Sized> {
    pub(super) distiller: &'a mut D,
    pub(super) loader: &'a mut dyn DataLoader<Batch = D::Batch>,
    pub(super) length: Option<RequestedLength>,
    pub(super) postprocessor: Option<Postprocessor<'a, D::Batch>>,
    pub(super) seed: u64,
    pub(super) optimization: Optimization<'a>,
    pub(super) observers: Observers<'a, D::Student>,
    pub(super) options: Options,
    pub(super) processes: Processes<'a>,
}

pub(super) type Postprocessor<'a, B> = Box<dyn FnMut(B) -> Result<B> + 'a>;

#[derive(Debug, Clone, Copy)]
pub(super) enum RequestedLength {
    Epochs(u64),
    Steps(u64),
}

impl<'a, D: Distiller + ?Sized> Run<'a, D> {
    /// A run of `distiller` over `loader`.
    pub fn new(distiller: &'a mut D, loader: &'a mut dyn DataLoader<Batch = D::Batch>) -> Self {
        Run {
            distiller,
            loader,
            length: None,
            postprocessor: None,
            seed: 0,
            optimization: Optimization::default(),
            observers: Observers::default(),
            options: Options::default(),
            processes: Processes::default(),
        }
    }

    /// The number of epochs; the loader must know its length. Of this and
    /// [`steps`](Self::steps) the last one called counts.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.length = Some(RequestedLength::Epochs(epochs));
        self
    }

    /// The number of optimizer steps; the loader is restarted as often as needed.
    pub fn steps(mut self, steps: u64) -> Self {
        self.length = Some(RequestedLength::Steps(steps));
        self
    }

    /// Changes each batch before the models see it. When teacher outputs are cached it is called
    /// once for each batch of the first epoch.
    pub fn batch_postprocessor(
        mut self,
        postprocessor: impl FnMut(D::Batch) -> Result<D::Batch> + 'a,
    ) -> Self {
        self.postprocessor = Some(Box::new(postprocessor));
        self
    }

    /// The seed for what the run itself shuffles, 0 by default. When teacher outputs are cached,
    /// the batches of the first epoch come in another order in every epoch, as in TextBrewer.
    /// Only a loader that [keeps its batches](crate::DataLoader::keeps_batches) itself gives them
    /// in its own order, unless there is a [postprocessor](Self::batch_postprocessor).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Trains.
    ///
    /// # Errors
    /// A missing optimizer or length, a configuration that cannot work, folders that cannot
    /// be written, checkpoints of an earlier run that would be
    /// [overwritten](Self::overwrite), and whatever goes wrong in the loader, the distiller, a
    /// hook, a callback or libtorch. Checkpoints written before an error stay intact. An error ends a
    /// [process group](Self::process_group) that the run was given, also for later runs: the other
    /// processes would wait for this one.
    pub fn run(self) -> Result<TrainSummary> {
        // A run may be inside another's callback, which is called without gradients.
        tch::with_grad(|| {
            let ranks = Ranks::new(self.processes.group);
            let _voice = (!ranks.is_first()).then(logging::quiet);
            let run = || {
                let (training, resumed) = prepare::prepare(self)?;
                training.run(resumed)
            };
            // All that the run had of the group is gone by then.
            run().inspect_err(|error| ranks.end_with(error))
        })
    }
}

impl<D: Distiller + ?Sized> fmt::Debug for Run<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("length", &self.length)
            .field("no_decay", &self.optimization.no_decay)
            .field("max_grad_norm", &self.optimization.max_grad_norm)
            .field("loss_scaling", &self.optimization.loss_scaling)
            .finish_non_exhaustive()
    }
}
