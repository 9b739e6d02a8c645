//! Losses for several labels and for numbers: PyTorch's values, closed forms, extremes.

mod common;

use std::path::Path;

use common::tiny::{Net, batches, config, general, loader};
use common::{close, elements, read_json, waves};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{Temperature, kd_bce, kd_mse, regression_mse, smooth_l1};
use textbrewer::{
    AdamW, DistillationConfig, Distiller, Error, KdInput, MemorySink, Model, Presets, Result,
};

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
            .find_kd_loss("kd_loss_type", name)
            .unwrap();
        let student = rows(&reference["student"]).set_requires_grad(true);
        let input = KdInput::new(&student, rows(&reference["teacher"]), temperature).unwrap();
        let loss = loss.apply(&input).unwrap();
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
        let loss = presets.find_kd_loss("kd_loss_type", name).unwrap();
        let input = KdInput::new(&student, &teacher, temperature).unwrap();
        number(loss.apply(&input))
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

/// What each loss is, in plain numbers, at temperature 2.
fn by_hand(name: &str, student: &[f64], teacher: &[f64]) -> f64 {
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z / 2.0).exp());
    let pairs = student.iter().zip(teacher);
    match name {
        "bce" => {
            let losses = pairs.map(|(s, t)| {
                let (p, q) = (sigmoid(*t), sigmoid(*s));
                -p * q.ln() - (1.0 - p) * (1.0 - q).ln()
            });
            losses.sum::<f64>() / student.len() as f64
        }
        "regression_mse" => pairs.map(|(s, t)| (s - t).powi(2)).sum::<f64>() / student.len() as f64,
        "kl" => {
            // The softmax of two logits is the sigmoid of their distance.
            let examples = student.chunks(2).zip(teacher.chunks(2)).map(|(s, t)| {
                let (p, q) = (sigmoid(t[0] - t[1]), sigmoid(s[0] - s[1]));
                4.0 * (p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln())
            });
            examples.sum::<f64>() / (student.len() / 2) as f64
        }
        _ => panic!("no formula of {name}"),
    }
}

#[test]
fn a_run_with_a_loss_by_name_brings_the_student_to_the_teacher() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bce", "regression_mse", "kl"] {
        let (teacher, student) = (Net::new(3, 5, 0.1), Net::new(2, 4, 0.2));
        let logits = |net: &Net| {
            let of = |batch: &Tensor| elements(&net.forward(batch, false).unwrap().logits);
            batches(2).iter().map(of).collect::<Vec<_>>()
        };
        let targets = logits(&teacher);
        // How far the student is from the least that the loss can be.
        let excess = |student: &[f64], teacher: &[f64]| {
            by_hand(name, student, teacher) - by_hand(name, teacher, teacher)
        };
        let first = logits(&student);
        let json = format!(r#"{{"kd_loss_type": "{name}", "temperature": 2}}"#);
        let distill_config = DistillationConfig::from_json_str(&json).unwrap();
        let train_config = config(folder.path());
        let mut distiller = general(&teacher, &student, train_config, distill_config).unwrap();
        let (sink, mut loader) = (MemorySink::new(), loader(2));
        let run = distiller.train(&mut loader).log_sink(sink.clone());
        run.optimizer(AdamW::new(0.05)).steps(150).run().unwrap();

        let (_, got) = sink.curve("scalar/unweighted_kd_loss")[0];
        let expected = by_hand(name, &first[0], &targets[0]);
        assert!(close(got, expected), "{name}: {got}, not {expected}");
        for ((first, last), target) in first.iter().zip(logits(&student)).zip(&targets) {
            let (first, last) = (excess(first, target), excess(&last, target));
            assert!(last < 0.02 * first, "{name}: {last} after {first}");
        }
    }
}
