//! The optimizer with its groups, and the scaling of the loss.

use std::collections::HashSet;

use tch::Tensor;
use tch::nn::VarStore;

use crate::config::Precision;
use crate::distiller::Distiller;
use crate::engine::ranks::Ranks;
use crate::engine::run::OptionsOf;
use crate::error::{Error, Result, Side};
use crate::logging;
use crate::optim::{LossScaling, Optimizer, ParamGroup, param_groups, param_groups_by};

/// How the student's variables are put into groups.
pub(super) struct Rules<'a> {
    pub(super) options_of: Option<OptionsOf<'a>>,
    pub(super) no_decay: Vec<String>,
}

/// Divides the optimizer's state among the ranks.
pub(super) fn shard<'a>(
    optimizer: Box<dyn Optimizer + 'a>,
    ranks: Ranks<'a>,
) -> Result<Box<dyn Optimizer + 'a>> {
    if !optimizer.groups().is_empty() {
        let reason = "the optimizer has its groups already, and each process may have the state of \
                      all; give this run a new optimizer, or leave this out";
        return Err(Error::config("shard_optimizer", reason));
    }
    Ok(ranks.shard_optimizer(optimizer))
}

/// Gives the optimizer the parameters that it does not have yet.
pub(super) fn add_groups<D: Distiller + ?Sized>(
    optimizer: &mut dyn Optimizer,
    rules: Rules<'_>,
    distiller: &D,
) -> Result<()> {
    let groups_given = !optimizer.groups().is_empty();
    let given = [
        ("no_decay", "param_groups", !rules.no_decay.is_empty()),
        (
            "param_groups_by",
            "optim::param_groups_by",
            rules.options_of.is_some(),
        ),
    ];
    if let Some((rule, function, _)) = given.iter().find(|(.., given)| groups_given && *given) {
        let reason = format!(
            "the optimizer has its groups already; make them with `{function}`, or leave this out"
        );
        return Err(Error::config(*rule, reason));
    }
    if !groups_given {
        for group in student_groups(distiller.core().variables(), rules)? {
            optimizer.add_group(group)?;
        }
    }
    // In a second run with the same optimizer the projections are in it already. Those of
    // another distiller have the same names, so the optimizer refuses them.
    for group in distiller.core().param_groups() {
        if !has(optimizer, &group) {
            optimizer.add_group(group)?;
        }
    }
    if groups_given && !optimizes_student(optimizer, distiller.core().variables()) {
        let reason = "its groups hold none of the student's variables; \
                      make a new optimizer for this student";
        return Err(Error::protocol("optimizer", reason));
    }
    Ok(())
}

fn student_groups(variables: &VarStore, rules: Rules<'_>) -> Result<Vec<ParamGroup>> {
    let no_decay: Vec<&str> = rules.no_decay.iter().map(String::as_str).collect();
    let groups = match rules.options_of {
        None => param_groups(variables, &no_decay),
        Some(mut options_of) => param_groups_by(variables, |name| {
            let options = options_of(name);
            match no_decay.iter().any(|part| name.contains(part)) {
                true => options.weight_decay(0.0),
                false => options,
            }
        }),
    };
    for part in &no_decay {
        let mut parameters = groups.iter().flat_map(|group| &group.parameters);
        if !parameters.any(|(name, _)| name.contains(part)) {
            logging::warn(format_args!(
                "no_decay: no variable of the student has `{part}` in its name"
            ));
        }
    }
    if groups.is_empty() {
        return Err(Error::config("student", "it has no trainable variable"));
    }
    Ok(groups)
}

/// The loss scaling that was asked for, or the default one where the student computes in fp16.
pub(super) fn loss_scaling<D: Distiller + ?Sized>(
    requested: Option<LossScaling>,
    (clips, weighs_by_positions): (bool, bool),
    optimizer: &dyn Optimizer,
    distiller: &D,
) -> Result<Option<LossScaling>> {
    let is_needed = distiller.core().config().precision_of(Side::Student) == Precision::Fp16;
    let scaling = requested.or_else(|| is_needed.then(LossScaling::new));
    let is_scaled = scaling.is_some() || weighs_by_positions;
    if is_scaled && clips && !optimizes_all(optimizer, distiller.core().variables()) {
        // Only the optimizer's gradients are scaled back, so others would dominate the norm.
        let reason = "with loss scaling or `weigh_by_positions`, every variable of the student that gets gradients \
                      must be in a group of the optimizer; add the others, or freeze them \
                      with `set_requires_grad(false)`";
        return Err(Error::config("max_grad_norm", reason));
    }
    Ok(scaling)
}

fn optimizes_all(optimizer: &dyn Optimizer, variables: &VarStore) -> bool {
    let optimized = optimizer.groups().iter().flat_map(ParamGroup::tensors);
    let addresses: HashSet<_> = optimized.filter_map(address).collect();
    let variables = variables.trainable_variables();
    let mut with_gradients = variables.iter().filter(|tensor| tensor.requires_grad());
    with_gradients.all(|tensor| address(tensor).is_none_or(|a| addresses.contains(&a)))
}

fn optimizes_student(optimizer: &dyn Optimizer, variables: &VarStore) -> bool {
    let variables = variables.trainable_variables();
    let addresses: HashSet<_> = variables.iter().filter_map(address).collect();
    let mut optimized = optimizer.groups().iter().flat_map(ParamGroup::tensors);
    optimized.any(|tensor| address(tensor).is_some_and(|address| addresses.contains(&address)))
}

/// Whether the optimizer has these tensors, in one group of this name or in several.
fn has(optimizer: &dyn Optimizer, group: &ParamGroup) -> bool {
    let known = optimizer.groups().iter();
    let mut known = known.filter(|known| known.name == group.name).peekable();
    let is_known = known.peek().is_some();
    let known: HashSet<_> = known.flat_map(ParamGroup::tensors).map(address).collect();
    let mut tensors = group.tensors();
    is_known && tensors.all(|tensor| known.contains(&address(tensor)))
}

/// Where a tensor's elements are; a tensor without any has no address.
fn address(tensor: &Tensor) -> Option<usize> {
    let has_elements = tensor.defined() && !tensor.is_sparse() && tensor.numel() > 0;
    has_elements.then(|| tensor.data_ptr() as usize)
}
