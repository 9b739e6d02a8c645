//! What a run trains and keeps of its terms.

use std::collections::BTreeMap;

use tch::Tensor;

use super::Terms;
use super::checks::{name_of, of_term};
use crate::distiller::state::{check_group_state, group_state, load_group_state};
use crate::error::{Error, Result};
use crate::weights::check_restored;

impl<B> Terms<'_, B> {
    pub(super) fn parameters(&self) -> BTreeMap<String, Tensor> {
        group_state(&self.param_groups())
    }

    /// The optimizer trains the parameters that there were at the beginning.
    pub(super) fn check_parameters(&self) -> Result<()> {
        let now = self.parameters();
        let is_held = |name: &String, tensor: &Tensor| {
            let held = self.held.get(name);
            held.is_some_and(|held| tensor.defined() && held.data_ptr() == tensor.data_ptr())
        };
        let other = now.iter().find(|(name, tensor)| !is_held(name, tensor));
        let gone = || self.held.keys().find(|name| !now.contains_key(*name));
        let Some(name) = other.map(|(name, _)| name).or_else(gone) else {
            return Ok(());
        };
        let reason = format!(
            "`{name}` is not there from the beginning to the end, or is another tensor; \
             `param_groups` has to return the same tensors each time"
        );
        Err(Error::protocol("parameters of terms", reason))
    }

    /// All parameters under their names, and what each term remembers under the term's.
    pub(in crate::distiller) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.check_parameters()?;
        let mut state = self.parameters();
        for (index, term) in self.terms.iter().enumerate() {
            for (key, tensor) in self.state_of(index)? {
                let name = format!("{}.{key}", term.name());
                if state.insert(name.clone(), tensor).is_some() {
                    let reason = format!(
                        "its state and a parameter are both called `{name}`; rename one of them"
                    );
                    return Err(Error::protocol(name_of(term.name()), reason));
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
        let before = (0..self.terms.len()).map(|index| copies(&self.state_of(index)?));
        let before: Vec<_> = before.collect::<Result<_>>()?;
        if let Err(error) = self.load_terms(&of_terms, &before) {
            // The first error is what matters, whatever this comes to.
            for (term, state) in self.terms.iter_mut().zip(&before) {
                let _ = term.load_state(state);
            }
            return Err(error);
        }
        load_group_state(&groups, &parameters)
    }

    fn state_of(&self, index: usize) -> Result<BTreeMap<String, Tensor>> {
        let Some(term) = self.terms.get(index) else {
            return Ok(BTreeMap::new()); // cannot be: indices are those of the terms
        };
        let state = term.state();
        state.map_err(|error| of_term(index >= self.configured, term.name(), error))
    }

    fn load_terms(
        &mut self,
        of_terms: &[BTreeMap<String, Tensor>],
        before: &[BTreeMap<String, Tensor>],
    ) -> Result<()> {
        for (index, (state, before)) in of_terms.iter().zip(before).enumerate() {
            self.load_term(index, state, before)?;
        }
        self.check_parameters()
    }

    fn load_term(
        &mut self,
        index: usize,
        state: &BTreeMap<String, Tensor>,
        before: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let is_users = index >= self.configured;
        let Some(term) = self.terms.get_mut(index) else {
            return Ok(()); // cannot be: there is a state for each
        };
        // The term may keep what it gets and write into it.
        let given = copies(state)?;
        let loaded = term.load_state(&given);
        let loaded = loaded.and_then(|()| check_restored(state, before, &term.state()?));
        loaded.map_err(|error| of_term(is_users, term.name(), error))
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
