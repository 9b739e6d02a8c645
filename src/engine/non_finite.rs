//! The policy for losses and gradients that are NaN or infinite.

/// What is done when a loss or a gradient is NaN or infinite.
///
/// Loss values are read from the device together, every
/// [`log_interval`](crate::TrainingConfig::log_interval) batches and before every checkpoint, so
/// a bad value is reported up to that many batches late. With [`SkipStep`](Self::SkipStep) and
/// [`StopAndSave`](Self::StopAndSave) the device itself skips an optimizer step with such a
/// gradient ([`Optimizer::step_unless`](crate::Optimizer::step_unless)), so that the weights stay
/// finite without waiting for the device. A skipped step counts in the length of the run, the
/// schedule and the checkpoints, but not in the optimizer's own count.
/// [`TrainSummary::skipped_steps`](crate::TrainSummary::skipped_steps) is the number of skipped
/// steps, including those whose loss was finite and only the gradient was not. Under
/// [`LossScaling`](crate::optim::LossScaling) skipped steps are normal, and only losses are
/// reported.
///
/// A distiller that reads its losses itself, such as [`EmdDistiller`](crate::EmdDistiller),
/// returns an error in any case.
///
/// ```
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::{from_fn, AdamW, AdaptorOutput, BasicTrainer, Distiller};
/// use textbrewer::{OnNonFinite, TrainingConfig, VecLoader};
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
/// let batch = |value| Tensor::full([4, 3], value, (Kind::Float, Device::Cpu));
/// let mut loader = VecLoader::new(vec![batch(1.0), batch(f64::NAN), batch(2.0)])?;
/// let summary = trainer // or any other distiller
///     .train(&mut loader)
///     .epochs(2)
///     .optimizer(AdamW::new(1e-3))
///     .on_non_finite(OnNonFinite::SkipStep)
///     .run()?;
/// let found = summary.non_finite.expect("the second batch is bad");
/// assert_eq!((found.step, found.batches), (1, 2));
/// assert_eq!(summary.skipped_steps, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnNonFinite {
    /// The run ends with [`Error::NonFiniteLoss`](crate::Error::NonFiniteLoss), which names
    /// the first term that went bad.
    #[default]
    Error,
    /// The optimizer step is skipped with a warning, and the run continues.
    SkipStep,
    /// The optimizer step is skipped. When the values are next read, the run ends after the
    /// current step, with a checkpoint of weights that are finite.
    StopAndSave,
}

/// The losses that were NaN or infinite in a run that did not fail for them, for
/// [`TrainSummary::non_finite`](crate::TrainSummary::non_finite). See [`OnNonFinite`] for an
/// example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NonFinite {
    /// The first term that went bad.
    pub term: String,
    /// Its forward step, counted from 0, as in the logs.
    pub step: u64,
    /// How many batches had a term that was not finite.
    pub batches: u64,
}
