//! Descriptions that differ.

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
        hooks: Vec::new(),
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
    now.hooks = vec!["ema".to_owned()];
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
            "hooks: not in the checkpoint, [\"ema\"] now",
        ]
    );
}

#[test]
fn only_what_differs_is_listed_and_absent_keys_have_their_defaults() {
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

/// What is only looked at changes no number.
#[test]
fn diagnostics_are_not_compared() {
    let with = |k: &str| {
        let mut description = description();
        let diagnostics = ("diagnostics".to_owned(), k.to_owned());
        description.distiller.insert(diagnostics.0, diagnostics.1);
        description
    };
    for (before, now) in [
        (description(), with("5")),
        (with("5"), description()),
        (with("5"), with("10")),
    ] {
        assert!(before.differences(&now).unwrap().is_empty());
    }
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
fn another_number_of_groups_is_listed_once() {
    let mut now = description();
    now.groups.clear();
    let differences = description().differences(&now).unwrap();
    assert_eq!(differences.len(), 1);
    let expected = "optimizer groups: 1 in the checkpoint (`decay`), 0 now";
    assert_eq!(differences[0], expected);
}

#[test]
fn groups_are_told_by_their_names() {
    let group = |name: &str, rate: f64, parameter: &str| GroupDescription {
        name: name.to_owned(),
        options: GroupOptions::new().learning_rate(rate),
        parameters: vec![parameter.to_owned()],
    };
    let with = |groups: Vec<GroupDescription>| Description {
        groups,
        ..description()
    };
    let two = with(vec![group("lr=0.1", 0.1, "a"), group("lr=0.2", 0.2, "b")]);
    let one = with(vec![group("student", 0.1, "a")]);
    assert_eq!(
        two.differences(&one).unwrap(),
        ["optimizer groups: 2 in the checkpoint (`lr=0.1`, `lr=0.2`), 1 now (`student`)"]
    );
    let other = with(vec![group("lr=0.1", 0.1, "a"), group("lr=0.3", 0.3, "b")]);
    assert_eq!(
        two.differences(&other).unwrap(),
        ["optimizer groups: 2 in the checkpoint (`lr=0.1`, `lr=0.2`), 2 now (`lr=0.1`, `lr=0.3`)"]
    );
    // Another name alone changes no number.
    let renamed = with(vec![group("low", 0.1, "a"), group("high", 0.2, "b")]);
    assert!(two.differences(&renamed).unwrap().is_empty());
}
