//! Which process steps which parameter.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::error::Result;
use crate::optim::{ParamGroup, SIDES};

/// The process that each parameter belongs to. All processes that add the same parameters in the
/// same order come to the same.
#[derive(Debug)]
pub(super) struct Owners {
    /// By the parameter's name, as [`bare`] leaves it.
    by_name: HashMap<String, usize>,
    /// What each process has so far.
    bytes: Vec<usize>,
}

impl Owners {
    pub(super) fn new(world_size: usize) -> Self {
        Owners {
            by_name: HashMap::new(),
            bytes: vec![0; world_size],
        }
    }

    /// Gives each parameter, the largest first, to the process that has the least.
    pub(super) fn add(&mut self, groups: &[ParamGroup]) -> Result<()> {
        let mut sized = Vec::new();
        for (name, tensor) in groups.iter().flat_map(|group| &group.parameters) {
            let bytes = match tensor.defined() {
                true => tensor.numel() * tensor.f_kind()?.elt_size_in_bytes(),
                false => 0,
            };
            sized.push((bare(name), bytes));
        }
        // Among those of one size the order stays.
        sized.sort_by_key(|(_, bytes)| Reverse(*bytes));
        for (name, bytes) in sized {
            let least = self.bytes.iter().enumerate().min_by_key(|(_, has)| **has);
            let least = least.map_or(0, |(rank, _)| rank);
            let owner = *self.by_name.entry(name.to_owned()).or_insert(least);
            if let Some(has) = self.bytes.get_mut(owner) {
                *has += bytes;
            }
        }
        Ok(())
    }

    pub(super) fn of(&self, name: &str) -> Option<usize> {
        self.by_name.get(bare(name)).copied()
    }

    /// The owner of the parameter that a key of an optimizer's state, `parameter.quantity`, is
    /// about. None where it is about no parameter. An optimizer that holds others may have put
    /// more before the parameter's name.
    pub(super) fn of_key(&self, key: &str) -> Option<usize> {
        let mut rest = Some(bare(key));
        while let Some(from_here) = rest {
            // The longest name first: `layer.weight` rather than `layer`.
            let ends = from_here.rmatch_indices('.');
            let mut names = ends.filter_map(|(end, _)| from_here.get(..end));
            if let Some(owner) = names.find_map(|name| self.by_name.get(name)) {
                return Some(*owner);
            }
            rest = from_here.split_once('.').map(|(_, rest)| rest);
        }
        None
    }
}

/// A name without what a [`Split`](crate::optim::Split) puts before it. Parameters that differ in
/// nothing else have one owner, so that it does not matter which of them a key is about.
fn bare(name: &str) -> &str {
    let mut bare = name;
    while let Some((side, rest)) = bare.split_once('.')
        && SIDES.contains(&side)
    {
        bare = rest;
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    fn group(sizes: &[(&str, i64)]) -> ParamGroup {
        let tensor = |size| Tensor::zeros([size], (Kind::Float, Device::Cpu));
        let parameters = sizes.iter();
        let parameters = parameters.map(|(name, size)| ((*name).to_owned(), tensor(*size)));
        ParamGroup::new("group", parameters.collect())
    }

    fn owners(owners: &Owners, names: &[&str]) -> Vec<Option<usize>> {
        names.iter().map(|name| owners.of(name)).collect()
    }

    #[test]
    fn the_largest_go_to_whom_has_the_least() {
        let mut all = Owners::new(2);
        all.add(&[group(&[("a", 1), ("b", 6), ("c", 4), ("d", 3)])])
            .unwrap();
        // 6 | 4, 3 and the last one to the other: 7 | 7.
        let found = owners(&all, &["b", "c", "d", "a", "e"]);
        assert_eq!(found, [Some(0), Some(1), Some(1), Some(0), None]);
        all.add(&[group(&[("e", 2)]), group(&[("f", 5)])]).unwrap();
        assert_eq!(owners(&all, &["f", "e"]), [Some(0), Some(1)]);
    }

    #[test]
    fn keys_of_a_state() {
        let mut all = Owners::new(3);
        let sizes = [("weight", 3), ("layer.weight", 2), ("layer", 1)];
        all.add(&[group(&sizes)]).unwrap();
        for (key, owner) in [
            ("weight.exp_avg", Some(0)),
            ("layer.weight.exp_avg", Some(1)),
            ("layer.exp_avg", Some(2)),
            ("second.layer.weight.step", Some(1)),
            ("first.second.weight.step", Some(0)),
            ("inner.layer.weight.step", Some(1)),
            ("weight", None),
            ("steps", None),
        ] {
            assert_eq!(all.of_key(key), owner, "{key}");
        }
    }

    #[test]
    fn names_that_a_split_makes_alike_have_one_owner() {
        let mut all = Owners::new(2);
        all.add(&[group(&[("weight", 3), ("first.weight", 3), ("bias", 1)])])
            .unwrap();
        let found = owners(&all, &["weight", "first.weight", "bias"]);
        assert_eq!(found, [Some(0), Some(0), Some(1)]);
    }
}
