//! How parameters are changed: optimizer, schedule, clipping, scaling of the loss.

use super::Run;
use crate::distiller::Distiller;
use crate::optim::{GroupOptions, LossScaling, Optimizer};
use crate::schedule::LrSchedule;

/// Says by a parameter's name what its group sets.
pub(in crate::engine) type OptionsOf<'a> = Box<dyn FnMut(&str) -> GroupOptions + 'a>;

/// How parameters are changed, as the user describes it.
#[derive(Default)]
pub(in crate::engine) struct Optimization<'a> {
    pub(in crate::engine) optimizer: Option<Box<dyn Optimizer + 'a>>,
    pub(in crate::engine) no_decay: Vec<String>,
    pub(in crate::engine) options_of: Option<OptionsOf<'a>>,
    pub(in crate::engine) schedule: Option<Box<dyn LrSchedule + 'a>>,
    pub(in crate::engine) max_grad_norm: Option<f64>,
    pub(in crate::engine) loss_scaling: Option<LossScaling>,
}

impl<'a, D: Distiller + ?Sized> Run<'a, D> {
    /// The optimizer. One without groups gets the student's trainable variables; one with groups
    /// keeps them, and they must hold some of the student's variables. Pass `&mut optimizer` to
    /// use it again afterwards.
    pub fn optimizer(mut self, optimizer: impl Optimizer + 'a) -> Self {
        self.optimization.optimizer = Some(Box::new(optimizer));
        self
    }

    /// No weight decay for variables whose name contains one of these, such as
    /// `["bias", "LayerNorm.weight"]`. It is for an optimizer that has no groups yet.
    pub fn no_decay<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.optimization.no_decay = names.into_iter().map(Into::into).collect();
        self
    }

    /// Options of the student's variables by their names, such as learning rates of their own;
    /// what they leave open is the optimizer's. [`layer_wise_decay`](crate::optim::layer_wise_decay)
    /// makes such a rule. Variables with equal options share a group
    /// ([`optim::param_groups_by`](crate::optim::param_groups_by)); [`no_decay`](Self::no_decay)
    /// holds beside it. It is for an optimizer that has no groups yet.
    ///
    /// Two rules and two optimizers; here the head learns ten times as fast, and the embeddings
    /// by plain SGD:
    ///
    /// ```
    /// use textbrewer::optim::{AdamW, GroupOptions, Sgd, Split};
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{from_fn, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader};
    /// # let folder = tempfile::tempdir()?;
    /// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
    /// # let variables = nn::VarStore::new(Device::Cpu);
    /// # let below = nn::linear(variables.root() / "embeddings", 3, 3, Default::default());
    /// # let layer = nn::linear(variables.root() / "head", 3, 2, Default::default());
    /// # let model = from_fn(|batch: &Tensor, _| {
    /// #     let hidden = batch.f_linear(&below.ws, below.bs.as_ref())?;
    /// #     Ok(hidden.f_linear(&layer.ws, layer.bs.as_ref())?)
    /// # });
    /// # let mut trainer = BasicTrainer::builder(&model, &variables)
    /// #     .train_config(config)
    /// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
    /// #     .build()?;
    /// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    /// trainer // or any other distiller
    ///     .train(&mut loader)
    ///     .epochs(2)
    ///     .optimizer(Split::new(|name| name.contains("embeddings"), Sgd::new(0.1), AdamW::new(1e-4)))
    ///     .param_groups_by(|name| match name.starts_with("head.") {
    ///         true => GroupOptions::new().learning_rate(1e-3),
    ///         false => GroupOptions::new(),
    ///     })
    ///     .no_decay(["bias", "LayerNorm.weight"])
    ///     .run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn param_groups_by(mut self, options_of: impl FnMut(&str) -> GroupOptions + 'a) -> Self {
        self.optimization.options_of = Some(Box::new(options_of));
        self
    }

    /// A factor on every group's learning rate: one of [`schedule`](crate::schedule), or a closure
    /// of the optimizer steps done and those of the whole run.
    pub fn schedule(mut self, schedule: impl LrSchedule + 'a) -> Self {
        self.optimization.schedule = Some(Box::new(schedule));
        self
    }

    /// Scales the student's gradients down to this norm; 0 or less does not clip. The norm before
    /// is logged. `f64::INFINITY` changes no gradient and has the norm logged all the same.
    pub fn max_grad_norm(mut self, norm: f64) -> Self {
        self.optimization.max_grad_norm = (norm > 0.0 || norm.is_nan()).then_some(norm);
        self
    }

    /// Scales the loss, so that small gradients do not vanish where the student computes in
    /// `fp16`. Without this call [`LossScaling::new`] is used when the configuration's
    /// precision of the student is `fp16`, and nothing otherwise.
    ///
    /// A step whose gradients are infinite or NaN changes neither parameters nor optimizer, but
    /// it counts: schedules advance, and checkpoints come as planned. Logged losses are not
    /// scaled; the scale is logged as `scalar/loss_scale` when they are read. A *loss* that is
    /// infinite or NaN ends the run with or without scaling: it comes from the forward pass,
    /// which no scale changes.
    ///
    /// ```
    /// use textbrewer::optim::LossScaling;
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{
    /// #     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, MemorySink, TrainingConfig,
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
    /// # let batch = || Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
    /// # let mut loader = VecLoader::new(vec![batch(), batch()])?;
    /// # let log = MemorySink::new();
    ///
    /// trainer // or any other distiller
    ///     .train(&mut loader)
    ///     .epochs(1)
    ///     .optimizer(AdamW::new(1e-3))
    ///     .loss_scaling(LossScaling::new().initial_scale(1024.0))
    ///     .log_sink(log.clone())
    ///     .run()?;
    /// assert_eq!(log.curve("scalar/loss_scale"), [(1, 1024.0)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn loss_scaling(mut self, scaling: LossScaling) -> Self {
        self.optimization.loss_scaling = Some(scaling);
        self
    }
}
