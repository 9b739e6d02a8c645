//! The hooks of a run.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::Hook;
use super::hook::AfterStep;
use crate::error::{Error, Result};
use crate::logging;
use crate::step::StepInfo;
use crate::weights::check_restored;

/// Stands between a hook's name and a tensor's in a checkpoint.
const SEPARATOR: char = '/';

/// The hooks and closures of a run, in their order.
pub(super) struct Hooks<'a, S: ?Sized> {
    all: Vec<AfterStep<'a, S>>,
}

impl<'a, S: ?Sized> Hooks<'a, S> {
    /// Fails if the names of hooks do not tell them apart.
    pub(super) fn new(all: Vec<AfterStep<'a, S>>) -> Result<Self> {
        let hooks = Hooks { all };
        let mut names = BTreeSet::new();
        for hook in hooks.with_state() {
            let name = hook.name();
            if name.is_empty() || name.contains(SEPARATOR) {
                let reason = format!("the name `{name}` is empty or has a `{SEPARATOR}` in it");
                return Err(Error::protocol("hook", reason));
            }
            if !names.insert(name) {
                let reason = format!(
                    "two are called `{name}`; give each a name of its own, by which its state \
                     is saved"
                );
                return Err(Error::protocol("hook", reason));
            }
        }
        Ok(hooks)
    }

    /// The hooks without the closures.
    fn with_state(&self) -> impl Iterator<Item = &(dyn Hook<S> + 'a)> {
        self.all.iter().filter_map(|one| match one {
            AfterStep::Hook(hook) => Some(hook.as_ref()),
            AfterStep::Closure(_) => None,
        })
    }

    fn with_state_mut(&mut self) -> impl Iterator<Item = &mut (dyn Hook<S> + 'a)> {
        self.all.iter_mut().filter_map(|one| match one {
            AfterStep::Hook(hook) => Some(hook.as_mut()),
            AfterStep::Closure(_) => None,
        })
    }

    /// The names of the hooks; closures have none.
    pub(super) fn names(&self) -> Vec<String> {
        self.with_state()
            .map(|hook| hook.name().to_owned())
            .collect()
    }

    /// Runs all hooks and closures after an optimizer step.
    pub(super) fn after_step(&mut self, student: &S, step: &StepInfo) -> Result<()> {
        let mut closures = 0;
        for one in &mut self.all {
            match one {
                AfterStep::Hook(hook) => {
                    let done = hook.after_step(student, step);
                    done.map_err(|error| failed(hook.name(), step.global_step, error))?;
                }
                AfterStep::Closure(closure) => {
                    closures += 1;
                    closure(student, step).map_err(|error| {
                        let name = format!("after_step {closures}");
                        failed(&name, step.global_step, error)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The states of all hooks, under the hooks' names.
    pub(super) fn state(&self, step: u64) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        for hook in self.with_state() {
            let state = hook.state();
            let state = state.map_err(|error| failed(hook.name(), step, error))?;
            let prefix = prefix(hook.name());
            let named = state.into_iter();
            all.extend(named.map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
        }
        Ok(all)
    }

    /// Restores what [`state`](Self::state) returned after `step`. Each hook must have the same
    /// state afterwards: one that only saves it would lose it without a word.
    pub(super) fn load_state(&mut self, all: &BTreeMap<String, Tensor>, step: u64) -> Result<()> {
        for hook in self.with_state_mut() {
            let loaded = load(hook, all);
            loaded.map_err(|error| failed(hook.name(), step, error))?;
        }
        Ok(())
    }

    /// Gives every hook the state back that it had before a resume that is refused. One that
    /// fails keeps none of the others from theirs.
    pub(super) fn put_back(&mut self, all: &BTreeMap<String, Tensor>) {
        for hook in self.with_state_mut() {
            if let Err(error) = load(hook, all) {
                logging::warn(format_args!(
                    "hook `{}` keeps what was loaded: {error}",
                    hook.name()
                ));
            }
        }
    }
}

fn prefix(hook: &str) -> String {
    format!("{hook}{SEPARATOR}")
}

fn failed(hook: &str, step: u64, error: Error) -> Error {
    Error::Hook {
        hook: hook.to_owned(),
        step,
        source: Box::new(error),
    }
}

fn load<S: ?Sized>(hook: &mut dyn Hook<S>, all: &BTreeMap<String, Tensor>) -> Result<()> {
    let prefix = prefix(hook.name());
    let own = all
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor)));
    // The hook may keep what it gets and write into it.
    let copied = |tensor: &Tensor| tensor.f_detach_copy();
    let given = own
        .clone()
        .map(|(name, tensor)| Ok((name, copied(tensor)?)));
    let before = hook.state()?;
    hook.load_state(&given.collect::<Result<_>>()?)?;
    let saved = own.map(|(name, tensor)| (name, tensor.shallow_clone()));
    check_restored(&saved.collect(), &before, &hook.state()?)
}
