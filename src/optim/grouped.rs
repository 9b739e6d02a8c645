//! What all optimizers share: parameter groups, and a state for each parameter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tch::{Device, Kind, Tensor, no_grad_guard};

use crate::error::{Context, Error, Result};
use crate::native::optim::{self as native, Algorithm, Readiness, Slot};
use crate::weights::kind_and_shape;

use super::hyper::{Hyper, resolve};
use super::{GroupOptions, Optimizer, ParamGroup};

/// The state of one parameter.
#[derive(Debug)]
struct Memory {
    /// Steps taken so far: one float on the parameter's device, so that the CPU need not know
    /// whether a step was skipped there.
    steps: Tensor,
    /// One tensor like the parameter for each of the rule's quantities.
    buffers: Vec<Tensor>,
}

/// How one optimizer differs from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    /// The names of the buffers.
    pub(super) quantities: &'static [&'static str],
    /// Whether a group with these options needs a state at all.
    pub(super) remembers: fn(&Hyper) -> bool,
}

/// The name under which the number of steps is saved.
const STEP: &str = "step";

#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) defaults: GroupOptions,
    rule: Rule,
    groups: Vec<ParamGroup>,
    /// For each group its options, and a state for each of its parameters.
    kept: Vec<(Hyper, Vec<Option<Memory>>)>,
    /// The group of each name, and the name at each address, to refuse duplicates.
    names: HashMap<String, String>,
    addresses: HashMap<usize, String>,
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
        }
    }

    /// Checks all parameters, group by group, before any of them changes.
    fn check_gradients(&self) -> Result<Vec<Vec<Readiness>>> {
        self.groups.iter().map(check_group).collect()
    }

    fn take_step(&mut self, factor: f64, found_infinity: Option<&Tensor>) -> Result<()> {
        if !factor.is_finite() {
            return Err(Error::protocol(
                "learning rate",
                format!("the schedule's factor is {factor}, not a finite number"),
            ));
        }
        let _guard = no_grad_guard();
        let readiness = self.check_gradients()?;
        for ((group, (hyper, memories)), ready) in
            self.groups.iter().zip(&mut self.kept).zip(readiness)
        {
            let place = |name: &str| format!("optimizer step, group `{}`, `{name}`", group.name);
            let remembers = (self.rule.remembers)(hyper);
            let mut names = Vec::new();
            let mut slots = Vec::new();
            for (((name, parameter), memory), ready) in
                group.parameters.iter().zip(memories).zip(ready)
            {
                if ready != Readiness::Ready {
                    continue;
                }
                let memory = match memory {
                    _ if !remembers => None,
                    Some(memory) => Some(&*memory),
                    None => {
                        let fresh = fresh(parameter, self.rule).context(|| place(name))?;
                        Some(&*memory.insert(fresh))
                    }
                };
                names.push(name);
                slots.push(Slot {
                    parameter,
                    steps: memory.map(|memory| &memory.steps),
                    buffers: memory.map_or(&[], |memory| &memory.buffers),
                });
            }
            let rule = native::Rule {
                algorithm: self.rule.algorithm,
                learning_rate: hyper.learning_rate * factor,
                weight_decay: hyper.weight_decay,
                beta1: hyper.betas.0,
                beta2: hyper.betas.1,
                eps: hyper.eps,
                momentum: hyper.momentum,
            };
            native::step(&rule, &slots, found_infinity).map_err(|(culprit, source)| {
                let name = culprit.and_then(|culprit| names.get(culprit));
                Error::Torch {
                    context: match name {
                        Some(name) => place(name),
                        None => format!("optimizer step, group `{}`", group.name),
                    },
                    source,
                }
            })?;
        }
        Ok(())
    }

    /// Name, tensor and state of every parameter.
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
        // Copies, so that an error changes nothing.
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
        native::zero_grad(self.groups.iter().flat_map(ParamGroup::tensors))
    }

    fn step(&mut self, learning_rate_factor: f64) -> Result<()> {
        self.take_step(learning_rate_factor, None)
    }

    fn step_unless(&mut self, learning_rate_factor: f64, found_infinity: &Tensor) -> Result<()> {
        self.take_step(learning_rate_factor, Some(found_infinity))
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let _guard = no_grad_guard();
        let mut state = BTreeMap::new();
        for (name, _, memory) in self.remembered() {
            let Some(memory) = memory else { continue };
            let steps = memory.steps.f_to_device(Device::Cpu)?;
            let steps = steps.f_to_kind(Kind::Int64)?;
            if steps.f_int64_value(&[])? == 0 {
                // All steps so far were skipped.
                continue;
            }
            state.insert(format!("{name}.{STEP}"), steps);
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
            memory
                .steps
                .f_copy_(&Tensor::from(steps.unwrap_or_default()))?;
            for (key, buffer) in keys.iter().zip(&mut memory.buffers) {
                let Some(tensor) = find(state, key, &mut differences) else {
                    continue;
                };
                let (expected, got) = (kind_and_shape(buffer)?, kind_and_shape(tensor)?);
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

fn check_group(group: &ParamGroup) -> Result<Vec<Readiness>> {
    let ready = native::inspect(group.tensors())
        .context(|| format!("optimizer step, group `{}`", group.name))?;
    for ((name, parameter), ready) in group.parameters.iter().zip(&ready) {
        let reason = match ready {
            Readiness::NoGradient | Readiness::Ready => continue,
            Readiness::SparseGradient => "has a sparse gradient, which this optimizer does not \
                                          support; make its embedding with `sparse: false`"
                .to_owned(),
            Readiness::UnsupportedKind => format!(
                "is of kind {:?}; this optimizer takes Float, Double, Half and BFloat16",
                parameter.f_kind()?
            ),
            Readiness::SharedMemory => {
                "has elements that share their memory; make it contiguous".to_owned()
            }
        };
        let field = format!("optimizer step, group `{}`, `{name}`", group.name);
        return Err(Error::config(field, reason));
    }
    Ok(ready)
}

fn fresh(parameter: &Tensor, rule: Rule) -> Result<Memory> {
    let buffers = rule.quantities.iter().map(|_| parameter.f_zeros_like());
    Ok(Memory {
        steps: Tensor::f_zeros([], (Kind::Float, parameter.device()))?,
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

fn count(tensor: &Tensor) -> Option<i64> {
    if tensor.f_kind().ok()? != Kind::Int64 || tensor.numel() != 1 {
        return None;
    }
    let flat = tensor.f_reshape([1]).ok()?;
    let count = flat.f_int64_value(&[0]).ok()?;
    (count >= 0).then_some(count)
}
