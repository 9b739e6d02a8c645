//! Parameters that share options.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::VarStore;

use crate::error::{Error, Result};
use crate::weights::state_dict;

/// What a group of parameters sets for itself; what it leaves open is the optimizer's.
///
/// In JSON this is the fourth element of `proj`: `{"lr": 1e-3, "weight_decay": 0}`.
///
/// ```
/// use textbrewer::optim::GroupOptions;
///
/// let options: GroupOptions = serde_json::from_str(r#"{"lr": 1e-3, "betas": [0.9, 0.98]}"#)?;
/// assert_eq!(options, GroupOptions::new().learning_rate(1e-3).betas(0.9, 0.98));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GroupOptions {
    /// Learning rate, before the schedule's factor.
    #[serde(rename = "lr", default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Decay of the first and second moment (Adam and AdamW).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<(f64, f64)>,
    /// Added to the denominator (Adam and AdamW).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Momentum (SGD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
}

impl GroupOptions {
    /// Everything left open.
    pub fn new() -> Self {
        GroupOptions::default()
    }

    /// Sets the learning rate, before the schedule's factor.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// Sets the decay of the first and second moment (Adam and AdamW).
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.betas = Some((first, second));
        self
    }

    /// Sets what is added to the denominator (Adam and AdamW).
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = Some(eps);
        self
    }

    /// Sets the momentum (SGD).
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = Some(momentum);
        self
    }

    /// What is set, by the names in JSON: `lr=0.001, weight_decay=0.0`. Of what rules compute,
    /// such as 0.0007290000000000002, four digits are enough to know it by.
    fn summary(&self) -> String {
        let set = [
            ("lr", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("eps", self.eps),
            ("momentum", self.momentum),
        ];
        let set = set.into_iter();
        let set = set.filter_map(|(key, value)| Some(format!("{key}={:?}", rounded(value?))));
        let betas = self.betas.map(|betas| format!("betas={betas:?}"));
        let set: Vec<_> = set.chain(betas).collect();
        match set.is_empty() {
            true => "default".to_owned(),
            false => set.join(", "),
        }
    }

    /// That the numbers can work. `path` is what an error puts before the option's key.
    pub(crate) fn check(&self, path: &str) -> Result<()> {
        let invalid = |key: &str, wanted: &str, value: f64| {
            Err(Error::config(
                format!("{path}{key}"),
                format!("must be {wanted}, is {value}"),
            ))
        };
        for (key, value) in [
            ("lr", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("eps", self.eps),
            ("momentum", self.momentum),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..f64::INFINITY).contains(value)) {
                return invalid(key, "a finite number, at least 0", value);
            }
        }
        let (first, second) = self.betas.unzip();
        for (key, value) in [("betas[0]", first), ("betas[1]", second)] {
            if let Some(value) = value.filter(|value| !(0.0..1.0).contains(value)) {
                return invalid(key, "at least 0 and less than 1", value);
            }
        }
        Ok(())
    }
}

/// Named parameters that are optimized with the same options.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::optim::{AdamW, GroupOptions, Optimizer, ParamGroup};
///
/// let variables = VarStore::new(Device::Cpu);
/// let weight = variables.root().ones("weight", &[3]);
/// let options = GroupOptions::new().learning_rate(1e-2);
/// let mut optimizer = AdamW::new(1e-4);
/// optimizer.add_group(ParamGroup::new("new layers", vec![("weight".into(), weight)]).options(options))?;
/// // What the group left open is the optimizer's.
/// let group = &optimizer.groups()[0];
/// assert_eq!(group.options.learning_rate, Some(1e-2));
/// assert_eq!(group.options.weight_decay, Some(0.01));
/// assert_eq!(group.tensors().count(), 1);
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ParamGroup {
    /// A name for messages and for finding the group again.
    pub name: String,
    /// The parameters and their names, in a fixed order.
    pub parameters: Vec<(String, Tensor)>,
    /// The group's own options.
    pub options: GroupOptions,
}

impl ParamGroup {
    /// A group with the optimizer's defaults.
    pub fn new(name: impl Into<String>, parameters: Vec<(String, Tensor)>) -> Self {
        ParamGroup {
            name: name.into(),
            parameters,
            options: GroupOptions::default(),
        }
    }

    /// All trainable variables of a `VarStore`, under their names.
    pub fn of(name: impl Into<String>, variables: &VarStore) -> Self {
        let trainable = state_dict(variables).into_iter();
        let trainable = trainable.filter(|(_, tensor)| tensor.requires_grad());
        ParamGroup::new(name, trainable.collect())
    }

    /// Replaces the options.
    #[must_use]
    pub fn options(mut self, options: GroupOptions) -> Self {
        self.options = options;
        self
    }

    /// The same parameters in a group of its own; no number is copied.
    pub(super) fn shallow_clone(&self) -> Self {
        let parameters = self.parameters.iter();
        ParamGroup {
            name: self.name.clone(),
            parameters: parameters
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect(),
            options: self.options.clone(),
        }
    }

    /// The parameters without their names.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|(_, tensor)| tensor)
    }
}

/// To four significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn trainable(variables: &VarStore) -> impl Iterator<Item = (String, Tensor)> {
    let variables = state_dict(variables).into_iter();
    variables.filter(|(_, tensor)| tensor.requires_grad())
}

/// The trainable variables of `variables` as two groups: those to decay, and those whose
/// name contains one of `no_decay`, which get weight decay 0. A group that would be
/// empty is left out. Parameters are sorted by name.
///
/// ```
/// use tch::{nn, nn::VarStore, Device};
/// use textbrewer::optim::param_groups;
///
/// let variables = VarStore::new(Device::Cpu);
/// nn::linear(variables.root() / "dense", 3, 2, Default::default());
/// let groups = param_groups(&variables, &["bias", "LayerNorm.weight"]);
/// assert_eq!((groups[0].name.as_str(), groups[0].parameters[0].0.as_str()), ("decay", "dense.weight"));
/// assert_eq!((groups[1].name.as_str(), groups[1].parameters[0].0.as_str()), ("no_decay", "dense.bias"));
/// assert_eq!(groups[1].options.weight_decay, Some(0.0));
/// ```
pub fn param_groups(variables: &VarStore, no_decay: &[&str]) -> Vec<ParamGroup> {
    let (spared, decayed): (Vec<_>, Vec<_>) =
        trainable(variables).partition(|(name, _)| no_decay.iter().any(|part| name.contains(part)));
    let undecayed = GroupOptions::new().weight_decay(0.0);
    let spared = ParamGroup::new("no_decay", spared).options(undecayed);
    [ParamGroup::new("decay", decayed), spared]
        .into_iter()
        .filter(|group| !group.parameters.is_empty())
        .collect()
}

/// The trainable variables of `variables`, each with the options that `options_of` returns for
/// its name. Variables with equal options share a group.
///
/// Parameters are sorted by name, and groups by their first parameter. A group is named after
/// its options, such as `lr=1.8e-5, weight_decay=0.0`, or `default` where all are left open.
/// Numbers are rounded to four digits there; the second of two groups that differ beyond them is
/// `lr=1.8e-5 (2)`.
///
/// [`Run::param_groups_by`](crate::Run::param_groups_by) does this in a run.
/// [`layer_wise_decay`](super::layer_wise_decay) is such a rule.
///
/// ```
/// use tch::{nn, nn::VarStore, Device};
/// use textbrewer::optim::{param_groups_by, AdamW, GroupOptions, Optimizer};
///
/// let variables = VarStore::new(Device::Cpu);
/// nn::linear(variables.root() / "encoder", 3, 3, Default::default());
/// nn::linear(variables.root() / "classifier", 3, 2, Default::default());
/// let groups = param_groups_by(&variables, |name| match name.contains("classifier") {
///     true => GroupOptions::new().learning_rate(1e-3),
///     false => GroupOptions::new(),
/// });
/// let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
/// assert_eq!(names, ["lr=0.001", "default"]);
///
/// let mut optimizer = AdamW::new(1e-4);
/// for group in groups {
///     optimizer.add_group(group)?;
/// }
/// # textbrewer::Result::Ok(())
/// ```
pub fn param_groups_by(
    variables: &VarStore,
    mut options_of: impl FnMut(&str) -> GroupOptions,
) -> Vec<ParamGroup> {
    let mut groups: Vec<ParamGroup> = Vec::new();
    let mut summaries: BTreeMap<String, usize> = BTreeMap::new();
    for (name, tensor) in trainable(variables) {
        let options = options_of(&name);
        let parameter = (name, tensor);
        match groups.iter_mut().find(|group| group.options == options) {
            Some(group) => group.parameters.push(parameter),
            None => {
                let mut name = options.summary();
                let count = summaries.entry(name.clone()).or_default();
                *count += 1;
                if *count > 1 {
                    name = format!("{name} ({count})");
                }
                let group = ParamGroup::new(name, vec![parameter]);
                groups.push(group.options(options));
            }
        }
    }
    groups
}
