//! The terms of a distiller, as one.

mod checks;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use self::checks::{check_losses, name_of, of_term};
use crate::config::DistillationConfig;
use crate::distiller::emd::{Emd, Observed};
use crate::distiller::hard_labels::HardLabels;
use crate::distiller::matches::Matches;
use crate::distiller::said::absent_teacher;
use crate::distiller::soft_labels::SoftLabels;
use crate::distiller::supervised::Supervised;
use crate::distiller::{LossReport, Needs, Said, Term};
use crate::error::{Error, Result};
use crate::optim::ParamGroup;
use crate::presets::Presets;
use crate::step::StepInfo;
use crate::weights::state_dict;

/// Terms in the order of their losses: those of the configuration, then the user's own.
pub(in crate::distiller) struct Terms<'a, B> {
    terms: Vec<BoxedTerm<'a, B>>,
    /// How many of them are the crate's, whose errors say where they come from.
    configured: usize,
    projections: VarStore,
    emd: Option<Observed>,
    /// Where soft labels sum what has to be known of all processes after an optimizer step.
    step_sums: Option<Tensor>,
    /// The parameters at the beginning, for they have to stay.
    held: BTreeMap<String, Tensor>,
    /// What each of the terms needs.
    needs: Vec<Rc<Needs>>,
    /// What the distiller reads itself.
    distiller_needs: Needs,
    /// Whether the loss on logits is a mean over all positions of an optimizer step by itself.
    is_over_the_step: bool,
}

pub(in crate::distiller) type BoxedTerm<'a, B> = Box<dyn Term<B> + 'a>;

impl<'a, B: 'static> Terms<'a, B> {
    /// Soft labels, matches and hard labels, and EMD, as the configuration asks for them.
    /// Projections are made on `device`; `teachers` is how many a match may choose from.
    pub(in crate::distiller) fn configured(
        config: &DistillationConfig,
        presets: &Presets,
        device: Device,
        teachers: usize,
    ) -> Result<Self> {
        let projections = VarStore::new(device);
        let soft_labels = SoftLabels::new(config, presets, device)?;
        let is_over_the_step = soft_labels.is_over_the_step();
        let step_sums = soft_labels.step_sums();
        let mut terms: Vec<BoxedTerm<'a, B>> = vec![
            Box::new(soft_labels),
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
            step_sums,
            held: BTreeMap::new(),
            needs: Vec::new(),
            distiller_needs: Needs::new(),
            is_over_the_step,
        })
    }
}

impl<'a, B> Terms<'a, B> {
    /// The losses that the model computes itself.
    pub(in crate::distiller) fn supervised(is_alone: bool) -> Self {
        Terms {
            terms: vec![Box::new(Supervised { is_alone })],
            configured: 1,
            projections: VarStore::new(Device::Cpu),
            emd: None,
            step_sums: None,
            held: BTreeMap::new(),
            needs: Vec::new(),
            distiller_needs: Needs::new(),
            is_over_the_step: false,
        }
    }

    pub(in crate::distiller) fn is_over_the_step(&self) -> bool {
        self.is_over_the_step
    }

    /// Adds the user's own; `teachers` is how many there are.
    ///
    /// # Errors
    /// When two terms have one name, or two parameters, of which one may be the student's; a
    /// name that cannot be, or a teacher that is not there.
    pub(in crate::distiller) fn and(
        mut self,
        terms: Vec<BoxedTerm<'a, B>>,
        needs: Needs,
        student: &VarStore,
        teachers: usize,
    ) -> Result<Self> {
        self.terms.extend(terms);
        if let Some(teacher) = absent(&needs, teachers) {
            return Err(Error::protocol("needs", absent_teacher(teacher, teachers)));
        }
        self.distiller_needs = needs;
        let mut names = BTreeSet::new();
        let variables = state_dict(student).into_iter();
        let mut parameters: BTreeSet<String> = variables.map(|(name, _)| name).collect();
        for (index, term) in self.terms.iter().enumerate() {
            let wrong = |reason: String| Err(Error::protocol(name_of(term.name()), reason));
            let is_users = index >= self.configured;
            if term.name().is_empty() || term.name().contains(['.', '/']) {
                return wrong("a name must not be empty, nor have a `.` or `/` in it".to_owned());
            }
            if !names.insert(term.name()) {
                let mut own = self.terms.iter().take(self.configured);
                let reason = match own.any(|own| own.name() == term.name()) {
                    true => "is one of the crate's own; choose another name",
                    false => "there are two of this name; give each a name of its own",
                };
                return wrong(reason.to_owned());
            }
            let needs = term.needs();
            if let Some(teacher) = absent(&needs, teachers) {
                return wrong(absent_teacher(teacher, teachers));
            }
            self.needs.push(Rc::new(needs));
            let groups = term.param_groups();
            for (parameter, tensor) in groups.iter().flat_map(|group| &group.parameters) {
                let can_be = || tensor.requires_grad() && tensor.is_leaf();
                if is_users && !(tensor.defined() && can_be()) {
                    return wrong(format!(
                        "its parameter `{parameter}` cannot be trained: it has no gradient of its \
                         own; make it in a `VarStore`, or leave it out of `param_groups`"
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
        self.held = self.parameters();
        // A state and a parameter of one name.
        self.state()?;
        Ok(self)
    }

    /// Fails unless there is a term of each of these names.
    pub(in crate::distiller) fn check_names(&self, names: &[&str]) -> Result<()> {
        let is_known = |name: &str| self.terms.iter().any(|term| term.name() == name);
        let Some(unknown) = names.iter().find(|name| !is_known(name)) else {
            return Ok(());
        };
        let known: Vec<&str> = self.terms.iter().map(|term| term.name()).collect();
        let reason = format!("there is none; the terms are {}", known.join(", "));
        Err(Error::protocol(name_of(unknown), reason))
    }

    pub(in crate::distiller) fn projections(&self) -> &VarStore {
        &self.projections
    }

    pub(in crate::distiller) fn emd(&self) -> Option<&Observed> {
        self.emd.as_ref()
    }

    /// What is summed over the batches of an optimizer step.
    pub(in crate::distiller) fn step_sums(&self) -> Option<Tensor> {
        self.step_sums.as_ref().map(Tensor::shallow_clone)
    }

    /// Adds the losses of the terms whose names are wanted.
    pub(in crate::distiller) fn add_to(
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
            let seen_before = report.observations().len();
            let needs = self.needs.get(index);
            let _needs = needs.map(|needs| said.limited_to(needs));
            let mut add = || {
                term.add_to(report, said)?;
                match is_users {
                    true => {
                        check_losses(report.losses(), before)?;
                        report.check_observations(seen_before)
                    }
                    false => Ok(()),
                }
            };
            add().map_err(|error| of_term(is_users, term.name(), error))?;
        }
        Ok(())
    }

    pub(in crate::distiller) fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        if step.global_step == 1 {
            self.check_parameters()?;
        }
        for (index, term) in self.terms.iter_mut().enumerate() {
            let done = term.after_step(step);
            done.map_err(|error| of_term(index >= self.configured, term.name(), error))?;
        }
        Ok(())
    }

    pub(in crate::distiller) fn needs(&self) -> Needs {
        let needs = self.needs.iter().map(|needs| Needs::clone(needs));
        needs.fold(self.distiller_needs.clone(), Needs::and)
    }

    /// The first that needs layers of a teacher.
    pub(in crate::distiller) fn needs_teacher_layers(&self) -> Option<&str> {
        let mut terms = self.terms.iter().zip(&self.needs);
        let term = terms.find(|(_, needs)| !needs.teachers.is_empty());
        let term = term.map(|(term, _)| term.name());
        term.or((!self.distiller_needs.teachers.is_empty()).then_some("the distiller"))
    }

    /// Calls `check` with the name of each term and what it needs.
    pub(in crate::distiller) fn each_needs(
        &self,
        check: impl Fn(&str, &Needs) -> Result<()>,
    ) -> Result<()> {
        let terms = self.terms.iter().zip(&self.needs);
        for (term, needs) in terms {
            check(term.name(), needs)?;
        }
        check("the distiller", &self.distiller_needs)
    }

    pub(in crate::distiller) fn param_groups(&self) -> Vec<ParamGroup> {
        self.terms
            .iter()
            .flat_map(|term| term.param_groups())
            .collect()
    }

    /// What each of the user's own says that must be the same, and that it is there.
    pub(in crate::distiller) fn descriptions(&self) -> BTreeMap<String, String> {
        let own = self.terms.iter().skip(self.configured);
        own.map(|term| (format!("term.{}", term.name()), term.description()))
            .collect()
    }
}

/// The last teacher that is needed and not there.
fn absent(needs: &Needs, teachers: usize) -> Option<usize> {
    let last = needs.teachers.keys().next_back().copied();
    last.filter(|teacher| *teacher >= teachers)
}

impl<B> fmt::Debug for Terms<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.terms.iter().map(|term| term.name()))
            .finish()
    }
}
