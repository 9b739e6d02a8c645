//! A core as the engine sees it.

use std::collections::BTreeMap;

use tch::Tensor;
use tch::nn::VarStore;

use super::cache::TeacherCache;
use super::{Core, Needs};
use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::Result;
use crate::optim::ParamGroup;
use crate::step::StepInfo;

/// A [`Core`] as the engine sees it, whatever its batches are: what is trained, saved and
/// compared.
pub trait AnyCore<S: ?Sized>: sealed::Sealed {
    /// How to train.
    fn config(&self) -> &TrainingConfig;

    /// The distillation configuration; a trainer has none.
    fn distill_config(&self) -> Option<&DistillationConfig>;

    /// The model in training.
    fn student(&self) -> &S;

    /// The variables of the model in training: optimized, clipped, saved.
    fn variables(&self) -> &VarStore;

    /// The parameters of the configured projections, `projection.{index of the match}.weight`
    /// and so on, and `emd_projection.weight`.
    fn projections(&self) -> &VarStore;

    /// What the terms need of the models.
    fn needs(&self) -> Needs;

    /// Parameters to optimize besides the student's: projections, and those of other terms. They
    /// are saved in no checkpoint of the student and, unless the configuration says so, not
    /// clipped.
    fn param_groups(&self) -> Vec<ParamGroup>;

    /// The tensors that a resumed run needs, besides the student's variables and the state of
    /// the optimizer: all parameters of the terms, and what the terms remember.
    ///
    /// # Errors
    /// When there is no memory for them.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Puts back a copy of what [`state`](Self::state) gave. When it fails, nothing is changed.
    ///
    /// # Errors
    /// When a name, shape or kind does not fit.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;

    /// What has to be the same when a run is resumed, besides the training configuration: the
    /// distillation configuration and the descriptions of the terms.
    fn description(&self) -> BTreeMap<String, String>;

    /// How many bytes the teacher outputs take that are kept, if they are.
    fn cache_bytes(&self) -> Option<u64>;

    /// Forgets the teacher outputs that are kept. Every run does so at its start: its batches
    /// may be others.
    fn clear_cache(&self);

    /// What is summed over the batches of an optimizer step: the tensor itself, if there is one. Of
    /// several processes it has to have the sums of all before [`after_step`](Self::after_step), and
    /// it is set to 0 where batches were dropped that made no step.
    fn step_sums(&self) -> Option<Tensor>;

    /// Called after every optimizer step.
    ///
    /// # Errors
    /// Those of the terms.
    fn after_step(&mut self, step: &StepInfo) -> Result<()>;

    /// Whether batches weigh by their positions in an optimizer step: what the configuration says,
    /// or else the loss on logits. Of several tasks each counts as its sampler has it, unless the
    /// configuration says so.
    fn weighs_by_positions(&self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl<B, S: ?Sized> Sealed for crate::distiller::Core<'_, B, S> {}
}

impl<B, S: ?Sized> AnyCore<S> for Core<'_, B, S> {
    fn config(&self) -> &TrainingConfig {
        &self.train_config
    }

    fn distill_config(&self) -> Option<&DistillationConfig> {
        self.distill_config.as_ref()
    }

    fn student(&self) -> &S {
        self.student
    }

    fn variables(&self) -> &VarStore {
        self.variables
    }

    fn projections(&self) -> &VarStore {
        self.terms.projections()
    }

    fn needs(&self) -> Needs {
        self.terms.needs()
    }

    fn param_groups(&self) -> Vec<ParamGroup> {
        self.terms.param_groups()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.terms.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.terms.load_state(state)
    }

    fn description(&self) -> BTreeMap<String, String> {
        let mut description = self.terms.descriptions();
        description.extend(self.description.clone());
        description
    }

    fn cache_bytes(&self) -> Option<u64> {
        self.cache.as_ref().map(TeacherCache::bytes)
    }

    fn clear_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }

    fn step_sums(&self) -> Option<Tensor> {
        self.terms.step_sums()
    }

    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        self.terms.after_step(step)
    }

    fn weighs_by_positions(&self) -> bool {
        let said = self.train_config.weigh_by_positions;
        said.unwrap_or(self.terms.is_over_the_step() && self.tasks.len() == 1)
    }
}
