//! Losses for several labels and for numbers: PyTorch's values, closed forms, extremes.

mod common;

use std::path::Path;

use common::{elements, read_json, waves};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{kd_bce, kd_mse, regression_mse, smooth_l1, Temperature};
use textbrewer::{Error, Presets, Result};

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().expect("a list");
    list.iter().map(|n| n.as_f64().expect("a number")).collect()
}

fn rows(list: &Value) -> Tensor {
    let rows: Vec<_> = list.as_array().expect("rows").iter().map(numbers).collect();
    Tensor::from_slice2(&rows)
}

fn number(loss: Result<Tensor>) -> f64 {
    loss.unwrap().double_value(&[])
}

fn near(got: f64, expected: f64) -> bool {
    (got - expected).abs() <= 1e-12 * expected.abs().max(1.0)
}

/// `reference/kd_losses.json`, made by `reference/kd_losses.py`.
#[test]
fn values_and_gradients_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = read_json(&folder.join("tests/reference/kd_losses.json"));
    let cases = reference["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let temperature = match &case["temperature"] {
            Value::Array(_) => {
                Temperature::Each(Tensor::from_slice(&numbers(&case["temperature"])))
            }
            value => Temperature::Constant(value.as_f64().unwrap()),
        };
        let name = case["loss"].as_str().unwrap();
        let loss = Presets::default()
            .kd_loss_named("kd_loss_type", name)
            .unwrap();
        let student = rows(&reference["student"]).set_requires_grad(true);
        let loss = loss(&student, &rows(&reference["teacher"]), &temperature).unwrap();
        loss.backward();
        let label = format!("{name}, temperature {}", case["temperature"]);
        let (got, expected) = (loss.double_value(&[]), case["expected"].as_f64().unwrap());
        assert!(near(got, expected), "{label}: {got}, expected {expected}");
        let gradients = elements(&student.grad())
            .into_iter()
            .zip(numbers(&case["gradient"]));
        for (i, (got, expected)) in gradients.enumerate() {
            assert!(
                near(got, expected),
                "{label}, gradient {i}: {got}, expected {expected}"
            );
        }
    }
}

#[test]
fn binary_cross_entropy_by_its_formula() {
    let (student, teacher) = (waves(&[3, 4, 5], 0.1) * 2.0, waves(&[3, 4, 5], 0.4) * 3.0);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let tau = 2.5;
    let mut sum = 0.0;
    for (s, t) in elements(&student).into_iter().zip(elements(&teacher)) {
        let (p, q) = (sigmoid(t / tau), sigmoid(s / tau));
        sum -= p * q.ln() + (1.0 - p) * (1.0 - q).ln();
    }
    let got = number(kd_bce(&student, &teacher, &Temperature::Constant(tau)));
    assert!(near(got, sum / 60.0), "{got}");

    // One temperature for each position: the same as dividing by hand.
    let each = waves(&[3, 4], 0.9) + 2.0;
    let scaled = |logits: &Tensor| logits / each.unsqueeze(-1);
    let by_hand = kd_bce(
        &scaled(&student),
        &scaled(&teacher),
        &Temperature::Constant(1.0),
    );
    let got = number(kd_bce(&student, &teacher, &Temperature::Each(each.copy())));
    assert!(near(got, number(by_hand)), "{got}");
}

#[test]
fn labels_do_not_compete() {
    // A change of one label's logit leaves the gradients of the others alone, which a
    // softmax would not.
    let teacher = Tensor::from_slice2(&[[1.0, 1.0, -1.0]]);
    let gradient = |first: f64| {
        let student = Tensor::from_slice2(&[[first, 0.5, 0.2]]).set_requires_grad(true);
        let loss = kd_bce(&student, &teacher, &Temperature::Constant(2.0)).unwrap();
        loss.backward();
        elements(&student.grad())
    };
    let (low, high) = (gradient(-3.0), gradient(3.0));
    assert_ne!(low[0], high[0]);
    assert_eq!(low[1..], high[1..]);
    // The student agrees exactly where it has the teacher's logit.
    assert_eq!(gradient(1.0)[0], 0.0);
}

#[test]
fn large_logits_stay_finite() {
    for kind in [Kind::Float, Kind::Double] {
        let logits = |values: &[f64]| Tensor::from_slice(values).to_kind(kind).view([1, -1]);
        let student = logits(&[1000.0, -1000.0, 1000.0, -1000.0]).set_requires_grad(true);
        let teacher = logits(&[1000.0, -1000.0, -1000.0, 1000.0]);
        let loss = kd_bce(&student, &teacher, &Temperature::Constant(2.0)).unwrap();
        // Right twice, wrong twice by 500 each.
        assert_eq!(loss.double_value(&[]), 250.0, "{kind:?}");
        loss.backward();
        assert_eq!(
            elements(&student.grad()),
            [0.0, 0.0, 0.125, -0.125],
            "{kind:?}"
        );
    }
}

#[test]
fn regression_knows_no_temperature() {
    let (student, teacher) = (waves(&[6, 2], 0.1), waves(&[6, 2], 0.4) * 2.0);
    let presets = Presets::default();
    let run = |name: &str, temperature: f64| {
        let loss = presets.kd_loss_named("kd_loss_type", name).unwrap();
        number(loss(
            &student,
            &teacher,
            &Temperature::Constant(temperature),
        ))
    };
    for name in ["regression_mse", "smooth_l1"] {
        assert_eq!(run(name, 1.0), run(name, 8.0), "{name}");
    }
    let squared = number(kd_mse(&student, &teacher, &Temperature::Constant(1.0)));
    assert!(near(run("regression_mse", 8.0), squared));

    let differences = elements(&(&student - &teacher)).into_iter().map(f64::abs);
    let smooth = differences.map(|d| if d < 1.0 { d * d / 2.0 } else { d - 0.5 });
    assert!(near(run("smooth_l1", 8.0), smooth.sum::<f64>() / 12.0));
}

#[test]
fn shapes_that_would_broadcast_are_refused() {
    let (column, row) = (waves(&[4, 1], 0.1), waves(&[4], 0.2));
    let one = Temperature::Constant(1.0);
    for (name, loss) in [
        ("kd_bce", kd_bce(&column, &row, &one)),
        ("regression_mse", regression_mse(&column, &row)),
        ("smooth_l1", smooth_l1(&column, &row)),
    ] {
        match loss {
            Err(Error::Shape { what, got, .. }) => {
                assert_eq!(what, name);
                assert_eq!(got, "student [4, 1] and teacher [4]");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let each = Temperature::Each(Tensor::ones([3], (Kind::Double, Device::Cpu)));
    assert!(matches!(
        kd_bce(&column, &column, &each),
        Err(Error::Shape { .. })
    ));
}
