//! Options for resuming, checkpoints and interruption.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Run;
use crate::checkpoint::{EarlyStopping, Keep, Mode};
use crate::distiller::Distiller;
use crate::engine::OnNonFinite;

/// Where a run begins.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) enum Begin {
    #[default]
    New,
    /// From the newest checkpoint in this folder.
    Resume(PathBuf),
    /// From the newest in `output_dir`, if there is one.
    ResumeIfAny,
}

impl Begin {
    /// Whether the run resumes in this folder, so that the files there are its own.
    pub(in crate::engine) fn resumes_in(&self, output_dir: &Path) -> bool {
        match self {
            Begin::New => false,
            Begin::ResumeIfAny => true,
            Begin::Resume(folder) => match (folder.canonicalize(), output_dir.canonicalize()) {
                (Ok(folder), Ok(output_dir)) => folder == output_dir,
                _ => false,
            },
        }
    }
}

/// Options for resuming, checkpoints and interruption.
#[derive(Debug)]
pub(in crate::engine) struct Options {
    pub(in crate::engine) begin: Begin,
    pub(in crate::engine) extends: bool,
    pub(in crate::engine) overwrites: bool,
    pub(in crate::engine) keep: Keep,
    pub(in crate::engine) mode: Mode,
    pub(in crate::engine) early_stopping: Option<EarlyStopping>,
    pub(in crate::engine) saves_state: bool,
    pub(in crate::engine) on_non_finite: OnNonFinite,
    pub(in crate::engine) stop_flags: Vec<Arc<AtomicBool>>,
    pub(in crate::engine) handles_interrupts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            begin: Begin::New,
            extends: false,
            overwrites: false,
            keep: Keep::all(),
            mode: Mode::default(),
            early_stopping: None,
            saves_state: true,
            on_non_finite: OnNonFinite::default(),
            stop_flags: Vec::new(),
            handles_interrupts: false,
        }
    }
}

impl Options {
    /// Whether the run may save checkpoints that are not planned.
    pub(in crate::engine) fn may_save_unplanned(&self) -> bool {
        let interrupted = self.handles_interrupts || !self.stop_flags.is_empty();
        interrupted || self.on_non_finite == OnNonFinite::StopAndSave
    }
}

impl<D: Distiller + ?Sized> Run<'_, D> {
    /// Continues from the newest checkpoint in `folder`, the `output_dir` of an interrupted run,
    /// as if it had not been interrupted: with the weights, the optimizer's state, projections,
    /// random numbers, and at the same batch. On the CPU the numbers are the same to the last
    /// bit; [`checkpoint`](crate::checkpoint) lists what is saved.
    ///
    /// The run has to be described as before. Only its length may be another
    /// ([`extend`](Self::extend) says what else can be); a run that was complete, or that a
    /// callback ended, trains nothing more, with a warning.
    ///
    /// If the newest checkpoint is damaged, this is reported
    /// ([`TrainSummary::damaged`](crate::TrainSummary::damaged)) and the one before it is used.
    /// [`run`](Self::run) fails if there is no checkpoint, and with the list of differences if
    /// the run is described otherwise ([`Error::ResumeMismatch`](crate::Error)).
    ///
    /// If `output_dir` is not `folder`, checkpoints of an earlier program are not
    /// [overwritten](Self::overwrite) there unless that is allowed.
    ///
    /// A callback may run twice at one step: if the run is interrupted while it runs.
    ///
    /// ```
    /// use tch::{nn, Device, Kind, Tensor};
    /// use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller};
    /// use textbrewer::{TrainingConfig, VecLoader};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder).ckpt_steps(2);
    /// // The same program each time: model, data, and how to train.
    /// let train = |steps| {
    ///     let variables = nn::VarStore::new(Device::Cpu);
    ///     let layer = nn::linear(variables.root(), 3, 2, Default::default());
    ///     let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
    ///     let mut trainer = BasicTrainer::builder(&model, &variables)
    ///         .train_config(config.clone())
    ///         .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
    ///         .build()?;
    ///     let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    ///     trainer.train(&mut loader).steps(steps).optimizer(AdamW::new(0.1)).resume_or_start().run()
    /// };
    /// assert_eq!(train(4)?.resumed_from, None);
    /// // The second time it continues with the weights of step 4, not with new random ones.
    /// let summary = train(6)?;
    /// assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.begin = Begin::Resume(folder.into());
        self
    }

    /// Continues from the newest checkpoint in `output_dir` as [`resume`](Self::resume) does, or
    /// begins if there is none: for programs that are started again until they are done.
    ///
    /// Students in `output_dir` without a complete state beside them, which a run leaves that is
    /// killed early, cannot be resumed from. The run then begins anew and replaces those of its
    /// steps; [`overwrite`](Self::overwrite) need not be set.
    pub fn resume_or_start(mut self) -> Self {
        self.options.begin = Begin::ResumeIfAny;
        self
    }

    /// Whether a resumed run may have another [`schedule`](Self::schedule) of learning rates than
    /// before, so that a run whose rates decay can be made longer; it may not by default. All
    /// else must still be the same. Another length alone needs no permission, but changes a
    /// schedule that goes by it, such as
    /// [`linear_with_warmup_fraction`](crate::schedule::linear_with_warmup_fraction).
    ///
    /// The steps already done keep the rates that they had. Schedules of loss weights and
    /// temperatures that go by the run's progress follow the new length too.
    ///
    /// ```
    /// use tch::{nn, Device, Kind, Tensor};
    /// use textbrewer::schedule::linear_with_warmup_fraction;
    /// use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller, Error};
    /// use textbrewer::{TrainingConfig, VecLoader};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder);
    /// let train = |steps, extend| {
    ///     let variables = nn::VarStore::new(Device::Cpu);
    ///     let layer = nn::linear(variables.root(), 3, 2, Default::default());
    ///     let model = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
    ///     let mut trainer = BasicTrainer::builder(&model, &variables)
    ///         .train_config(config.clone())
    ///         .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.f_square()?)))
    ///         .build()?;
    ///     let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    ///     let run = trainer.train(&mut loader).steps(steps).optimizer(AdamW::new(0.1));
    ///     let run = run.schedule(linear_with_warmup_fraction(0.25));
    ///     run.resume_or_start().extend(extend).run()
    /// };
    /// train(4, false)?;
    /// // The rate had fallen to 0 at step 4, and would be higher again in a run of 8 steps.
    /// assert!(matches!(train(8, false), Err(Error::ResumeMismatch { .. })));
    /// assert_eq!(train(8, true)?.global_steps, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extend(mut self, extend: bool) -> Self {
        self.options.extends = extend;
        self
    }

    /// Whether the run may replace what an earlier program left in `output_dir`. By default it is
    /// refused at its start if `output_dir` has students of its steps (of any step, if the run
    /// may be interrupted there), states (`state/gs*`) or a `best.safetensors`. Files of the same
    /// program are no obstacle, so that it may train in several runs.
    ///
    /// With `true`, students are overwritten when the run reaches their step. All states and
    /// `best.safetensors`, also those of this program, are removed at the start of the run, with
    /// a warning in the log, so that nobody resumes from another run's state by mistake. Without
    /// it the states of an earlier run of this program stay until they are replaced; the newest
    /// is the one that was written last.
    ///
    /// It is not needed to continue a run in `output_dir` with [`resume`](Self::resume) or
    /// [`resume_or_start`](Self::resume_or_start): the files there are the run's own.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.options.overwrites = overwrite;
        self
    }

    /// Which of the saved students are kept in `output_dir`; all of them by default.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.options.keep = keep;
        self
    }

    /// Whether a larger metric is better, which is the default, or a smaller one. The best
    /// student is also saved as `best.safetensors`.
    pub fn metric_mode(mut self, mode: Mode) -> Self {
        self.options.mode = mode;
        self
    }

    /// Ends the run when the metric that the callback returns no longer improves.
    pub fn early_stopping(mut self, early_stopping: EarlyStopping) -> Self {
        self.options.early_stopping = Some(early_stopping);
        self
    }

    /// Whether checkpoints have a state to resume from; they do by default. Without it only the
    /// students' weights are written, as in TextBrewer, which takes less room: the state of
    /// optimizers such as AdamW is twice as large as the student.
    pub fn save_state(mut self, save: bool) -> Self {
        self.options.saves_state = save;
        self
    }

    /// The policy for losses and gradients that are NaN or infinite; by default the run fails.
    pub fn on_non_finite(mut self, policy: OnNonFinite) -> Self {
        self.options.on_non_finite = policy;
        self
    }

    /// Ends the run after the current optimizer step, with a checkpoint to resume from, once
    /// this flag is true. Callbacks are not called for that checkpoint, unless one was due.
    /// Call this again for several flags.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::sync::Arc;
    /// # use tch::{nn, Device, Kind, Tensor};
    /// # use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller};
    /// # use textbrewer::{TrainingConfig, VecLoader};
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
    /// # let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    /// let stop = Arc::new(AtomicBool::new(false));
    /// // From another thread, say when the time on a shared machine is up.
    /// let other = Arc::clone(&stop);
    /// std::thread::spawn(move || other.store(true, Ordering::Relaxed)).join().unwrap();
    /// let run = trainer.train(&mut loader).steps(1000).optimizer(AdamW::new(0.01));
    /// let summary = run.stop_flag(stop).run()?;
    /// assert_eq!((summary.interrupted, summary.global_steps), (true, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.options.stop_flags.push(flag);
        self
    }

    /// Lets the first Ctrl-C, or a SIGTERM as clusters send it before they kill (SLURM,
    /// Kubernetes), end the run as a [`stop_flag`](Self::stop_flag) does: after the optimizer step
    /// under way, with a checkpoint. A line on standard error says so at once. Ctrl-C after that
    /// ends the process at once, with status 130; a second SIGTERM does nothing. This is for
    /// programs, not for libraries: it affects the whole process while the run lasts. Afterwards
    /// both end the process again.
    pub fn handle_interrupts(mut self) -> Self {
        self.options.handles_interrupts = true;
        self
    }
}
