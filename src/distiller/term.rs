//! What a student learns from, as a part of the loss.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{LossReport, Needs, Said};
use crate::error::Result;
use crate::optim::ParamGroup;
use crate::step::StepInfo;

/// A part of the loss: what the student learns from.
///
/// Soft labels, hard labels, intermediate matches and BERT-EMD are terms. One of your own is
/// added to any distiller with [`term`](super::DistillerBuilder::term). The distiller's
/// [`Core`](super::Core) then trains its parameters, saves and restores its state, and keeps of
/// the teachers' outputs what it needs. The methods have no defaults where a term would go wrong
/// without a word if one was forgotten. A loss that is a function of what the models said needs no
/// type of its own: [`loss_term`](super::loss_term).
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::{nn, Device, Kind, Tensor};
/// use textbrewer::distiller::{Needs, Said, Term};
/// use textbrewer::optim::ParamGroup;
/// use textbrewer::{
///     from_fn, AdamW, AdaptorOutput, Distiller, GeneralDistiller, LossReport, Result,
///     TrainingConfig, VecLoader,
/// };
///
/// /// Keeps the student's logits small.
/// #[derive(Debug)]
/// struct Small {
///     weight: f64,
/// }
///
/// impl<B> Term<B> for Small {
///     fn name(&self) -> &str {
///         "small"
///     }
///
///     fn needs(&self) -> Needs {
///         Needs::new().logits()
///     }
///
///     fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
///         let size = said.student_logits(0)?.f_square()?.f_mean(Kind::Float)?;
///         report.add("size", size, self.weight);
///         Ok(())
///     }
///
///     fn param_groups(&self) -> Vec<ParamGroup> {
///         Vec::new()
///     }
///
///     fn description(&self) -> String {
///         format!("weight {}", self.weight)
///     }
///
///     fn state(&self) -> Result<BTreeMap<String, Tensor>> {
///         Ok(BTreeMap::new())
///     }
///
///     fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let config = TrainingConfig::default().device(Device::Cpu).output_dir(folder.path());
/// # let teacher = from_fn(|batch: &Tensor, _| Ok(batch.f_narrow(-1, 0, 2)?));
/// # let variables = nn::VarStore::new(Device::Cpu);
/// # let layer = nn::linear(variables.root(), 3, 2, Default::default());
/// # let student = from_fn(|batch: &Tensor, _| Ok(batch.f_linear(&layer.ws, layer.bs.as_ref())?));
/// let mut distiller = GeneralDistiller::builder(&teacher, &student, &variables)
///     .train_config(config)
///     .adaptor(|_batch, logits| Ok(AdaptorOutput::new().logits(logits)))
///     .term(Small { weight: 0.1 })
///     .build()?;
/// # let mut loader = VecLoader::new(vec![Tensor::randn([4, 3], (Kind::Float, Device::Cpu))])?;
/// let summary = distiller.train(&mut loader).epochs(2).optimizer(AdamW::new(0.01)).run()?;
/// assert!(summary.losses.contains_key("size"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Term<B> {
    /// What errors call it, and under what its state is saved; no two terms of a distiller have
    /// the same name, and there is no `.` or `/` in it. The crate's are `soft_labels`,
    /// `intermediate_matches`, `hard_labels`, `emd`, and `losses` without a teacher.
    fn name(&self) -> &str;

    /// What it needs of the models.
    fn needs(&self) -> Needs;

    /// Adds the losses of one batch to the report, each with a name for the logs and a weight.
    ///
    /// # Errors
    /// When an adaptor did not return what it needs, or shapes do not fit.
    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()>;

    /// The parameters that are trained with the student, the same tensors each time. They are
    /// saved and restored with the run. Names must differ from those of other terms and of the
    /// student. A parameter that is left out here is neither trained nor saved.
    fn param_groups(&self) -> Vec<ParamGroup>;

    /// The settings that must be the same when a run is resumed, in any form. What the
    /// configurations say is compared already; a term without other settings returns an empty
    /// string.
    fn description(&self) -> String;

    /// What it remembers from batch to batch besides its parameters; an empty map for most terms.
    /// It is saved as `{name}.{key}`.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Puts back what [`state`](Self::state) gave, when a run is resumed. The tensors are on the
    /// CPU: move those that belong elsewhere. After it `state` has to be that again, where it was
    /// before, or the resume fails.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;

    /// Called after every optimizer step, without gradients, before the checkpoint of that step.
    /// `step` counts the step that was just done.
    ///
    /// # Errors
    /// Whatever goes wrong in it; it ends the run.
    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        let _ = step;
        Ok(())
    }
}

/// For a term that is looked at after the run.
impl<B, T: Term<B> + ?Sized> Term<B> for &mut T {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        (**self).add_to(report, said)
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        (**self).param_groups()
    }

    fn description(&self) -> String {
        (**self).description()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        (**self).state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        (**self).load_state(state)
    }

    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        (**self).after_step(step)
    }
}

/// For terms that are chosen when the program runs.
impl<B, T: Term<B> + ?Sized> Term<B> for Box<T> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn add_to(&mut self, report: &mut LossReport, said: &Said<'_, B>) -> Result<()> {
        (**self).add_to(report, said)
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        (**self).param_groups()
    }

    fn description(&self) -> String {
        (**self).description()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        (**self).state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        (**self).load_state(state)
    }

    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        (**self).after_step(step)
    }
}
