//! The terms of a distiller, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::emd::{Emd, Observed};
use super::hard_labels::HardLabels;
use super::matches::Matches;
use super::report::TOTAL_LOSS;
use super::said::{SOME_TERM, absent_teacher};
use super::soft_labels::SoftLabels;
use super::state::{check_group_state, group_state, load_group_state};
use super::supervised::Supervised;
use super::{LossReport, Needs, Said, Term, WeightedLoss};
use crate::config::DistillationConfig;
use crate::error::{Error, Result};
use crate::optim::ParamGroup;
use crate::presets::Presets;
use crate::step::StepInfo;
use crate::weights::{check_restored, state_dict};

/// Terms in the order of their losses: those of the configuration, then the user's own.
pub(super) struct Terms<'a, B> {
    terms: Vec<BoxedTerm<'a, B>>,
    /// How many of them are the crate's, whose errors say where they come from.
    configured: usize,
    projections: VarStore,
    emd: Option<Observed>,
    /// Where the parameters are, for they have to stay.
    places: BTreeMap<String, usize>,
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
            places: BTreeMap::new(),
        })
    }
}

impl<'a, B> Terms<'a, B> {
    /// The losses that the model computes itself.
    pub(super) fn supervised(is_alone: bool) -> Self {
        Terms {
            terms: vec![Box::new(Supervised { is_alone })],
            configured: 1,
            projections: VarStore::new(Device::Cpu),
            emd: None,
            places: BTreeMap::new(),
        }
    }

    /// Adds the user's own; `teachers` is how many there are.
    ///
    /// # Errors
    /// When two terms have one name, or two parameters, of which one may be the student's; a
    /// name that cannot be, or a teacher that is not there.
    pub(super) fn and(
        mut self,
        terms: Vec<BoxedTerm<'a, B>>,
        student: &VarStore,
        teachers: usize,
    ) -> Result<Self> {
        self.terms.extend(terms);
        let mut names = BTreeSet::new();
        let variables = state_dict(student).into_iter();
        let mut parameters: BTreeSet<String> = variables.map(|(name, _)| name).collect();
        for term in &self.terms {
            let wrong = |reason: String| Err(Error::protocol(place(term.name()), reason));
            if term.name().is_empty() || term.name().contains(['.', '/']) {
                return wrong("a name must not be empty, nor have a `.` or `/` in it".to_owned());
            }
            if !names.insert(term.name()) {
                return wrong("there are two of this name; give each a name of its own".to_owned());
            }
            let needs = term.needs();
            let last = needs.teachers.keys().next_back().copied();
            if let Some(teacher) = last.filter(|teacher| *teacher >= teachers) {
                return wrong(absent_teacher(teacher, teachers));
            }
            let groups = term.param_groups();
            for (parameter, tensor) in groups.iter().flat_map(|group| &group.parameters) {
                if !tensor.defined() || !tensor.requires_grad() {
                    return wrong(format!(
                        "its parameter `{parameter}` cannot be trained: it has no gradient; make \
                         it in a `VarStore`, or leave it out of `param_groups`"
                    ));
                }
                if !parameters.insert(parameter.clone()) {
                    return wrong(format!(
                        "its parameter `{parameter}` has the name of another one, of the student \
                         or of a term; give it a name of its own"
                    ));
                }
            }
        }
        self.places = self.places();
        // A state and a parameter of one name.
        self.state()?;
        Ok(self)
    }

    fn places(&self) -> BTreeMap<String, usize> {
        let groups = self.param_groups();
        let parameters = groups.iter().flat_map(|group| &group.parameters);
        let defined = parameters.filter(|(_, tensor)| tensor.defined());
        defined
            .map(|(name, tensor)| (name.clone(), tensor.data_ptr() as usize))
            .collect()
    }

    /// The optimizer trains the parameters that there were at the beginning.
    fn check_places(&self) -> Result<()> {
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

    /// Fails unless there is a term of each of these names.
    pub(super) fn check_names(&self, names: &[&str]) -> Result<()> {
        let is_known = |name: &str| self.terms.iter().any(|term| term.name() == name);
        let Some(unknown) = names.iter().find(|name| !is_known(name)) else {
            return Ok(());
        };
        let known: Vec<&str> = self.terms.iter().map(|term| term.name()).collect();
        let reason = format!("there is none; the terms are {}", known.join(", "));
        Err(Error::protocol(place(unknown), reason))
    }

    pub(super) fn projections(&self) -> &VarStore {
        &self.projections
    }

    pub(super) fn emd(&self) -> Option<&Observed> {
        self.emd.as_ref()
    }

    /// Adds the losses of the terms whose names are wanted.
    pub(super) fn add_to(
        &mut self,
        report: &mut LossReport,
        said: &Said<'_, B>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        for (index, term) in self.terms.iter_mut().enumerate() {
            if !wanted(term.name()) {
                continue;
            }
            let is_users = index >= self.configured;
            let before = report.losses().len();
            let added = term.add_to(report, said);
            added.map_err(|error| of_term(is_users, term.name(), error))?;
            if is_users {
                check_losses(term.name(), report.losses(), before)?;
            }
        }
        Ok(())
    }

    pub(super) fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        if step.global_step == 1 {
            self.check_places()?;
        }
        for (index, term) in self.terms.iter_mut().enumerate() {
            let done = term.after_step(step);
            done.map_err(|error| of_term(index >= self.configured, term.name(), error))?;
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

    /// What each of the user's own says that must be the same, and that it is there.
    pub(super) fn descriptions(&self) -> BTreeMap<String, String> {
        let own = self.terms.iter().skip(self.configured);
        own.map(|term| (format!("term.{}", term.name()), term.description()))
            .collect()
    }

    /// All parameters under their names, and what each term remembers under the term's.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
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

fn place(term: &str) -> String {
    format!("term `{term}`")
}

/// An error of a user's term is understood with its name; those of the crate's say where they
/// come from.
fn of_term(is_users: bool, name: &str, error: Error) -> Error {
    if !is_users {
        return error;
    }
    let mut error = error.at(place(name));
    match &mut error {
        Error::MissingOutput { needed_by: of, .. }
        | Error::LayerOutOfRange { needed_by: of, .. }
        | Error::LayerNotKept { needed_by: of, .. }
        | Error::Protocol { what: of, .. }
            if of == SOME_TERM =>
        {
            *of = place(name);
        }
        _ => {}
    }
    error
}

/// Losses of one name would be one curve, and the total has its own.
fn check_losses(term: &str, losses: &[WeightedLoss], before: usize) -> Result<()> {
    for (index, loss) in losses.iter().enumerate().skip(before) {
        let name = &loss.name;
        let mut earlier = losses.iter().take(index);
        if name == TOTAL_LOSS || earlier.any(|other| other.name == *name) {
            let reason =
                format!("there is a loss `{name}` already; give this one a name of its own");
            return Err(Error::protocol(place(term), reason));
        }
    }
    Ok(())
}

/// Tensors with memory of their own: what a term hands out may be what it loads into.
fn copies(state: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let state = state.iter();
    let copied = state.map(|(name, tensor)| Ok((name.clone(), tensor.f_detach_copy()?)));
    copied.collect()
}

impl<B> fmt::Debug for Terms<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.terms.iter().map(|term| term.name()))
            .finish()
    }
}
