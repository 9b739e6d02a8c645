//! The hooks of a run.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::Hook;
use crate::error::{Error, Result, shown};
use crate::step::StepInfo;
use crate::weights::kind_and_shape;

/// Stands between a hook's name and a tensor's in a checkpoint.
const SEPARATOR: char = '/';

/// The hooks of a run, in their order.
pub(super) struct Hooks<'a, S: ?Sized> {
    hooks: Vec<Box<dyn Hook<S> + 'a>>,
}

impl<'a, S: ?Sized> Hooks<'a, S> {
    /// Fails if the names of hooks do not tell them apart.
    pub(super) fn new(hooks: Vec<Box<dyn Hook<S> + 'a>>) -> Result<Self> {
        let mut names = BTreeSet::new();
        for hook in &hooks {
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
        Ok(Hooks { hooks })
    }

    pub(super) fn names(&self) -> Vec<String> {
        let names = self.hooks.iter().map(|hook| hook.name().to_owned());
        names.collect()
    }

    /// Runs all hooks after an optimizer step.
    pub(super) fn after_step(&mut self, student: &S, step: &StepInfo) -> Result<()> {
        for hook in &mut self.hooks {
            let done = hook.after_step(student, step);
            done.map_err(|error| failed(hook.as_ref(), step.global_step, error))?;
        }
        Ok(())
    }

    /// The states of all hooks, under the hooks' names.
    pub(super) fn state(&self, step: u64) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        for hook in &self.hooks {
            let state = hook.state();
            let state = state.map_err(|error| failed(hook.as_ref(), step, error))?;
            let prefix = prefix(hook.as_ref());
            let named = state.into_iter();
            all.extend(named.map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
        }
        Ok(all)
    }

    /// Restores what [`state`](Self::state) returned after `step`. Each hook must have the same
    /// state afterwards: one that only saves it would lose it without a word.
    pub(super) fn load_state(&mut self, all: &BTreeMap<String, Tensor>, step: u64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for hook in &mut self.hooks {
            let loaded = load(hook.as_mut(), all);
            loaded.map_err(|error| failed(hook.as_ref(), step, error))?;
        }
        Ok(())
    }
}

fn prefix<S: ?Sized>(hook: &dyn Hook<S>) -> String {
    format!("{}{SEPARATOR}", hook.name())
}

fn failed<S: ?Sized>(hook: &dyn Hook<S>, step: u64, error: Error) -> Error {
    Error::Hook {
        hook: hook.name().to_owned(),
        step,
        source: Box::new(error),
    }
}

fn load<S: ?Sized>(hook: &mut dyn Hook<S>, all: &BTreeMap<String, Tensor>) -> Result<()> {
    let prefix = prefix(hook);
    let own = || {
        let named = all.iter();
        named.filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)))
    };
    let copies = own().map(|(name, tensor)| Ok((name.to_owned(), tensor.f_detach_copy()?)));
    hook.load_state(copies.collect::<Result<_>>()?)?;
    let mut now = hook.state()?;
    for (name, saved) in own() {
        check_restored(name, saved, now.remove(name))?;
    }
    match now.keys().next() {
        Some(name) => Err(not_restored(name, "was not saved")),
        None => Ok(()),
    }
}

fn check_restored(name: &str, saved: &Tensor, now: Option<Tensor>) -> Result<()> {
    let Some(now) = now else {
        return Err(not_restored(name, "is missing"));
    };
    let (before, after) = (kind_and_shape(saved)?, kind_and_shape(&now)?);
    if before != after {
        return Err(not_restored(name, &format!("is {after}, not {before}")));
    }
    let now = now.f_to_device(saved.device())?;
    match saved.f_allclose(&now, 0.0, 0.0, true)? {
        true => Ok(()),
        false => Err(not_restored(name, "has other values")),
    }
}

fn not_restored(name: &str, what: &str) -> Error {
    Error::other(format!(
        "its state is not the saved one after `load_state`: `{}` {what}; let `load_state` restore \
         every tensor that `state` returns",
        shown(name)
    ))
}
