//! What a run does to survive, as its user describes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::interrupt::Interrupts;
use super::{OnNonFinite, Run};
use crate::checkpoint::{EarlyStopping, Keep, Mode};
use crate::distiller::Distiller;
use crate::error::Result;

/// Where a run begins.
#[derive(Debug, Clone, Default)]
pub(super) enum Begin {
    #[default]
    Anew,
    /// From the newest checkpoint in this folder.
    From(PathBuf),
    /// From the newest in `output_dir`, if there is one.
    FromAny,
}

impl Begin {
    /// Whether the run is to go on in this folder, so that what is there is its own.
    pub(super) fn goes_on_in(&self, output_dir: &Path) -> bool {
        match self {
            Begin::Anew => false,
            Begin::FromAny => true,
            Begin::From(folder) => match (folder.canonicalize(), output_dir.canonicalize()) {
                (Ok(folder), Ok(output_dir)) => folder == output_dir,
                _ => false,
            },
        }
    }
}

/// What a run does to survive, as its user describes it.
#[derive(Debug)]
pub(super) struct Survival {
    pub(super) begin: Begin,
    pub(super) keep: Keep,
    pub(super) mode: Mode,
    pub(super) early_stopping: Option<EarlyStopping>,
    pub(super) saves_state: bool,
    pub(super) on_non_finite: OnNonFinite,
    pub(super) stop_flags: Vec<Arc<AtomicBool>>,
    pub(super) handles_interrupts: bool,
}

impl Default for Survival {
    fn default() -> Self {
        Survival {
            begin: Begin::Anew,
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

impl Survival {
    /// Whether there may be checkpoints after steps for which none is planned.
    pub(super) fn may_save_anywhere(&self) -> bool {
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
        self.survival.begin = Begin::From(folder.into());
        self
    }

    /// Goes on from the newest checkpoint in `output_dir` as [`resume`](Self::resume) does,
    /// or begins if there is none: for programs that are started again until they are done.
    ///
    /// Students in `output_dir` without a complete state beside them, as a run leaves that is
    /// killed early, cannot be gone on from. The run that begins then replaces those of its
    /// steps; [`overwrite`](Self::overwrite) need not be set.
    pub fn resume_or_start(mut self) -> Self {
        self.survival.begin = Begin::FromAny;
        self
    }

    /// Which of the saved students stay in `output_dir`; all of them by default.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.survival.keep = keep;
        self
    }

    /// Whether the metric that the callback returns is better when it is larger, as it is by
    /// default, or smaller. The best student is also there as `best.safetensors`.
    pub fn metric_mode(mut self, mode: Mode) -> Self {
        self.survival.mode = mode;
        self
    }

    /// Ends the run when the metric that the callback returns gets no better.
    pub fn early_stopping(mut self, early_stopping: EarlyStopping) -> Self {
        self.survival.early_stopping = Some(early_stopping);
        self
    }

    /// Whether checkpoints have what a run needs to go on; they do by default. Without it
    /// only the students' weights are written, as in TextBrewer: optimizers such as AdamW
    /// remember twice as much as the student has.
    pub fn save_state(mut self, save: bool) -> Self {
        self.survival.saves_state = save;
        self
    }

    /// What is done when a loss or a gradient is NaN or infinite; by default the run fails.
    pub fn on_non_finite(mut self, policy: OnNonFinite) -> Self {
        self.survival.on_non_finite = policy;
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
        self.survival.stop_flags.push(flag);
        self
    }

    /// Lets the first Ctrl-C end the run as a [`stop_flag`](Self::stop_flag) does, and the
    /// second one the process at once, with status 130. It is for programs: while the run
    /// lasts, the whole process is concerned. After it Ctrl-C ends the process again.
    pub fn handle_interrupts(mut self) -> Self {
        self.survival.handles_interrupts = true;
        self
    }
}

impl Survival {
    /// The flags to look at, and what has to live as long as the run.
    pub(super) fn stop(&mut self) -> Result<Stop> {
        let interrupts = match self.handles_interrupts {
            true => Some(Interrupts::begin()?),
            false => None,
        };
        Ok(Stop {
            flags: std::mem::take(&mut self.stop_flags),
            interrupts,
        })
    }
}

/// Whether somebody wants the run to end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    flags: Vec<Arc<AtomicBool>>,
    interrupts: Option<Interrupts>,
}

impl Stop {
    pub(super) fn is_wanted(&self) -> bool {
        let interrupted = self.interrupts.as_ref().is_some_and(Interrupts::happened);
        interrupted || self.flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }
}
