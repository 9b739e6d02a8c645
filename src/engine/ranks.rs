//! The processes that train one student together, as a run sees them.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::{Flow, Verdict};
use crate::data::{Shard, Uneven};
use crate::distributed::{NUMBERS, ProcessGroup, ShardedOptimizer};
use crate::error::{Error, Result};
use crate::native::Reducer;
use crate::native::process_group::Reduction;
use crate::optim::Optimizer;

/// The processes ("ranks") that train one student together.
///
/// Whatever all of them have to decide alike, and every gradient that they share, goes through
/// here. A run without a process group is one rank, for which everything is answered at once and at
/// no cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ranks<'a> {
    /// None where there is nobody to talk to.
    group: Option<&'a ProcessGroup>,
}

/// A number for each name, of each batch in turn.
pub(super) type Named = Vec<(String, f64)>;

impl<'a> Ranks<'a> {
    pub(super) fn new(group: Option<&'a ProcessGroup>) -> Self {
        Ranks {
            group: group.filter(|group| !group.is_alone()),
        }
    }

    /// Whether there is nobody to talk to. A group of one process is not alone.
    pub(super) fn is_alone(self) -> bool {
        self.group.is_none()
    }

    pub(super) fn rank(self) -> usize {
        self.group.map_or(0, ProcessGroup::rank)
    }

    pub(super) fn world_size(self) -> usize {
        self.group.map_or(1, ProcessGroup::world_size)
    }

    /// Whether this is the rank that writes logs and checkpoints and shows progress.
    pub(super) fn is_first(self) -> bool {
        self.rank() == 0
    }

    /// What this rank is given of the data, if it does not get all.
    pub(super) fn shard(self, uneven: Uneven) -> Result<Option<Shard>> {
        self.group.map(|group| group.shard(uneven)).transpose()
    }

    /// Whether any rank says yes. Every rank gets the same answer.
    pub(super) fn any(self, operation: &str, here: bool) -> Result<bool> {
        if self.is_alone() {
            return Ok(here);
        }
        Ok(self.each(operation, here)?.contains(&true))
    }

    /// What each rank says, by rank.
    pub(super) fn each(self, operation: &str, here: bool) -> Result<Vec<bool>> {
        let Some(group) = self.group else {
            return Ok(vec![here]);
        };
        let mut numbers = [0; NUMBERS];
        numbers[0] = i64::from(here);
        let all = group.exchange(operation, numbers)?;
        Ok(all.iter().map(|numbers| numbers[0] != 0).collect())
    }

    /// Waits for all ranks.
    pub(super) fn wait(self, operation: &str) -> Result<()> {
        self.any(operation, false).map(drop)
    }

    /// The text of each rank, by rank.
    pub(super) fn texts(self, operation: &str, own: &str) -> Result<Vec<String>> {
        let Some(group) = self.group else {
            return Ok(vec![own.to_owned()]);
        };
        let all = group.exchange_bytes(operation, own.as_bytes())?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(all.into_iter().map(text).collect())
    }

    /// Fails in all ranks if one of them says something else than the first.
    pub(super) fn same(self, operation: &str, own: &str) -> Result<()> {
        let all = self.texts(operation, own)?;
        let (Some(first), Some(group)) = (all.first(), self.group) else {
            return Ok(());
        };
        match all.iter().position(|text| text != first) {
            None => Ok(()),
            Some(rank) => {
                let other = all.get(rank).map_or("", String::as_str);
                Err(group.error(
                    operation,
                    format!("process 0 has {first}, process {rank} {other}"),
                ))
            }
        }
    }

    /// An error that all ranks have found.
    pub(super) fn error(self, operation: &str, reason: String) -> Error {
        match self.group {
            Some(group) => group.error(operation, reason),
            None => Error::config(operation, reason),
        }
    }

    /// Writes the first rank's numbers into the tensors of all. They are alike in shape and kind.
    pub(super) fn copy_from_first(self, operation: &str, tensors: &[Tensor]) -> Result<()> {
        let Some(group) = self.group else {
            return Ok(());
        };
        self.wait(operation)?;
        let tensors: Vec<_> = tensors.iter().map(|tensor| (tensor, 0)).collect();
        group.with_group(operation, |group| group.broadcast(&tensors))
    }

    /// The sum of a tensor over all ranks, which have it in one shape and kind.
    pub(super) fn sum(self, operation: &str, own: &Tensor) -> Result<Tensor> {
        let Some(group) = self.group else {
            return Ok(own.shallow_clone());
        };
        let sum = own.f_detach_copy()?;
        group.with_group(operation, |group| group.all_reduce(&[&sum], Reduction::Sum))?;
        Ok(sum)
    }

    /// What averages the gradients of these parameters, in the order in which a forward pass uses
    /// them.
    pub(super) fn reducer(self, parameters: &[(String, Tensor)]) -> Result<Option<Reducer>> {
        let Some(group) = self.group else {
            return Ok(None);
        };
        group.with_group(GRADIENTS, |group| Reducer::new(group, parameters).map(Some))
    }

    /// The optimizer, with its state divided among the ranks.
    pub(super) fn shard_optimizer(
        self,
        optimizer: Box<dyn Optimizer + 'a>,
    ) -> Box<dyn Optimizer + 'a> {
        match self.group {
            Some(group) => Box::new(ShardedOptimizer::new(optimizer, group)),
            None => optimizer,
        }
    }

    /// Whether an error of a backward pass, which averages gradients too, is one of that.
    pub(super) fn is_of_others(self, error: &TchError) -> bool {
        self.group.is_some_and(|group| group.is_of_others(error))
    }

    /// An error of averaging the gradients.
    pub(super) fn in_backward(self, error: TchError) -> Error {
        match self.group {
            Some(group) => group.failed(GRADIENTS, &error),
            None => error.into(),
        }
    }

    /// For each batch and name the mean over the ranks that have it, on all ranks: of losses, and of
    /// observations.
    pub(super) fn means(self, own: Vec<[Named; 2]>) -> Result<Vec<[Named; 2]>> {
        if self.group.is_none() {
            return Ok(own);
        }
        // As bits: JSON has no NaN.
        let bits = |named: &Named| -> Vec<(String, u64)> {
            let named = named.iter();
            named
                .map(|(name, value)| (name.clone(), value.to_bits()))
                .collect()
        };
        let text: Vec<_> = own.iter().map(|batch| batch.each_ref().map(bits)).collect();
        let text = serde_json::to_string(&text).map_err(Error::other)?;
        let mut sums: Vec<[Vec<(String, f64, u64)>; 2]> =
            own.iter().map(|_| Default::default()).collect();
        for text in self.texts("reading the losses", &text)? {
            let batches: Vec<[Vec<(String, u64)>; 2]> =
                serde_json::from_str(&text).map_err(Error::other)?;
            let parts = sums.iter_mut().flatten().zip(batches.into_iter().flatten());
            for (sums, part) in parts {
                for (name, bits) in part {
                    let value = f64::from_bits(bits);
                    match sums.iter_mut().find(|(known, ..)| *known == name) {
                        Some((_, sum, count)) => {
                            *sum += value;
                            *count += 1;
                        }
                        None => sums.push((name, value, 1)),
                    }
                }
            }
        }
        let mean = |(name, sum, count)| (name, sum / count as f64);
        let means = sums.into_iter();
        Ok(means
            .map(|batch| batch.map(|sums| sums.into_iter().map(mean).collect()))
            .collect())
    }

    /// What the ranks say together: stop if one of them does, and the metric of the first that has
    /// one.
    pub(super) fn verdict(self, own: Verdict) -> Result<Verdict> {
        let Some(group) = self.group else {
            return Ok(own);
        };
        let mut numbers = [0; NUMBERS];
        numbers[0] = i64::from(own.flow == Flow::Stop);
        numbers[1] = i64::from(own.metric.is_some());
        numbers[2] = own.metric.unwrap_or_default().to_bits().cast_signed();
        let all = group.exchange("the verdict of the callbacks", numbers)?;
        let mut together = Verdict::default();
        for [stops, has_metric, bits, ..] in all {
            if stops != 0 {
                together.flow = Flow::Stop;
            }
            if has_metric != 0 && together.metric.is_none() {
                together.metric = Some(f64::from_bits(bits.cast_unsigned()));
            }
        }
        Ok(together)
    }

    /// What each rank remembers, as [`gather`](Self::gather) names it, if all remember tensors of
    /// one shape; else what this one does.
    pub(super) fn gather_if_alike(
        self,
        operation: &str,
        own: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let shape = |(name, tensor): (&String, &Tensor)| {
            let kind = tensor.f_kind()?;
            Ok(format!("{name} {kind:?} {:?}", tensor.size()))
        };
        let shapes = own.iter().map(shape).collect::<Result<Vec<_>>>()?;
        let all = self.texts(operation, &shapes.join(", "))?;
        match all.iter().all(|text| all.first() == Some(text)) {
            true => self.gather(own),
            false => Ok(own),
        }
    }

    /// Tensors of all ranks by name, those of other ranks than the first under `rank1/` and so on.
    pub(super) fn gather(self, own: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        let Some(group) = self.group else {
            return Ok(own);
        };
        let mut all = BTreeMap::new();
        for (name, tensor) in own {
            for (rank, tensor) in group.all_gather(&tensor)?.into_iter().enumerate() {
                all.insert(of_rank(rank, &name), tensor);
            }
        }
        Ok(all)
    }

    /// Ends the group with an error of this rank, which the others then get too.
    pub(super) fn end_with(self, error: &Error) {
        if let Some(group) = self.group {
            group.end_with(error);
        }
    }
}

/// The name under which the tensor of a rank is saved.
pub(super) fn of_rank(rank: usize, name: &str) -> String {
    match rank {
        0 => name.to_owned(),
        _ => format!("rank{rank}/{name}"),
    }
}

/// What was [gathered](Ranks::gather), as this rank has it: its own where that is there, else the
/// first one's.
pub(super) fn as_of_rank(
    rank: usize,
    gathered: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Tensor> {
    let of_first = gathered.keys().filter(|name| !is_of_other(name));
    let own = of_first.filter_map(|name| {
        let own = gathered.get(&of_rank(rank, name));
        let tensor = own.or_else(|| gathered.get(name))?;
        Some((name.clone(), tensor.shallow_clone()))
    });
    own.collect()
}

fn is_of_other(name: &str) -> bool {
    let number = name
        .strip_prefix("rank")
        .and_then(|rest| rest.split_once('/'));
    number.is_some_and(|(number, _)| number.parse::<usize>().is_ok())
}

const GRADIENTS: &str = "averaging the gradients";
