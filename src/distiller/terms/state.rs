//! What a run trains and keeps of its terms.

use std::collections::BTreeMap;

use tch::Tensor;

use super::Terms;
use super::checks::place;
use crate::distiller::state::{check_group_state, group_state, load_group_state};
use crate::error::{Error, Result};
use crate::weights::check_restored;

impl<B> Terms<'_, B> {
    pub(super) fn places(&self) -> BTreeMap<String, usize> {
        let groups = self.param_groups();
        let parameters = groups.iter().flat_map(|group| &group.parameters);
        let defined = parameters.filter(|(_, tensor)| tensor.defined());
        defined
            .map(|(name, tensor)| (name.clone(), tensor.data_ptr() as usize))
            .collect()
    }

    /// The optimizer trains the parameters that there were at the beginning.
    pub(super) fn check_places(&self) -> Result<()> {
        let now = self.places();
        if now == self.places {
            return Ok(());
        }
        let moved = |(name, place): &(&String, &usize)| now.get(*name) != Some(*place);
        let name = self.places.iter().find(moved).map(|(name, _)| name);
        let name = name.or_else(|| now.keys().find(|name| !self.places.contains_key(*name)));
        let reason = format!(
            "`{}` is not there from the beginning to the end, or another tensor; `param_groups` \
             has to return the same tensors each time",
            name.map_or("", String::as_str)
        );
        Err(Error::protocol("parameters of terms", reason))
    }

    /// All parameters under their names, and what each term remembers under the term's.
    pub(in crate::distiller) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.check_places()?;
        let mut state = group_state(&self.param_groups());
        for term in &self.terms {
            for (key, tensor) in term.state()? {
                let name = format!("{}.{key}", term.name());
                if state.insert(name.clone(), tensor).is_some() {
                    let reason = format!("its state and a parameter are both called `{name}`");
                    return Err(Error::protocol(place(term.name()), reason));
                }
            }
        }
        Ok(state)
    }

    /// Puts back what [`state`](Self::state) gave; when it fails, nothing is changed.
    pub(in crate::distiller) fn load_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let groups = self.param_groups();
        let known = group_state(&groups);
        let mut parameters = BTreeMap::new();
        let mut of_terms: Vec<_> = self.terms.iter().map(|_| BTreeMap::new()).collect();
        for (name, tensor) in state {
            let tensor = tensor.shallow_clone();
            let owner = match known.contains_key(name) {
                true => None,
                false => self.owner_of(name),
            };
            match owner.and_then(|(index, key)| Some((of_terms.get_mut(index)?, key))) {
                Some((of_term, key)) => of_term.insert(key.to_owned(), tensor),
                // Of no term: reported as unexpected.
                None => parameters.insert(name.clone(), tensor),
            };
        }
        check_group_state(&groups, &parameters)?;
        let before = self.terms.iter().map(|term| copies(&term.state()?));
        let before: Vec<_> = before.collect::<Result<_>>()?;
        for (index, state) in of_terms.iter().enumerate() {
            if let Err(error) = self.load_term(index, state) {
                // The first error is what matters, whatever this comes to.
                for (term, state) in self.terms.iter_mut().zip(&before).take(index + 1) {
                    let _ = term.load_state(state);
                }
                return Err(error);
            }
        }
        load_group_state(&groups, &parameters)
    }

    fn load_term(&mut self, index: usize, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let is_users = index >= self.configured;
        let Some(term) = self.terms.get_mut(index) else {
            return Ok(()); // cannot be: there is a state for each
        };
        // The term may keep what it gets and write into it.
        let given = copies(state)?;
        let loaded = term.load_state(&given);
        let loaded = loaded.and_then(|()| check_restored(state, &term.state()?));
        loaded.map_err(|error| match is_users {
            true => Error::Term {
                term: term.name().to_owned(),
                source: Box::new(error),
            },
            false => error,
        })
    }

    /// The term that a name in the state belongs to, and what the term calls it.
    fn owner_of<'n>(&self, name: &'n str) -> Option<(usize, &'n str)> {
        let (of, key) = name.split_once('.')?;
        let index = self.terms.iter().position(|term| term.name() == of)?;
        Some((index, key))
    }
}

/// Tensors with memory of their own: what a term hands out may be what it loads into.
fn copies(state: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let state = state.iter();
    let copied = state.map(|(name, tensor)| Ok((name.clone(), tensor.f_detach_copy()?)));
    copied.collect()
}
