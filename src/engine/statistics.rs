//! The student's running statistics, which every rank has of batches of its own.

use std::collections::HashSet;

use tch::Tensor;
use tch::nn::VarStore;

use super::ranks::Ranks;
use crate::error::Result;
use crate::weights;

/// The variables of the student that no gradient changes, but perhaps its forward pass.
///
/// They are the first rank's on all ranks after every optimizer step, as with PyTorch's
/// `DistributedDataParallel`. Whether they were changed is not asked: libtorch's batch normalization
/// writes into them without leaving a trace.
#[derive(Debug)]
pub(super) struct Statistics<'a> {
    ranks: Ranks<'a>,
    /// None where there is only one rank.
    variables: Vec<Tensor>,
}

impl<'a> Statistics<'a> {
    pub(super) fn of(ranks: Ranks<'a>, student: &VarStore) -> Self {
        let mut variables = Vec::new();
        if ranks.world_size() > 1 {
            let trained = student.trainable_variables();
            let trained: HashSet<_> = trained.iter().map(Tensor::data_ptr).collect();
            let all = weights::state_dict(student).into_iter();
            let others = all.filter(|(_, tensor)| !trained.contains(&tensor.data_ptr()));
            variables.extend(others.map(|(_, tensor)| tensor));
        }
        Statistics { ranks, variables }
    }

    /// Gives all ranks those of the first.
    pub(super) fn share(&self) -> Result<()> {
        match self.variables.is_empty() {
            true => Ok(()),
            false => self
                .ranks
                .copy_from_first("sharing running statistics", &self.variables),
        }
    }
}
