//! What a user runs after every optimizer step.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::Result;
use crate::step::StepInfo;

/// Runs after every optimizer step and has a state that is saved and restored with the run: a
/// moving average of the student's weights, a curriculum. For a closure without a state there is
/// [`Run::after_step`](crate::Run::after_step).
///
/// Hooks run in the order in which they were given, without gradients, after the optimizer step
/// and before the checkpoint of that step, if there is one. So what they save and what they
/// change in the student is part of that checkpoint. They run after every step, also after one
/// that the device skips because a gradient is not finite ([`OnNonFinite`](crate::OnNonFinite),
/// [loss scaling](crate::Run::loss_scaling)): a skipped step counts, and the run does not wait
/// for the device to learn of it.
///
/// In the [`StepInfo`] that they get, `global_step` and `forward_step` are the steps and batches
/// done, the one just done included, and there is no `batch_id`.
///
/// Teacher outputs that are [kept](crate::DistillationConfig::is_caching_logits) are computed
/// once. A teacher that a hook changes, such as a moving average of the student, would speak with
/// its first outputs for ever: leave the caching off for it.
///
/// All methods are required, so that a state cannot be forgotten. `&mut H` of a hook is a hook
/// too, so one can be lent to a run and looked at afterwards.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::{
///     from_fn, weights, AdamW, AdaptorOutput, BasicTrainer, Distiller, Error, Hook, Result,
///     StepInfo, TrainingConfig, VecLoader,
/// };
///
/// /// An exponential moving average of variables.
/// struct Average {
///     /// Name, variable and mean of each.
///     means: Vec<(String, Tensor, Tensor)>,
///     rate: Tensor,
/// }
///
/// impl Average {
///     fn of(variables: &nn::VarStore, rate: f32) -> Result<Self> {
///         let state = weights::state_dict(variables).into_iter();
///         let means = state.map(|(name, variable)| {
///             let mean = variable.f_detach_copy()?;
///             Ok((name, variable, mean))
///         });
///         Ok(Average { means: means.collect::<Result<_>>()?, rate: Tensor::from(rate) })
///     }
/// }
///
/// impl<S: ?Sized> Hook<S> for Average {
///     fn name(&self) -> &str {
///         "average"
///     }
///
///     fn after_step(&mut self, _student: &S, _step: &StepInfo) -> Result<()> {
///         for (_, variable, mean) in &mut self.means {
///             let _ = mean.f_lerp_tensor_(variable, &self.rate)?;
///         }
///         Ok(())
///     }
///
///     fn state(&self) -> Result<BTreeMap<String, Tensor>> {
///         let means = self.means.iter();
///         Ok(means.map(|(name, _, mean)| (name.clone(), mean.shallow_clone())).collect())
///     }
///
///     fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
///         for (name, _, mean) in &mut self.means {
///             let saved = state.get(name);
///             mean.f_copy_(saved.ok_or_else(|| Error::other(format!("no `{name}`")))?)?;
///         }
///         Ok(())
///     }
/// }
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
/// let mut average = Average::of(&variables, 0.1)?;
/// trainer // or any other distiller
///     .train(&mut loader)
///     .epochs(2)
///     .optimizer(AdamW::new(0.1))
///     .hook(&mut average)
///     .run()?;
/// for (_, variable, mean) in &average.means {
///     assert_ne!(variable, mean);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Hook<S: ?Sized> {
    /// The name in errors and checkpoints. A run has no two hooks of one name, and `/` is not
    /// in it.
    fn name(&self) -> &str;

    /// Called after every optimizer step, without gradients.
    ///
    /// # Errors
    /// Whatever goes wrong; the run ends with [`Error::Hook`](crate::Error::Hook), which has the
    /// hook's name and the step.
    fn after_step(&mut self, student: &S, step: &StepInfo) -> Result<()>;

    /// Every tensor that a resumed run needs, by any names; empty for a hook that remembers
    /// nothing. Numbers go in as tensors that hold them exactly, such as `i64` for counts. It is
    /// also asked for before anything is restored, to put it back if the resume is refused.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Restores a copy of what [`state`](Self::state) returned when the checkpoint was saved; the
    /// tensors are on the CPU. A run calls it once when it is resumed, before anything else is
    /// restored, and then checks that [`state`](Self::state) returns the same names, kinds, shapes
    /// and values. If it does not, the run is refused. If the run is refused for this or another
    /// reason, it is called again, with the state that the hook had before.
    ///
    /// # Errors
    /// When the state does not fit; the run is refused.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

impl<S: ?Sized, H: Hook<S> + ?Sized> Hook<S> for &mut H {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn after_step(&mut self, student: &S, step: &StepInfo) -> Result<()> {
        (**self).after_step(student, step)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        (**self).state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        (**self).load_state(state)
    }
}

impl<S: ?Sized, H: Hook<S> + ?Sized> Hook<S> for Box<H> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn after_step(&mut self, student: &S, step: &StepInfo) -> Result<()> {
        (**self).after_step(student, step)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        (**self).state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        (**self).load_state(state)
    }
}

/// A hook, or a closure, which has no state and is no part of what a resumed run must repeat.
pub(super) enum AfterStep<'a, S: ?Sized> {
    Hook(Box<dyn Hook<S> + 'a>),
    Closure(Closure<'a, S>),
}

type Closure<'a, S> = Box<dyn FnMut(&S, &StepInfo) -> Result<()> + 'a>;
