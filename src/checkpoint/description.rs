//! What a run is made of, to tell whether a checkpoint belongs to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use crate::config::{DistillationConfig, TrainingConfig};
use crate::error::{Error, Result, shortened, shown};
use crate::optim::GroupOptions;

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

/// The description without what may differ.
fn tree(description: &Description) -> Result<Value> {
    let mut description = description.clone();
    if let Value::Object(config) = &mut description.config {
        config.retain(|key, _| !FREE.contains(&key.as_str()));
    }
    let mut tree = serde_json::to_value(&description).map_err(Error::other)?;
    if let Some(Value::Object(distiller)) = tree.get_mut("distiller") {
        distiller.values_mut().for_each(read_text);
    }
    Ok(tree)
}

/// Distillers describe themselves in texts, which may be JSON: then only what differs inside is
/// told. A text that is not as JSON is written stays what it is: it has to be the same.
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

/// Compares the keys that a configuration does not write when they have their defaults, and
/// takes them out of both.
fn compare_left_out(
    part: &str,
    before: &mut Map<String, Value>,
    now: &mut Map<String, Value>,
    defaults: &Value,
    found: &mut Vec<String>,
) {
    for (key, default) in defaults.as_object().into_iter().flatten() {
        // Where both have it, or neither, there is nothing left out.
        if before.contains_key(key) == now.contains_key(key) {
            continue;
        }
        let (before, now) = (before.shift_remove(key), now.shift_remove(key));
        let told = |value: &Option<Value>| match value {
            Some(value) => short(value),
            None => format!("{default} (the default)"),
        };
        if before.as_ref().unwrap_or(default) != now.as_ref().unwrap_or(default) {
            found.push(format!(
                "{part}.{key}: {} in the checkpoint, {} now",
                told(&before),
                told(&now)
            ));
        }
    }
}

fn compare(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    let at = |key: &str| match path {
        "" => shown(key).into_owned(),
        // Names of variables have points of their own.
        "variables" | "state" => format!("{path} `{}`", shown(key)),
        _ => format!("{path}.{}", shown(key)),
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

/// A list of a thousand names says no more than its length. Either side may be a stranger's
/// file.
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
    fn only_what_differs_is_told_and_what_is_left_out_has_its_default() {
        let mut before = description();
        before.config = json!({"precision": "bf16", "clip_projections": false});
        let matches = |weight: f64| {
            let one = json!({"layer_T": 0, "layer_S": 0, "feature": "hidden", "weight": weight});
            json!([one, one]).to_string().replacen("2.0", "1.0", 1)
        };
        let text = |text: &str| text.to_owned();
        before.distiller = BTreeMap::from([
            (text("cache_dtype"), text("null")),
            (text("intermediate_matches"), matches(2.0)),
            (text("kd_loss_type"), text("\"ce\"")),
            (text("own"), text("4.0")),
        ]);
        let mut now = before.clone();
        now.config = json!({"step_on_remainder": true});
        now.distiller = BTreeMap::from([
            (text("cache_features"), text("true")),
            (text("intermediate_matches"), matches(3.0)),
            (text("kd_loss_type"), text("\"mse\"")),
            (text("own"), text("4.00")),
        ]);
        assert_eq!(
            before.differences(&now).unwrap(),
            [
                "config.step_on_remainder: false (the default) in the checkpoint, true now",
                "config.precision: \"bf16\" in the checkpoint, \"float32\" (the default) now",
                "distiller.cache_features: false (the default) in the checkpoint, true now",
                "distiller.intermediate_matches[0].weight: 1.0 in the checkpoint, 3.0 now",
                "distiller.intermediate_matches[1].weight: 2.0 in the checkpoint, 3.0 now",
                "distiller.kd_loss_type: \"ce\" in the checkpoint, \"mse\" now",
                "distiller.own: 4.0 in the checkpoint, \"4.00\" now",
            ]
        );
    }

    /// Every key that a configuration may leave out has to be in its list.
    #[test]
    fn all_keys_that_may_be_left_out_are_known() {
        let wrong = r#"{"?": 1}"#;
        for (error, written, left_out) in [
            (
                TrainingConfig::from_json_str(wrong).unwrap_err(),
                serde_json::to_value(TrainingConfig::default()).unwrap(),
                TrainingConfig::left_out(),
            ),
            (
                DistillationConfig::from_json_str(wrong).unwrap_err(),
                serde_json::to_value(DistillationConfig::default()).unwrap(),
                DistillationConfig::left_out(),
            ),
        ] {
            // The error lists the keys that there are.
            let error = error.to_string();
            let (_, list) = error.split_once("expected one of ").unwrap();
            let all = list.split('`').skip(1).step_by(2);
            let absent: Vec<_> = all.filter(|key| written.get(key).is_none()).collect();
            let left_out: Vec<_> = left_out.as_object().unwrap().keys().collect();
            assert!(
                !absent.is_empty() && absent == left_out,
                "{absent:?}, {left_out:?}"
            );
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_escaped_and_cut() {
        let (mut before, now) = (description(), description());
        let odd = "a\u{1b}[2J\u{9b}\u{202e}".to_owned();
        before.distiller.insert(odd.clone(), odd.clone());
        before
            .run
            .insert(odd.clone(), json!([odd, {"x": "y".repeat(100_000)}]));
        before.config = json!({ "b": odd, "c": "y".repeat(100_000) });
        let tensor = before.variables["layer.0.bias"].clone();
        before.variables.insert(odd, tensor);
        let differences = before.differences(&now).unwrap();
        assert!(differences.len() > 5);
        for difference in differences {
            assert!(
                !difference.contains(|c: char| c.is_control()),
                "{difference:?}"
            );
            assert!(!difference.contains('\u{202e}') && difference.len() < 1000);
        }
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
