//! What all optimizers share: their groups, and what they remember of each parameter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tch::{no_grad_guard, COptimizer, Kind, Tensor};

use crate::error::Context;
use crate::{Error, Result};

use super::hyper::{resolve, Hyper};
use super::{GroupOptions, Optimizer, ParamGroup};

/// What is remembered of one parameter.
#[derive(Debug)]
pub(super) struct Memory {
    /// Steps that changed it so far.
    pub(super) steps: u64,
    /// One tensor like the parameter for each of the rule's quantities.
    pub(super) buffers: Vec<Tensor>,
}

/// How one optimizer differs from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The names of the buffers.
    pub(super) quantities: &'static [&'static str],
    /// Whether a group with these numbers needs a memory at all.
    pub(super) remembers: fn(&Hyper) -> bool,
    /// Changes a parameter by its gradient. The learning rate is that of this step, and
    /// the memory, if there is one, has counted it already.
    pub(super) update: fn(&Hyper, &mut Tensor, &Tensor, Option<&mut Memory>) -> Result<()>,
}

/// The count of steps is saved beside the buffers.
const STEP: &str = "step";

#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) defaults: GroupOptions,
    rule: Rule,
    groups: Vec<ParamGroup>,
    /// For each group its numbers, and a memory for each of its parameters.
    kept: Vec<(Hyper, Vec<Option<Memory>>)>,
    /// The group of each name, and the name at each address, to refuse duplicates.
    names: HashMap<String, String>,
    addresses: HashMap<usize, String>,
    /// Never takes a step. tch can only zero a gradient; libtorch's own optimizers can
    /// remove it, which is what makes a parameter without gradient be skipped.
    eraser: Option<COptimizer>,
}

impl Grouped {
    /// `defaults` has a value for exactly those options that the rule uses.
    pub(super) fn new(rule: Rule, defaults: GroupOptions) -> Self {
        Grouped {
            defaults,
            rule,
            groups: Vec::new(),
            kept: Vec::new(),
            names: HashMap::new(),
            addresses: HashMap::new(),
            eraser: None,
        }
    }

    /// Before any parameter changes.
    fn check_gradients(&self) -> Result<()> {
        for group in &self.groups {
            for (name, parameter) in &group.parameters {
                let gradient = parameter.f_grad()?;
                if gradient.defined() && gradient.is_sparse() {
                    let field = format!("optimizer step, group `{}`, `{name}`", group.name);
                    let reason = "has a sparse gradient, which this optimizer does not support; \
                                  make its embedding with `sparse: false`";
                    return Err(Error::config(field, reason));
                }
            }
        }
        Ok(())
    }

    /// Every parameter's name, itself and its memory.
    fn remembered(&self) -> impl Iterator<Item = (&str, &Tensor, Option<&Memory>)> {
        let memories = self.kept.iter().flat_map(|(_, memories)| memories);
        let parameters = self.groups.iter().flat_map(|group| &group.parameters);
        parameters
            .zip(memories)
            .map(|((name, tensor), memory)| (name.as_str(), tensor, memory.as_ref()))
    }
}

impl Optimizer for Grouped {
    fn add_group(&mut self, mut group: ParamGroup) -> Result<()> {
        let (options, hyper) = resolve(&group, &self.defaults)?;
        // Copies, so that a refused group changes nothing.
        let mut names = self.names.clone();
        let mut addresses = self.addresses.clone();
        for (name, tensor) in &group.parameters {
            let refuse = |reason: String| {
                let field = format!("optimizer group `{}`: `{name}`", group.name);
                Err(Error::config(field, reason))
            };
            if let Some(other) = names.insert(name.clone(), group.name.clone()) {
                return refuse(format!(
                    "a parameter of this name is in group `{other}` already"
                ));
            }
            if !tensor.defined() || tensor.is_sparse() || tensor.is_mkldnn() {
                return refuse("is not an ordinary dense tensor".into());
            }
            if !tensor.f_is_leaf()? {
                return refuse(
                    "is the result of a computation; only variables can be optimized".into(),
                );
            }
            // Tensors without elements share the null address.
            if tensor.numel() > 0 {
                let address = tensor.data_ptr() as usize;
                if let Some(other) = addresses.insert(address, name.clone()) {
                    return refuse(format!("is the same tensor as `{other}`, list it once"));
                }
            }
        }
        let eraser = match &mut self.eraser {
            Some(eraser) => eraser,
            none => none.insert(COptimizer::sgd(0.0, 0.0, 0.0, 0.0, false)?),
        };
        for tensor in group.tensors() {
            eraser.add_parameters(tensor, 0)?;
        }
        let memories = group.parameters.iter().map(|_| None).collect();
        group.options = options;
        self.names = names;
        self.addresses = addresses;
        self.kept.push((hyper, memories));
        self.groups.push(group);
        Ok(())
    }

    fn groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    fn zero_grad(&mut self) -> Result<()> {
        match &self.eraser {
            Some(eraser) => Ok(eraser.zero_grad()?),
            None => Ok(()),
        }
    }

    fn step(&mut self, learning_rate_factor: f64) -> Result<()> {
        if !learning_rate_factor.is_finite() {
            return Err(Error::config(
                "learning rate",
                format!("the schedule's factor is {learning_rate_factor}, not a finite number"),
            ));
        }
        let _guard = no_grad_guard();
        self.check_gradients()?;
        for (group, (hyper, memories)) in self.groups.iter_mut().zip(&mut self.kept) {
            let hyper = Hyper {
                learning_rate: hyper.learning_rate * learning_rate_factor,
                ..*hyper
            };
            for ((name, parameter), memory) in group.parameters.iter_mut().zip(memories) {
                let gradient = parameter.f_grad()?;
                if !gradient.defined() {
                    continue;
                }
                let place = || format!("optimizer step, group `{}`, `{name}`", group.name);
                if (self.rule.remembers)(&hyper) {
                    let memory = match memory {
                        Some(memory) => memory,
                        None => memory.insert(fresh(parameter, self.rule).context(place)?),
                    };
                    memory.steps += 1;
                    (self.rule.update)(&hyper, parameter, &gradient, Some(memory))
                } else {
                    (self.rule.update)(&hyper, parameter, &gradient, None)
                }
                .context(place)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let _guard = no_grad_guard();
        let mut state = BTreeMap::new();
        for (name, _, memory) in self.remembered() {
            let Some(memory) = memory else { continue };
            let steps = i64::try_from(memory.steps).unwrap_or(i64::MAX);
            state.insert(format!("{name}.{STEP}"), Tensor::from(steps));
            for (quantity, buffer) in self.rule.quantities.iter().zip(&memory.buffers) {
                state.insert(format!("{name}.{quantity}"), copy(buffer)?);
            }
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let _guard = no_grad_guard();
        let mut differences = Vec::new();
        let mut unknown: BTreeSet<&str> = state.keys().map(String::as_str).collect();
        let mut loaded = Vec::new();
        for (name, parameter, _) in self.remembered() {
            let step_key = format!("{name}.{STEP}");
            let keys: Vec<_> = self
                .rule
                .quantities
                .iter()
                .map(|q| format!("{name}.{q}"))
                .collect();
            let all = || keys.iter().chain([&step_key]);
            if !all().any(|key| state.contains_key(key)) {
                loaded.push(None);
                continue;
            }
            for key in all() {
                unknown.remove(key.as_str());
            }
            let steps = find(state, &step_key, &mut differences).and_then(|tensor| {
                let steps = count(tensor);
                if steps.is_none() {
                    differences.push(format!(
                        "`{step_key}` is not one whole number of type Int64"
                    ));
                }
                steps
            });
            let mut memory = fresh(parameter, self.rule)?;
            memory.steps = steps.unwrap_or_default();
            for (key, buffer) in keys.iter().zip(&mut memory.buffers) {
                let Some(tensor) = find(state, key, &mut differences) else {
                    continue;
                };
                let (expected, got) = (describe(buffer)?, describe(tensor)?);
                if expected == got {
                    buffer.f_copy_(tensor)?;
                } else {
                    differences.push(format!("`{key}`: expected {expected}, got {got}"));
                }
            }
            loaded.push(Some(memory));
        }
        for key in unknown {
            differences.push(format!("`{key}` belongs to no parameter of this optimizer"));
        }
        if !differences.is_empty() {
            return Err(Error::WeightsMismatch {
                origin: "the optimizer's state".to_owned(),
                differences,
            });
        }
        let memories = self.kept.iter_mut().flat_map(|(_, memories)| memories);
        for (memory, loaded) in memories.zip(loaded) {
            *memory = loaded;
        }
        Ok(())
    }
}

fn fresh(parameter: &Tensor, rule: Rule) -> Result<Memory> {
    let buffers = rule.quantities.iter().map(|_| parameter.f_zeros_like());
    Ok(Memory {
        steps: 0,
        buffers: buffers.collect::<std::result::Result<_, _>>()?,
    })
}

fn copy(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

fn find<'a>(
    state: &'a BTreeMap<String, Tensor>,
    key: &str,
    differences: &mut Vec<String>,
) -> Option<&'a Tensor> {
    let tensor = state.get(key);
    match tensor {
        Some(tensor) if tensor.defined() => Some(tensor),
        _ => {
            differences.push(format!("`{key}` is missing"));
            None
        }
    }
}

fn count(tensor: &Tensor) -> Option<u64> {
    if tensor.f_kind().ok()? != Kind::Int64 || tensor.numel() != 1 {
        return None;
    }
    let flat = tensor.f_reshape([1]).ok()?;
    u64::try_from(flat.f_int64_value(&[0]).ok()?).ok()
}

fn describe(tensor: &Tensor) -> Result<String> {
    Ok(format!("{:?} {:?}", tensor.f_kind()?, tensor.size()))
}
