//! The description of a run, by which it is decided whether it can resume from a checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use super::difference::{Difference, Side};
use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::{Error, Result, shortened, shown};
use crate::optim::GroupOptions;

/// The description of a run: everything that has to be the same when it is resumed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The whole training configuration.
    pub(crate) config: Value,
    /// The distiller's own description.
    pub(crate) distiller: BTreeMap<String, String>,
    /// The options of the run: `max_grad_norm` and so on.
    pub(crate) run: BTreeMap<String, Value>,
    /// The student's variables.
    pub(crate) variables: BTreeMap<String, TensorDescription>,
    /// The distiller's tensors.
    pub(crate) state: BTreeMap<String, TensorDescription>,
    /// The optimizer's groups.
    pub(crate) groups: Vec<GroupDescription>,
    /// The number of batches in an epoch of the loader.
    pub(crate) batches: Option<u64>,
    /// The names of the hooks, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hooks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorDescription {
    kind: String,
    shape: Vec<i64>,
    trainable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupDescription {
    pub(crate) name: String,
    pub(crate) options: GroupOptions,
    pub(crate) parameters: Vec<String>,
}

/// Keys of the configuration whose values may differ in the resumed run: they say where things
/// are and how often something is logged or saved, and change no number on the same device.
const FREE: [&str; 7] = [
    "output_dir",
    "log_dir",
    "log_interval",
    "device",
    "ckpt_frequency",
    "ckpt_epoch_frequency",
    "ckpt_steps",
];

/// The same of what distillers say of themselves.
const FREE_OF_DISTILLERS: [&str; 1] = ["diagnostics"];

impl TensorDescription {
    pub(crate) fn new(tensor: &Tensor) -> Result<Self> {
        Ok(TensorDescription {
            kind: format!("{:?}", tensor.f_kind()?),
            shape: tensor.size(),
            trainable: tensor.requires_grad(),
        })
    }
}

impl Description {
    /// Whether a state has a file of its hooks.
    pub(super) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Every difference between this description of a checkpoint and that of the resuming run.
    pub(crate) fn differences(&self, now: &Description) -> Result<Vec<String>> {
        let found = self.compare(now)?.into_iter();
        let named = found.map(|difference| difference.between("in the checkpoint", "now"));
        Ok(named.collect())
    }

    /// Every difference between the descriptions of two runs.
    pub(crate) fn compare(&self, now: &Description) -> Result<Vec<Difference>> {
        let mut found = Vec::new();
        let (mut before, mut now) = (tree(self)?, tree(now)?);
        for (part, defaults) in [
            ("config", TrainingConfig::left_out()),
            ("distiller", DistillationConfig::left_out()),
        ] {
            if let (Some(Value::Object(before)), Some(Value::Object(now))) =
                (before.get_mut(part), now.get_mut(part))
            {
                compare_left_out(part, before, now, &defaults, &mut found);
            }
        }
        compare("", &before, &now, &mut found);
        Ok(found)
    }
}

/// The description as JSON, without what may differ.
fn tree(description: &Description) -> Result<Value> {
    let mut description = description.clone();
    if let Value::Object(config) = &mut description.config {
        config.retain(|key, _| !FREE.contains(&key.as_str()));
    }
    let mut tree = serde_json::to_value(&description).map_err(Error::other)?;
    if let Some(Value::Object(distiller)) = tree.get_mut("distiller") {
        distiller.retain(|key, _| !FREE_OF_DISTILLERS.contains(&key.as_str()));
        distiller.values_mut().for_each(read_text);
    }
    Ok(tree)
}

/// Parses a text that is JSON, so that only the differences inside it are listed: distillers
/// describe themselves in texts. A text that JSON would write otherwise is compared as it is.
fn read_text(value: &mut Value) {
    let Value::String(text) = value else { return };
    let Ok(inner) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let written = inner.to_string();
    if written == *text {
        *value = inner;
    }
}

/// Compares the keys that a configuration leaves out when they have their defaults, and removes
/// them from both.
fn compare_left_out(
    part: &str,
    before: &mut Map<String, Value>,
    now: &mut Map<String, Value>,
    defaults: &Value,
    found: &mut Vec<Difference>,
) {
    for (key, default) in defaults.as_object().into_iter().flatten() {
        // If both have it or neither has it, nothing was left out.
        if before.contains_key(key) == now.contains_key(key) {
            continue;
        }
        let (before, now) = (before.shift_remove(key), now.shift_remove(key));
        let shown_value = |value: &Option<Value>| match value {
            Some(value) => short(value),
            None => format!("{default} (the default)"),
        };
        if before.as_ref().unwrap_or(default) != now.as_ref().unwrap_or(default) {
            found.push(Difference::new(
                format!("{part}.{key}"),
                shown_value(&before),
                shown_value(&now),
            ));
        }
    }
}

fn compare(path: &str, before: &Value, now: &Value, found: &mut Vec<Difference>) {
    let at = |key: &str| match path {
        "" => shown(key).into_owned(),
        // Names of variables have dots in them.
        "variables" | "state" => format!("{path} `{}`", shown(key)),
        _ => format!("{path}.{}", shown(key)),
    };
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (key, value) in before {
                match now.get(key) {
                    Some(other) => compare(&at(key), value, other, found),
                    None => found.push(Difference::of_sides(at(key), side(value), Side::default())),
                }
            }
            for (key, value) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
                found.push(Difference::of_sides(at(key), Side::default(), side(value)));
            }
        }
        (Value::Array(before), Value::Array(now))
            if path == "groups" && names(before) != names(now) =>
        {
            if unnamed(before) != unnamed(now) {
                let side = |groups: &[Value]| Side {
                    value: Some(groups.len().to_string()),
                    more: names(groups),
                };
                found.push(Difference::of_sides(
                    "optimizer groups",
                    side(before),
                    side(now),
                ));
            }
        }
        (Value::Array(before), Value::Array(now))
            if before.len() == now.len() && before.iter().any(Value::is_object) =>
        {
            for (index, (before, now)) in before.iter().zip(now).enumerate() {
                compare(&format!("{path}[{index}]"), before, now, found);
            }
        }
        _ if before == now => {}
        _ => found.push(Difference::of_sides(path, side(before), side(now))),
    }
}

fn side(value: &Value) -> Side {
    Side {
        value: Some(short(value)),
        more: String::new(),
    }
}

/// The names of groups in brackets, if there are any.
fn names(groups: &[Value]) -> String {
    let names = groups
        .iter()
        .filter_map(|group| group.get("name")?.as_str());
    let names: Vec<_> = names.map(|name| format!("`{}`", shown(name))).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" ({})", shortened(&names.join(", "), 400)),
    }
}

/// The groups without their names, which change no number.
fn unnamed(groups: &[Value]) -> Vec<Value> {
    let mut groups = groups.to_vec();
    for group in groups.iter_mut().filter_map(Value::as_object_mut) {
        group.shift_remove("name");
    }
    groups
}

/// A value for a message: long lists are cut, and control characters, which a file may have,
/// are escaped.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Array(items) if text.len() > 200 => {
            let list: String = text.chars().take(150).collect();
            format!("{}… ({} in all)", shortened(&list, 1000), items.len())
        }
        _ => shortened(&text, 300).into_owned(),
    }
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;
