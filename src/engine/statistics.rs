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
/// `DistributedDataParallel`.
#[derive(Debug)]
pub(super) struct Statistics<'a> {
    ranks: Ranks<'a>,
    /// None where there is only one rank.
    variables: Vec<Tensor>,
    /// How often they were written into, all together, when they were shared last.
    writes: i64,
}

impl<'a> Statistics<'a> {
    pub(super) fn of(ranks: Ranks<'a>, student: &VarStore) -> Result<Self> {
        let mut variables = Vec::new();
        if ranks.world_size() > 1 {
            let trained = student.trainable_variables();
            let trained: HashSet<_> = trained.iter().map(Tensor::data_ptr).collect();
            let all = weights::state_dict(student).into_iter();
            let others = all.filter(|(_, tensor)| !trained.contains(&tensor.data_ptr()));
            variables.extend(others.map(|(_, tensor)| tensor));
        }
        let mut statistics = Statistics {
            ranks,
            variables,
            writes: 0,
        };
        statistics.writes = statistics.count()?;
        Ok(statistics)
    }

    /// Gives all ranks those of the first, if any rank has written into its own.
    pub(super) fn share(&mut self) -> Result<()> {
        if self.variables.is_empty() {
            return Ok(());
        }
        let writes = self.count()?;
        let is_changed = writes != self.writes;
        if self.ranks.any("running statistics", is_changed)? {
            let operation = "sharing running statistics";
            self.ranks.copy_from_first(operation, &self.variables)?;
        }
        self.writes = self.count()?;
        Ok(())
    }

    fn count(&self) -> Result<i64> {
        let versions = self.variables.iter().map(Tensor::f_internal_version);
        Ok(versions.sum::<std::result::Result<i64, _>>()?)
    }
}
