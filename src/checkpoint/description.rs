//! What a run is made of, to tell whether a checkpoint belongs to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use crate::optim::GroupOptions;
use crate::{Error, Result};

/// What a run is made of, as far as it has to be the same when the run is resumed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The training configuration, whole.
    pub(crate) config: Value,
    /// What the distiller says of itself.
    pub(crate) distiller: BTreeMap<String, String>,
    /// How the run was described: `max_grad_norm` and so on.
    pub(crate) run: BTreeMap<String, Value>,
    /// The student's variables.
    pub(crate) variables: BTreeMap<String, TensorDescription>,
    /// The distiller's tensors.
    pub(crate) state: BTreeMap<String, TensorDescription>,
    /// The optimizer's groups.
    pub(crate) groups: Vec<GroupDescription>,
    /// The number of batches in an epoch of the loader.
    pub(crate) batches: Option<u64>,
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

/// Keys of the configuration that may be others in the run that goes on: they say where
/// things are and how often something is looked at or saved, and change no number on the
/// same device.
const FREE: [&str; 7] = [
    "output_dir",
    "log_dir",
    "log_interval",
    "device",
    "ckpt_frequency",
    "ckpt_epoch_frequency",
    "ckpt_steps",
];

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
    /// Everything in which this, of a checkpoint, differs from a run that is to go on from it.
    pub(crate) fn differences(&self, now: &Description) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let (before, after) = (tree(self)?, tree(now)?);
        compare("", &before, &after, &mut found);
        Ok(found)
    }
}

/// The description without what may differ.
fn tree(description: &Description) -> Result<Value> {
    let mut description = description.clone();
    if let Value::Object(config) = &mut description.config {
        config.retain(|key, _| !FREE.contains(&key.as_str()));
    }
    serde_json::to_value(&description).map_err(Error::other)
}

fn compare(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    let at = |key: &str| match path {
        "" => key.to_owned(),
        // Names of variables have points of their own.
        "variables" | "state" => format!("{path} `{key}`"),
        _ => format!("{path}.{key}"),
    };
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (key, value) in before {
                match now.get(key) {
                    Some(other) => compare(&at(key), value, other, found),
                    None => found.push(format!(
                        "{}: {} in the checkpoint, missing now",
                        at(key),
                        short(value)
                    )),
                }
            }
            for (key, value) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
                found.push(format!(
                    "{}: not in the checkpoint, {} now",
                    at(key),
                    short(value)
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
        _ => found.push(format!(
            "{path}: {} in the checkpoint, {} now",
            short(before),
            short(now)
        )),
    }
}

/// A list of a thousand names says no more than its length.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Array(items) if text.len() > 200 => {
            let list: String = text.chars().take(150).collect();
            format!("{list}… ({} in all)", items.len())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tch::{Device, Kind};

    fn description() -> Description {
        let tensor = |size: i64| {
            let tensor = Tensor::zeros([size], (Kind::Float, Device::Cpu));
            TensorDescription::new(&tensor).unwrap()
        };
        Description {
            config: json!({"output_dir": "a", "gradient_accumulation_steps": 2, "fp16": false}),
            distiller: BTreeMap::from([("temperature".to_owned(), "4".to_owned())]),
            run: BTreeMap::from([("max_grad_norm".to_owned(), json!(null))]),
            variables: BTreeMap::from([
                ("layer.0.weight".to_owned(), tensor(3)),
                ("layer.0.bias".to_owned(), tensor(2)),
            ]),
            state: BTreeMap::new(),
            groups: vec![GroupDescription {
                name: "decay".to_owned(),
                options: GroupOptions::new().learning_rate(1e-3),
                parameters: vec!["layer.0.weight".to_owned()],
            }],
            batches: Some(3),
        }
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let before = description();
        assert!(before.differences(&description()).unwrap().is_empty());
        let mut now = description();
        now.config = json!({"output_dir": "b", "gradient_accumulation_steps": 4, "bf16": true});
        now.variables.remove("layer.0.bias");
        now.variables.get_mut("layer.0.weight").unwrap().shape = vec![5];
        now.groups[0].options.learning_rate = Some(0.1);
        now.batches = None;
        assert_eq!(
            before.differences(&now).unwrap(),
            [
                "config.gradient_accumulation_steps: 2 in the checkpoint, 4 now",
                "config.fp16: false in the checkpoint, missing now",
                "config.bf16: not in the checkpoint, true now",
                "variables `layer.0.bias`: {\"kind\":\"Float\",\"shape\":[2],\"trainable\":false} \
                 in the checkpoint, missing now",
                "variables `layer.0.weight`.shape: [3] in the checkpoint, [5] now",
                "groups[0].options.lr: 0.001 in the checkpoint, 0.1 now",
                "batches: 3 in the checkpoint, null now",
            ]
        );
    }

    #[test]
    fn another_number_of_groups_is_told_once() {
        let mut now = description();
        now.groups.clear();
        let differences = description().differences(&now).unwrap();
        assert_eq!(differences.len(), 1);
        assert!(differences[0].starts_with("groups: "), "{differences:?}");
    }
}
