//! The description of a training run.

use std::collections::HashSet;
use std::fmt;

use tch::Tensor;

use super::checkpoint::CheckpointInfo;
use super::existing;
use super::losses::PendingLosses;
use super::plan::{Length, Plan};
use super::random::Random;
use super::resume::{self, About};
use super::saving::Saving;
use super::survival::Survival;
use super::training::{Callback, Feed, Position, Postprocessing, Training, no_batch};
use super::{TrainSummary, Verdict};
use crate::batch::Batch;
use crate::checkpoint::Store;
use crate::config::Precision;
use crate::data::DataLoader;
use crate::distiller::{Distiller, TeacherCache, check_training};
use crate::error::{Error, Result, Side};
use crate::logging::{LogSink, Progress, TensorBoardSink};
use crate::optim::{LossScaling, Optimizer, ParamGroup, param_groups};
use crate::schedule::LrSchedule;

/// The description of a training run; [`run`](Run::run) carries it out.
///
/// Made by [`Distiller::train`], or by [`Run::new`] for a `&mut dyn Distiller`.
///
/// ```
/// use tch::{nn, nn::Module, Device, Kind, Tensor};
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
/// # let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
/// # let mut trainer = BasicTrainer::builder(&model, &variables)
/// #     .train_config(config)
/// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
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
    distiller: &'a mut D,
    loader: &'a mut dyn DataLoader<Batch = D::Batch>,
    length: Option<RequestedLength>,
    optimizer: Option<Box<dyn Optimizer + 'a>>,
    no_decay: Vec<String>,
    schedule: Option<Box<dyn LrSchedule + 'a>>,
    max_grad_norm: Option<f64>,
    loss_scaling: Option<LossScaling>,
    callbacks: Vec<Callback<'a, D::Student>>,
    postprocessor: Option<Postprocessor<'a, D::Batch>>,
    sinks: Vec<Box<dyn LogSink + 'a>>,
    progress: bool,
    seed: u64,
    overwrites: bool,
    pub(super) survival: Survival,
}

type Postprocessor<'a, B> = Box<dyn FnMut(B) -> Result<B> + 'a>;

#[derive(Debug, Clone, Copy)]
enum RequestedLength {
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
            optimizer: None,
            no_decay: Vec::new(),
            schedule: None,
            max_grad_norm: None,
            loss_scaling: None,
            callbacks: Vec::new(),
            postprocessor: None,
            sinks: Vec::new(),
            progress: true,
            seed: 0,
            overwrites: false,
            survival: Survival::default(),
        }
    }

    /// How often to go over the loader, whose length must be known. Of this and
    /// [`steps`](Self::steps) the last one called counts.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.length = Some(RequestedLength::Epochs(epochs));
        self
    }

    /// How many optimizer steps to do; the loader is started anew as often as needed.
    pub fn steps(mut self, steps: u64) -> Self {
        self.length = Some(RequestedLength::Steps(steps));
        self
    }

    /// What changes the parameters. An optimizer without groups gets the student's trainable
    /// variables; one with groups keeps them, and they must hold some of the student's
    /// variables. Pass `&mut optimizer` to go on using it.
    pub fn optimizer(mut self, optimizer: impl Optimizer + 'a) -> Self {
        self.optimizer = Some(Box::new(optimizer));
        self
    }

    /// No weight decay for variables whose name contains one of these, such as
    /// `["bias", "LayerNorm.weight"]`. It is for an optimizer that has no groups yet.
    pub fn no_decay<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.no_decay = names.into_iter().map(Into::into).collect();
        self
    }

    /// A factor on every group's learning rate, by the optimizer steps done.
    pub fn schedule(mut self, schedule: impl LrSchedule + 'a) -> Self {
        self.schedule = Some(Box::new(schedule));
        self
    }

    /// Scales the student's gradients down to this norm; 0 or less does not clip.
    pub fn max_grad_norm(mut self, norm: f64) -> Self {
        self.max_grad_norm = (norm > 0.0 || norm.is_nan()).then_some(norm);
        self
    }

    /// Scales the loss, so that small gradients do not vanish where the student computes in
    /// `fp16`. Without this call [`LossScaling::new`] is used when the configuration's
    /// precision of the student is `fp16`, and nothing otherwise.
    ///
    /// A step whose gradients are infinite or NaN changes neither parameters nor the
    /// optimizer, and counts all the same: schedules go on, and checkpoints come as planned.
    /// Logged losses are not scaled; the scale is logged as `scalar/loss_scale` when they are
    /// read. A *loss* that is infinite or NaN ends the run with or without scaling: it comes
    /// from the forward pass, which no scale changes.
    ///
    /// ```
    /// use textbrewer::optim::LossScaling;
    /// # use tch::{nn, nn::Module, Device, Kind, Tensor};
    /// # use textbrewer::{
    /// #     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, MemorySink, TrainingConfig,
    /// #     VecLoader,
    /// # };
    /// # let folder = tempfile::tempdir()?;
    /// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
    /// # let variables = nn::VarStore::new(Device::Cpu);
    /// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
    /// # let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
    /// # let mut trainer = BasicTrainer::builder(&model, &variables)
    /// #     .train_config(config)
    /// #     .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
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
        self.loss_scaling = Some(scaling);
        self
    }

    /// Called after each checkpoint, without gradients; evaluate there. It returns `Ok(())`
    /// to go on, a [`Flow`](crate::Flow), a metric (`Ok(0.87)`), or both as a pair: whatever
    /// becomes a [`Verdict`]. Call this again for several, which run in their order; the
    /// metric is that of the last that returns one.
    pub fn callback<R, F>(mut self, mut callback: F) -> Self
    where
        R: Into<Verdict>,
        F: FnMut(&D::Student, &CheckpointInfo) -> Result<R> + 'a,
    {
        self.callbacks.push(Box::new(move |student, info| {
            callback(student, info).map(Into::into)
        }));
        self
    }

    /// Changes each batch before the models see it; once for each batch of the loader's first
    /// epoch when teacher outputs are kept.
    pub fn batch_postprocessor(
        mut self,
        postprocessor: impl FnMut(D::Batch) -> Result<D::Batch> + 'a,
    ) -> Self {
        self.postprocessor = Some(Box::new(postprocessor));
        self
    }

    /// Where every loss value goes, besides the TensorBoard log that `log_dir` asks for.
    pub fn log_sink(mut self, sink: impl LogSink + 'a) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// The seed of what the run itself chooses, 0 by default: when teacher outputs are kept,
    /// the batches of the first epoch come in another order in every epoch, as in TextBrewer.
    /// A loader that [keeps its batches](crate::DataLoader::keeps_batches) itself gives them
    /// in its own order, unless there is a [postprocessor](Self::batch_postprocessor), which
    /// is applied to each batch once.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether what an earlier program left in `output_dir` may be replaced. By default a run
    /// is refused at its start where there are students of its steps (of any step, if it may be
    /// interrupted there), states (`state/gs*`) or a `best.safetensors`. Several runs of one program always go on with its own files.
    ///
    /// With `true` students of the same steps are overwritten when the run gets there, and
    /// all states and `best.safetensors`, also those of this program, are removed at the
    /// start of the run, with a warning in the log: whoever resumes in the folder never goes
    /// on from another run's state. Without it the states of an earlier run of this program
    /// stay until they are replaced; the newest is the one that was written last.
    ///
    /// It is not needed where a run is to go on in `output_dir`, with
    /// [`resume`](Self::resume) or [`resume_or_start`](Self::resume_or_start): what is there
    /// is taken as the run's own.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrites = overwrite;
        self
    }

    /// Whether to show a progress bar on a terminal; it does by default.
    pub fn progress(mut self, show: bool) -> Self {
        self.progress = show;
        self
    }

    /// Trains.
    ///
    /// # Errors
    /// A missing optimizer or length, a configuration that cannot work, folders that cannot
    /// be written, checkpoints of an earlier run that would be
    /// [overwritten](Self::overwrite), and whatever goes wrong in the loader, the distiller, a callback or
    /// libtorch. Checkpoints written before an error stay whole.
    pub fn run(mut self) -> Result<TrainSummary> {
        check_training(self.distiller.config(), self.distiller.variables())?;
        if self.max_grad_norm.is_some_and(f64::is_nan) {
            return Err(Error::config("max_grad_norm", "must be a number, is NaN"));
        }
        let plan = self.plan()?;
        let folder = &self.distiller.config().output_dir;
        let mut store = Store::new(folder);
        store.prepare()?;
        let is_new_here = !self.survival.begin.goes_on_in(folder);
        if is_new_here && !self.overwrites {
            let (steps, anywhere) = (1..=plan.total_steps(), self.survival.may_save_anywhere());
            let saves = |step| plan.saves_at(step) || (anywhere && steps.contains(&step));
            existing::check(folder, saves, &store)?;
        }
        let mut optimizer = self.ready_optimizer()?;
        let scaling = self.ready_scaling(optimizer.as_ref())?;
        let about = About {
            in_epochs: matches!(self.length, Some(RequestedLength::Epochs(_))),
            max_grad_norm: self.max_grad_norm,
            loss_scaling: scaling.as_ref().map(LossScaling::rule),
            seed: self.seed,
            postprocesses: self.postprocessor.is_some(),
            batches: self.loader.num_batches().map(|batches| batches as u64),
        };
        let schedule = self.schedule.as_deref();
        let description = about.describe(self.distiller, optimizer.as_ref(), schedule)?;
        let newest = resume::find(&self.survival.begin, self.distiller.config())?;
        if let Some(newest) = &newest {
            resume::load(newest, &description, &plan, self.distiller, &mut optimizer)?;
        }
        let random = Random::new(self.distiller.config().device)?;
        let on_non_finite = self.survival.on_non_finite;
        let stop = self.survival.stop()?;
        let cache = self.distiller.teacher_cache().cloned();
        let feed = feed(self.loader, self.postprocessor, cache.as_ref(), self.seed)?;
        let mut summary = TrainSummary::default();
        if let Some(folder) = &self.distiller.config().log_dir {
            let sink = TensorBoardSink::create(folder)?;
            summary.log_dir = Some(sink.path().to_path_buf());
            self.sinks.push(Box::new(sink));
        }
        let mut progress = Progress::new(plan.total_steps());
        if !self.progress {
            progress = progress.hidden();
        }
        if is_new_here && self.overwrites {
            // Only now that nothing is wrong with the run.
            store.clear()?;
        }
        let saving = Saving::new(store, &self.survival, description);
        log::info!("training for {} optimizer steps", plan.total_steps());
        let training = Training {
            plan,
            optimizer,
            schedule: self.schedule,
            max_grad_norm: self.max_grad_norm,
            scaling,
            callbacks: self.callbacks,
            sinks: self.sinks,
            progress,
            pending: PendingLosses::default(),
            summary,
            forward_step: 0,
            distiller: self.distiller,
            saving,
            random,
            stop,
            position: Position::default(),
            has_gradients: false,
            on_non_finite,
        };
        training.run(feed, newest)
    }

    fn plan(&self) -> Result<Plan> {
        let length = match self.length {
            Some(RequestedLength::Epochs(0)) => {
                return Err(Error::config("epochs", "must be at least 1"));
            }
            Some(RequestedLength::Steps(0)) => {
                return Err(Error::config("steps", "must be at least 1"));
            }
            Some(RequestedLength::Steps(steps)) => Length::Steps(steps),
            Some(RequestedLength::Epochs(epochs)) => Length::Epochs {
                epochs,
                batches: self.known_batches()?,
            },
            None => {
                return Err(Error::config(
                    "epochs",
                    "say how long to train: `epochs` or `steps`",
                ));
            }
        };
        Plan::new(self.distiller.config(), length)
    }

    fn known_batches(&self) -> Result<u64> {
        match self.loader.num_batches() {
            Some(0) => Err(no_batch(0)),
            Some(batches) => Ok(batches as u64),
            None => Err(Error::config(
                "epochs",
                "the loader does not know its number of batches; use `steps`",
            )),
        }
    }

    fn ready_optimizer(&mut self) -> Result<Box<dyn Optimizer + 'a>> {
        let mut optimizer = self.optimizer.take().ok_or_else(|| {
            Error::config(
                "optimizer",
                "none was given; for example `AdamW::new(1e-4)`",
            )
        })?;
        let groups_given = !optimizer.groups().is_empty();
        if groups_given && !self.no_decay.is_empty() {
            let reason = "the optimizer has its groups already; make them with `param_groups`, \
                          or leave this out";
            return Err(Error::config("no_decay", reason));
        }
        if !groups_given {
            let no_decay: Vec<&str> = self.no_decay.iter().map(String::as_str).collect();
            let groups = param_groups(self.distiller.variables(), &no_decay);
            for part in &no_decay {
                let mut parameters = groups.iter().flat_map(|group| &group.parameters);
                if !parameters.any(|(name, _)| name.contains(part)) {
                    log::warn!("no_decay: no variable of the student has `{part}` in its name");
                }
            }
            if groups.is_empty() {
                return Err(Error::config("student", "it has no trainable variable"));
            }
            for group in groups {
                optimizer.add_group(group)?;
            }
        }
        // In a second run with the same optimizer the projections are there already. Those
        // of another distiller have the same names: the optimizer refuses them then.
        for group in self.distiller.extra_groups() {
            if !optimizer
                .groups()
                .iter()
                .any(|known| is_same(known, &group))
            {
                optimizer.add_group(group)?;
            }
        }
        if groups_given && !self.optimizes_student(optimizer.as_ref()) {
            let reason = "its groups hold none of the student's variables; \
                          make a new optimizer for this student";
            return Err(Error::config("optimizer", reason));
        }
        Ok(optimizer)
    }

    fn ready_scaling(&mut self, optimizer: &dyn Optimizer) -> Result<Option<LossScaling>> {
        let is_needed = self.distiller.config().precision_of(Side::Student) == Precision::Fp16;
        let scaling = self.loss_scaling.take();
        let scaling = scaling.or_else(|| is_needed.then(LossScaling::new));
        if scaling.is_some() && self.max_grad_norm.is_some() && !self.optimizes_all(optimizer) {
            // The optimizer's gradients are scaled back, so others would rule the norm.
            let reason = "with loss scaling, every variable of the student that gets gradients \
                          must be in a group of the optimizer; add the others, or freeze them \
                          with `set_requires_grad(false)`";
            return Err(Error::config("max_grad_norm", reason));
        }
        Ok(scaling)
    }

    fn optimizes_all(&self, optimizer: &dyn Optimizer) -> bool {
        let optimized = optimizer.groups().iter().flat_map(ParamGroup::tensors);
        let addresses: HashSet<_> = optimized.filter_map(address).collect();
        let variables = self.distiller.variables().trainable_variables();
        let mut with_gradients = variables.iter().filter(|tensor| tensor.requires_grad());
        with_gradients.all(|tensor| address(tensor).is_none_or(|a| addresses.contains(&a)))
    }

    fn optimizes_student(&self, optimizer: &dyn Optimizer) -> bool {
        let variables = self.distiller.variables().trainable_variables();
        let addresses: HashSet<_> = variables.iter().filter_map(address).collect();
        let mut optimized = optimizer.groups().iter().flat_map(ParamGroup::tensors);
        optimized.any(|tensor| address(tensor).is_some_and(|address| addresses.contains(&address)))
    }
}

fn is_same(known: &ParamGroup, group: &ParamGroup) -> bool {
    known.name == group.name
        && known.parameters.len() == group.parameters.len()
        && known
            .tensors()
            .map(address)
            .eq(group.tensors().map(address))
}

/// Where a tensor's elements are; a tensor without any has no place of its own.
fn address(tensor: &Tensor) -> Option<usize> {
    let has_elements = tensor.defined() && !tensor.is_sparse() && tensor.numel() > 0;
    has_elements.then(|| tensor.data_ptr() as usize)
}

/// The loader, with what is done to its batches before the models see them. Where teacher
/// outputs are kept, the batches have to be the same in every epoch.
fn feed<'a, B: Batch + 'a>(
    loader: &'a mut dyn DataLoader<Batch = B>,
    postprocessor: Option<Postprocessor<'a, B>>,
    cache: Option<&TeacherCache>,
    seed: u64,
) -> Result<Feed<'a, B>> {
    let loader_keeps = loader.keeps_batches();
    let mut feed: Feed<'a, B> = Box::new(loader);
    if let Some(mut postprocessor) = postprocessor {
        feed = Box::new(feed.map(move |batch| {
            postprocessor(batch).map_err(|error| Error::other(Postprocessing(error)))
        }));
    }
    let Some(cache) = cache else {
        return Ok(feed);
    };
    cache.clear();
    if feed.keeps_batches() {
        return Ok(feed);
    }
    if feed.num_batches().is_none() {
        let reason = match loader_keeps {
            true => {
                "batch_postprocessor may change a batch in another way each time, and the loader \
                 may be endless, so the batches cannot be kept; convert them in the loaders that \
                 it draws from, as `loader.map(..).fixed()`, or leave caching off"
            }
            false => {
                "the loader may be endless, so its batches cannot be kept; give each of \
                 the loaders that it draws from as `loader.fixed()`, or leave caching off"
            }
        };
        return Err(Error::config("is_caching_logits", reason));
    }
    Ok(Box::new(feed.fixed().shuffle(seed)))
}

impl<D: Distiller + ?Sized> fmt::Debug for Run<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("length", &self.length)
            .field("no_decay", &self.no_decay)
            .field("max_grad_norm", &self.max_grad_norm)
            .field("loss_scaling", &self.loss_scaling)
            .finish_non_exhaustive()
    }
}
