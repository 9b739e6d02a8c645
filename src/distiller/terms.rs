//! The terms of a distiller, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::emd::{Emd, Observed};
use super::hard_labels::HardLabels;
use super::matches::Matches;
use super::soft_labels::SoftLabels;
use super::state::{check_group_state, group_state, load_group_state};
use super::supervised::Supervised;
use super::{Needs, Term};
use crate::config::DistillationConfig;
use crate::error::{Error, Result};
use crate::optim::ParamGroup;
use crate::presets::Presets;
use crate::step::StepInfo;
use crate::weights::state_dict;

/// Terms in the order of their losses: those of the configuration, then the user's own.
pub(super) struct Terms<'a, B> {
    terms: Vec<BoxedTerm<'a, B>>,
    /// How many of them are the crate's, whose errors say where they come from.
    configured: usize,
    projections: VarStore,
    emd: Option<Observed>,
}

pub(super) type BoxedTerm<'a, B> = Box<dyn Term<B> + 'a>;

impl<'a, B: 'static> Terms<'a, B> {
    /// Soft labels, matches and hard labels, and EMD, as the configuration asks for them.
    /// Projections are made on `device`; `teachers` is how many a match may choose from.
    pub(super) fn configured(
        config: &DistillationConfig,
        presets: &Presets,
        device: Device,
        teachers: usize,
    ) -> Result<Self> {
        let projections = VarStore::new(device);
        let mut terms: Vec<BoxedTerm<'a, B>> = vec![
            Box::new(SoftLabels::new(config, presets)?),
            Box::new(Matches::new(config, presets, &projections, teachers)?),
            Box::new(HardLabels::new(config, presets)?),
        ];
        let mut observed = None;
        if let Some(emd) = &config.emd {
            let emd = Emd::new(emd, presets, &projections)?;
            observed = Some(emd.observed());
            terms.push(Box::new(emd));
        }
        Ok(Terms {
            configured: terms.len(),
            terms,
            projections,
            emd: observed,
        })
    }
}

impl<'a, B> Terms<'a, B> {
    /// The losses that the model computes itself.
    pub(super) fn supervised() -> Self {
        Terms {
            terms: vec![Box::new(Supervised)],
            configured: 1,
            projections: VarStore::new(Device::Cpu),
            emd: None,
        }
    }

    /// Adds the user's own.
    ///
    /// # Errors
    /// When two terms have one name, or two parameters, of which one may be the student's.
    pub(super) fn and(mut self, terms: Vec<BoxedTerm<'a, B>>, student: &VarStore) -> Result<Self> {
        self.terms.extend(terms);
        let mut names = BTreeSet::new();
        let mut parameters: BTreeSet<String> = state_dict(student)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for term in &self.terms {
            let place = || format!("term `{}`", term.name());
            if !names.insert(term.name()) {
                let reason = "there are two of this name; give each a name of its own";
                return Err(Error::protocol(place(), reason));
            }
            for (parameter, _) in term
                .param_groups()
                .iter()
                .flat_map(|group| &group.parameters)
            {
                if !parameters.insert(parameter.clone()) {
                    let reason = format!(
                        "its parameter `{parameter}` has the name of another one, of the student \
                         or of a term; give it a name of its own"
                    );
                    return Err(Error::protocol(place(), reason));
                }
            }
        }
        Ok(self)
    }

    pub(super) fn projections(&self) -> &VarStore {
        &self.projections
    }

    pub(super) fn emd(&self) -> Option<&Observed> {
        self.emd.as_ref()
    }

    /// Adds the losses of all.
    pub(super) fn add_to(
        &mut self,
        report: &mut super::LossReport,
        said: &super::Said<'_, B>,
    ) -> Result<()> {
        for (index, term) in self.terms.iter_mut().enumerate() {
            let added = term.add_to(report, said);
            added.map_err(|error| at(index >= self.configured, term.as_ref(), error))?;
        }
        Ok(())
    }

    pub(super) fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        for (index, term) in self.terms.iter_mut().enumerate() {
            let done = term.after_step(step);
            done.map_err(|error| at(index >= self.configured, term.as_ref(), error))?;
        }
        Ok(())
    }

    pub(super) fn needs(&self) -> Needs {
        let needs = self.terms.iter().map(|term| term.needs());
        needs.fold(Needs::new(), Needs::and)
    }

    /// The first that needs layers of a teacher.
    pub(super) fn needs_teacher_layers(&self) -> Option<&str> {
        let needs_layers = |term: &&BoxedTerm<'a, B>| !term.needs().teachers.is_empty();
        Some(self.terms.iter().find(needs_layers)?.name())
    }

    pub(super) fn param_groups(&self) -> Vec<ParamGroup> {
        self.terms
            .iter()
            .flat_map(|term| term.param_groups())
            .collect()
    }

    pub(super) fn descriptions(&self) -> BTreeMap<String, String> {
        let described = self
            .terms
            .iter()
            .map(|term| (term.name(), term.description()));
        described
            .filter(|(_, description)| !description.is_empty())
            .map(|(name, description)| (format!("term.{name}"), description))
            .collect()
    }

    /// All parameters under their names, and what each term remembers under the term's.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = group_state(&self.param_groups());
        for term in &self.terms {
            for (key, tensor) in term.state()? {
                let name = format!("{}.{key}", term.name());
                if state.insert(name.clone(), tensor).is_some() {
                    let reason = format!("its state and a parameter are both called `{name}`");
                    return Err(Error::protocol(format!("term `{}`", term.name()), reason));
                }
            }
        }
        Ok(state)
    }

    /// Puts back what [`state`](Self::state) gave; when it fails, nothing is changed.
    pub(super) fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
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
        let before: Vec<_> = self
            .terms
            .iter()
            .map(|term| term.state())
            .collect::<Result<_>>()?;
        for (index, state) in of_terms.into_iter().enumerate() {
            let Some(term) = self.terms.get_mut(index) else {
                continue; // cannot be: there is a state for each
            };
            if let Err(error) = term.load_state(state) {
                for (term, state) in self.terms.iter_mut().zip(before).take(index) {
                    term.load_state(state)?;
                }
                return Err(error);
            }
        }
        load_group_state(&groups, &parameters)
    }

    /// The term that a name in the state belongs to, and what the term calls it.
    fn owner_of<'n>(&self, name: &'n str) -> Option<(usize, &'n str)> {
        let terms = self.terms.iter().enumerate();
        let owners = terms.filter_map(|(index, term)| {
            let key = name.strip_prefix(term.name())?.strip_prefix('.')?;
            Some((index, key))
        });
        // Of `a` and `a.b` the longer name.
        owners.min_by_key(|(_, key)| key.len())
    }
}

fn at<B>(is_users: bool, term: &(dyn Term<B> + '_), error: Error) -> Error {
    match is_users {
        true => error.at(format!("term `{}`", term.name())),
        false => error,
    }
}

impl<B> fmt::Debug for Terms<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.terms.iter().map(|term| term.name()))
            .finish()
    }
}
