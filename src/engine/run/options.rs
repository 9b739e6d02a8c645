//! What a run does to survive, as its user describes it.

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
    /// Whether the run is to go on in this folder, so that what is there is its own.
    pub(in crate::engine) fn goes_on_in(&self, output_dir: &Path) -> bool {
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

/// What a run does to survive, as its user describes it.
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
    /// Whether there may be checkpoints after steps for which none is planned.
    pub(in crate::engine) fn may_save_anywhere(&self) -> bool {
        let interrupted = self.handles_interrupts || !self.stop_flags.is_empty();
        interrupted || self.on_non_finite == OnNonFinite::StopAndSave
    }
}

impl<D: Distiller + ?Sized> Run<'_, D> {
    /// Goes on from the newest checkpoint in `folder`, the `output_dir` of a run that was
    /// interrupted, as if it had not been: with the weights, the optimizer's state,
    /// projections, random numbers, and at the same batch. On the CPU the numbers are the
    /// same to the last bit; [`checkpoint`](crate::checkpoint) says what is kept.
    ///
    /// The run has to be described as before. Its length may be another; a run that was
    /// complete, or that a callback ended, does nothing more.
    ///
    /// A newest checkpoint that is damaged is reported
    /// ([`TrainSummary::damaged`](crate::TrainSummary::damaged)), and the one before it is
    /// used. [`run`](Self::run) fails when there is no checkpoint, and with the list of
    /// differences when the run is another ([`Error::ResumeMismatch`](crate::Error)).
    ///
    /// In another `output_dir` than `folder` no checkpoint of an earlier program is
    /// [overwritten](Self::overwrite) unasked.
    ///
    /// A callback may run twice at one step: when the run is interrupted while it runs.
    ///
    /// ```
    /// use tch::{nn, nn::Module, Device, Kind, Tensor};
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
    ///     let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
    ///     let mut trainer = BasicTrainer::builder(&model, &variables)
    ///         .train_config(config.clone())
    ///         .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
    ///         .build()?;
    ///     let mut loader = VecLoader::new(vec![Tensor::ones([4, 3], (Kind::Float, Device::Cpu))])?;
    ///     trainer.train(&mut loader).steps(steps).optimizer(AdamW::new(0.1)).resume_or_start().run()
    /// };
    /// assert_eq!(train(4)?.resumed_from, None);
    /// // The second time it goes on: the weights are those of step 4, not new random ones.
    /// let summary = train(6)?;
    /// assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.begin = Begin::Resume(folder.into());
        self
    }

    /// Goes on from the newest checkpoint in `output_dir` as [`resume`](Self::resume) does,
    /// or begins if there is none: for programs that are started again until they are done.
    ///
    /// Students in `output_dir` without a complete state beside them, as a run leaves that is
    /// killed early, cannot be gone on from. The run that begins then replaces those of its
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
    /// use tch::{nn, nn::Module, Device, Kind, Tensor};
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
    ///     let model = from_fn(|batch: &Tensor, _| Ok(layer.forward(batch)));
    ///     let mut trainer = BasicTrainer::builder(&model, &variables)
    ///         .train_config(config.clone())
    ///         .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
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
        self.options.overwrites = overwrite;
        self
    }

    /// Which of the saved students stay in `output_dir`; all of them by default.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.options.keep = keep;
        self
    }

    /// Whether the metric that the callback returns is better when it is larger, as it is by
    /// default, or smaller. The best student is also there as `best.safetensors`.
    pub fn metric_mode(mut self, mode: Mode) -> Self {
        self.options.mode = mode;
        self
    }

    /// Ends the run when the metric that the callback returns gets no better.
    pub fn early_stopping(mut self, early_stopping: EarlyStopping) -> Self {
        self.options.early_stopping = Some(early_stopping);
        self
    }

    /// Whether checkpoints have what a run needs to go on; they do by default. Without it
    /// only the students' weights are written, as in TextBrewer: optimizers such as AdamW
    /// remember twice as much as the student has.
    pub fn save_state(mut self, save: bool) -> Self {
        self.options.saves_state = save;
        self
    }

    /// What is done when a loss or a gradient is NaN or infinite; by default the run fails.
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
    /// # use tch::{nn, nn::Module, Device, Kind, Tensor};
    /// # use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller};
    /// # use textbrewer::{TrainingConfig, VecLoader};
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

    /// Lets the first Ctrl-C end the run as a [`stop_flag`](Self::stop_flag) does, and the
    /// second one the process at once, with status 130. It is for programs: while the run
    /// lasts, the whole process is concerned. After it Ctrl-C ends the process again.
    pub fn handle_interrupts(mut self) -> Self {
        self.options.handles_interrupts = true;
        self
    }
}
