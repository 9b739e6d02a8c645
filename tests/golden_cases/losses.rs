//! The losses and functions against what TextBrewer computed (`tests/golden/README.md`).

use std::collections::HashMap;

use crate::common::device::device;
use crate::common::{assert_close, close, golden, read_cases, read_tensors};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tch::Tensor;
use textbrewer::augment::{deleting, long_disorder, masking, n_gram_sampling, short_disorder};
use textbrewer::config::PresetSpec;
use textbrewer::losses::Temperature;
use textbrewer::{KdInput, Presets, Result, probability_shift, select_logits_with_mask};

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("`{key}` of {case}"))
}

fn named(tensors: &HashMap<String, Tensor>, name: &Value) -> Tensor {
    let name = name
        .as_str()
        .unwrap_or_else(|| panic!("{name} is no tensor's name"));
    tensors
        .get(name)
        .unwrap_or_else(|| panic!("no tensor `{name}`"))
        .to_device(device())
}

fn all_named(tensors: &HashMap<String, Tensor>, names: &Value) -> Vec<Tensor> {
    let names = names.as_array().expect("a list of names");
    names.iter().map(|name| named(tensors, name)).collect()
}

fn loss_of(
    case: &Value,
    tensors: &HashMap<String, Tensor>,
    student: &[Tensor],
    teacher: &[Tensor],
) -> Result<Tensor> {
    let presets = Presets::default();
    let name = text(case, "loss");
    if let Some(name) = name.strip_prefix("kd_") {
        let temperature = match &case["temperature"] {
            Value::Number(value) => Temperature::Constant(value.as_f64().expect("a number")),
            other => Temperature::Each(named(tensors, other)),
        };
        let loss = presets.find_kd_loss("kd_loss_type", name)?;
        return loss.apply(&KdInput::new(&student[0], &teacher[0], temperature)?);
    }
    let mask = match &case["mask"] {
        Value::Null => None,
        name => Some(named(tensors, name)),
    };
    let loss = presets.find_match_loss("loss", name)?;
    loss.apply(student, teacher, mask.as_ref())
}

#[test]
fn losses_and_their_gradients_are_textbrewers() {
    let Some(path) = golden("losses.json") else {
        return;
    };
    let tensors = read_tensors(&path.with_extension("safetensors"));
    let cases = read_cases(&path);
    for case in &cases {
        let masked = if case["mask"].is_null() {
            ""
        } else {
            ", masked"
        };
        let label = format!(
            "losses.json, case {} ({}{masked})",
            case["id"],
            text(case, "loss")
        );
        let student: Vec<Tensor> = all_named(&tensors, &case["student"])
            .iter()
            .map(|tensor| tensor.copy().set_requires_grad(true))
            .collect();
        let teacher = all_named(&tensors, &case["teacher"]);
        let loss = loss_of(case, &tensors, &student, &teacher)
            .unwrap_or_else(|error| panic!("{label}: {error}"));

        assert_eq!(loss.dim(), 0, "{label}: not a scalar");
        let (got, expected) = (loss.double_value(&[]), case["expected"].as_f64().unwrap());
        assert!(close(got, expected), "{label}: {got}, expected {expected}");
        loss.backward();
        let gradients = all_named(&tensors, &case["gradient"]);
        assert_eq!(student.len(), gradients.len(), "{label}");
        for (index, (student, gradient)) in student.iter().zip(&gradients).enumerate() {
            let label = format!("{label}, gradient {index}");
            assert_close(&label, &student.grad(), gradient);
        }
    }
    println!("losses.json: {} cases", cases.len());
}

#[test]
fn functions_are_textbrewers() {
    let Some(path) = golden("functions.json") else {
        return;
    };
    let tensors = read_tensors(&path.with_extension("safetensors"));
    let cases = read_cases(&path);
    let presets = Presets::default();
    for case in &cases {
        let function = text(case, "function");
        let label = format!("functions.json, case {} ({function})", case["id"]);
        let input = |key: &str| named(&tensors, &case["inputs"][key]);
        let expected = || named(&tensors, &case["expected"]);
        let failed = |error: &dyn std::fmt::Display| -> ! { panic!("{label}: {error}") };
        if let Some(name) = function.strip_suffix("_temperature") {
            let got = temperature(&presets, name, case, &input("logits_S"), &input("logits_T"));
            match got.unwrap_or_else(|error| failed(&error)) {
                Temperature::Each(got) => assert_close(&label, &got, &expected()),
                other => panic!("{label}: {other:?}"),
            }
        } else if let Some(name) = function.strip_suffix("_weight") {
            let scheduler = presets
                .find_weight_scheduler("kd_loss_weight_scheduler", Some(&name.into()))
                .unwrap_or_else(|error| failed(&error))
                .expect("a name was given");
            let got = scheduler(case["params"]["x"].as_f64().unwrap());
            assert_eq!(Some(got), case["expected"].as_f64(), "{label}");
        } else if let Some(got) = augmented(function, &case["params"]) {
            let got = got.unwrap_or_else(|error| failed(&error));
            assert_eq!(got, integers(&case["expected"]), "{label}");
        } else {
            let logits = input("logits");
            let before = logits.copy();
            let got = match function {
                "probability_shift" => probability_shift(&logits, &input("labels")),
                "select_logits_with_mask" => {
                    select_logits_with_mask(&[logits.shallow_clone()], &[input("mask")])
                        .map(|mut selected| selected.remove(0))
                }
                _ => panic!("{label}: a function this test does not know"),
            };
            assert_close(
                &label,
                &got.unwrap_or_else(|error| failed(&error)),
                &expected(),
            );
            assert_eq!(logits, before, "{label}: the input was changed");
        }
    }
    println!("functions.json: {} cases", cases.len());
}

fn integers(list: &Value) -> Vec<i64> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|n| n.as_i64().expect("a whole number"))
        .collect()
}

/// What an augmentation of this name gives; none if it is another function. The cases leave
/// nothing to chance.
fn augmented(function: &str, params: &Value) -> Option<Result<Vec<i64>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let numbers = |list: &Value| -> Vec<f64> {
        let list = list.as_array().expect("a list");
        list.iter().map(|p| p.as_f64().expect("a number")).collect()
    };
    let tokens = || integers(&params["tokens"]);
    let p = || params["p"].as_f64().expect("`p`");
    Some(match function {
        "masking" => {
            let mask = params["mask"].as_i64().expect("`mask`");
            masking(&tokens(), p(), mask, &mut rng)
        }
        "deleting" => deleting(&tokens(), p(), &mut rng),
        "n_gram_sampling" => {
            let lengths = integers(&params["l_ng"]);
            let lengths: Vec<usize> = lengths.iter().map(|&n| n as usize).collect();
            n_gram_sampling(&tokens(), &numbers(&params["p_ng"]), &lengths, &mut rng)
        }
        "short_disorder" => {
            let p = numbers(&params["p"]).try_into().expect("five numbers");
            short_disorder(&tokens(), p, &mut rng)
        }
        "long_disorder" => {
            let length = params["length"].as_f64().expect("`length`");
            long_disorder(&tokens(), p(), length.into(), &mut rng)
        }
        _ => return None,
    })
}

fn temperature(
    presets: &Presets,
    name: &str,
    case: &Value,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<Temperature> {
    let params = case["params"].as_object().expect("`params`");
    let number = |value: &Value| value.as_f64().expect("a number");
    let arguments = params
        .iter()
        .filter(|(key, _)| *key != "base_temperature")
        .map(|(key, value)| (key.as_str(), number(value)));
    let spec = PresetSpec::new(name).named(arguments);
    let scheduler = presets
        .find_temperature_scheduler("temperature_scheduler", Some(&spec))?
        .expect("a name was given");
    scheduler(student, teacher, number(&params["base_temperature"]))
}
