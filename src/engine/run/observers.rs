//! What runs beside the training: hooks, callbacks, logs, the progress bar.

use super::Run;
use crate::distiller::Distiller;
use crate::engine::Hook;
use crate::engine::callback::{Callback, CheckpointInfo, Verdict};
use crate::engine::evaluations::Evaluations;
use crate::engine::hook::AfterStep;
use crate::error::Result;
use crate::logging::{LogAxis, LogSink};
use crate::step::StepInfo;

/// What runs beside the training, as the user describes it.
pub(in crate::engine) struct Observers<'a, S: ?Sized> {
    pub(in crate::engine) hooks: Vec<AfterStep<'a, S>>,
    pub(in crate::engine) callbacks: Vec<Callback<'a, S>>,
    pub(in crate::engine) evaluations: Evaluations,
    pub(in crate::engine) sinks: Vec<Box<dyn LogSink + 'a>>,
    pub(in crate::engine) log_axis: Option<LogAxis>,
    pub(in crate::engine) progress: bool,
}

impl<S: ?Sized> Default for Observers<'_, S> {
    fn default() -> Self {
        Observers {
            hooks: Vec::new(),
            callbacks: Vec::new(),
            evaluations: Evaluations::default(),
            sinks: Vec::new(),
            log_axis: None,
            progress: true,
        }
    }
}

impl<'a, D: Distiller + ?Sized> Run<'a, D> {
    /// Called after every optimizer step, without gradients; the `global_step` that it gets is
    /// the number of steps done. It runs before the checkpoint of the step. For something that
    /// remembers, use a [`hook`](Self::hook); a resumed run may have other closures.
    ///
    /// ```
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{
    /// #     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader,
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
    /// let mut steps = Vec::new();
    /// trainer // or any other distiller
    ///     .train(&mut loader)
    ///     .epochs(2)
    ///     .optimizer(AdamW::new(1e-3))
    ///     .after_step(|_student, step| {
    ///         steps.push((step.epoch, step.global_step));
    ///         Ok(())
    ///     })
    ///     .run()?;
    /// assert_eq!(steps, [(1, 1), (1, 2), (2, 3), (2, 4)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after_step<F>(mut self, after_step: F) -> Self
    where
        F: FnMut(&D::Student, &StepInfo) -> Result<()> + 'a,
    {
        let closure = AfterStep::Closure(Box::new(after_step));
        self.observers.hooks.push(closure);
        self
    }

    /// Runs after every optimizer step and before the checkpoint of that step, with a state that
    /// is saved and restored with the run: see [`Hook`]. Call this and
    /// [`after_step`](Self::after_step) again for several, which run in their order. A resumed
    /// run must have the same hooks, by their names.
    pub fn hook(mut self, hook: impl Hook<D::Student> + 'a) -> Self {
        self.observers.hooks.push(AfterStep::Hook(Box::new(hook)));
        self
    }

    /// Called after each checkpoint, without gradients: the place to evaluate, also
    /// [at the start](Self::evaluate_at_start) and [between](Self::evaluate_every) them. It returns `Ok(())`
    /// to continue, a [`Flow`](crate::Flow), a metric (`Ok(0.87)`), or both as a pair: anything
    /// that converts into a [`Verdict`]. Call this again for several callbacks, which run in
    /// their order; the metric is that of the last one that returns a metric.
    pub fn callback<R, F>(mut self, mut callback: F) -> Self
    where
        R: Into<Verdict>,
        F: FnMut(&D::Student, &CheckpointInfo) -> Result<R> + 'a,
    {
        self.observers
            .callbacks
            .push(Box::new(move |student, info| {
                callback(student, info).map(Into::into)
            }));
        self
    }

    /// Calls the callbacks before training too, at step 0: what the student can before it learns.
    /// A run that is resumed does not repeat it.
    ///
    /// Nothing is saved for it: [`CheckpointInfo::saved`] is false. Its metric counts for neither
    /// [`keep`](Self::keep) nor early stopping, which are about checkpoints. The random numbers
    /// that callbacks draw in it do not change those of the run.
    ///
    /// ```
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{
    /// #     from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, TrainingConfig, VecLoader,
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
    /// let mut seen = Vec::new();
    /// trainer // or any other distiller
    ///     .train(&mut loader)
    ///     .steps(5)
    ///     .optimizer(AdamW::new(1e-3))
    ///     .evaluate_at_start()
    ///     .evaluate_every(2)
    ///     .callback(|_student, at| {
    ///         seen.push((at.global_step, at.saved));
    ///         Ok(())
    ///     })
    ///     .run()?;
    /// assert_eq!(seen, [(0, false), (2, false), (4, false), (5, true)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evaluate_at_start(mut self) -> Self {
        self.observers.evaluations.at_start = true;
        self
    }

    /// Calls the callbacks every so many optimizer steps, besides the checkpoints and without
    /// one, as [`evaluate_at_start`](Self::evaluate_at_start) does. At a step that has a
    /// checkpoint they are called once, for that. When the run is asked to stop, it saves itself at
    /// once, and an evaluation that is due at this step is left out.
    pub fn evaluate_every(mut self, steps: u64) -> Self {
        self.observers.evaluations.every = Some(steps);
        self
    }

    /// Receives every value that the run logs (see [`LogSink`]), besides the TensorBoard log that
    /// `log_dir` asks for. A [`TensorBoardSink`](crate::TensorBoardSink) inside `log_dir` takes
    /// the place of that.
    pub fn log_sink(mut self, sink: impl LogSink + 'a) -> Self {
        self.observers.sinks.push(Box::new(sink));
        self
    }

    /// By which steps all logs count. Otherwise each has its way: TensorBoard's counts by optimizer
    /// steps, others by forward steps. `LogAxis::ForwardStep` gives TextBrewer's curves, one value
    /// for each batch where gradients are accumulated.
    pub fn log_axis(mut self, axis: LogAxis) -> Self {
        self.observers.log_axis = Some(axis);
        self
    }

    /// Whether to show a progress bar on a terminal; it does by default.
    pub fn progress(mut self, show: bool) -> Self {
        self.observers.progress = show;
        self
    }
}
