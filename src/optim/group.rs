//! Parameters that share options.

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::Tensor;

/// What a group of parameters sets for itself; what it leaves open is the optimizer's.
///
/// In JSON this is the fourth element of `proj`: `{"lr": 1e-3, "weight_decay": 0}`.
///
/// ```
/// use textbrewer::optim::GroupOptions;
///
/// let options: GroupOptions = serde_json::from_str(r#"{"lr": 1e-3, "betas": [0.9, 0.98]}"#)?;
/// let mut same = GroupOptions::default();
/// same.learning_rate = Some(1e-3);
/// same.betas = Some((0.9, 0.98));
/// assert_eq!(options, same);
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

/// Named parameters that are optimized with the same options.
///
/// ```
/// use tch::{nn::VarStore, Device};
/// use textbrewer::optim::{AdamW, GroupOptions, Optimizer, ParamGroup};
///
/// let variables = VarStore::new(Device::Cpu);
/// let weight = variables.root().ones("weight", &[3]);
/// let mut options = GroupOptions::default();
/// options.learning_rate = Some(1e-2);
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

    /// Replaces the options.
    #[must_use]
    pub fn options(mut self, options: GroupOptions) -> Self {
        self.options = options;
        self
    }

    /// The parameters without their names.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|(_, tensor)| tensor)
    }
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
    let mut named: Vec<_> = variables
        .variables()
        .into_iter()
        .filter(|(_, tensor)| tensor.requires_grad())
        .collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let (spared, decayed): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|(name, _)| no_decay.iter().any(|part| name.contains(part)));
    let spared = ParamGroup::new("no_decay", spared).options(GroupOptions {
        weight_decay: Some(0.0),
        ..GroupOptions::default()
    });
    [ParamGroup::new("decay", decayed), spared]
        .into_iter()
        .filter(|group| !group.parameters.is_empty())
        .collect()
}
