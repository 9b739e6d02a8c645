//! The gradient of each loss against central differences in double precision.

mod common;

use common::{elements, waves};
use tch::Tensor;
use textbrewer::losses::{Temperature, pkd};
use textbrewer::{KdInput, MatchLoss, PresetSpec, Presets, Result};

const STEP: f64 = 1e-5;

/// Compares d loss / d student, for one or several tensors of the student.
fn check(name: &str, student: &[Tensor], loss: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let value = |student: &[Tensor]| -> f64 {
        let loss = loss(student).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(loss.dim(), 0, "{name}: not a scalar");
        loss.double_value(&[])
    };
    let leaves: Vec<Tensor> = student
        .iter()
        .map(|tensor| tensor.copy().set_requires_grad(true))
        .collect();
    loss(&leaves).unwrap().backward();

    let mut largest: f64 = 0.0;
    for (which, leaf) in leaves.iter().enumerate() {
        for (index, gradient) in elements(&leaf.grad()).into_iter().enumerate() {
            let moved = |by: f64| -> f64 {
                let nearby: Vec<Tensor> = student.iter().map(Tensor::copy).collect();
                let mut element = nearby[which].view([-1]).get(index as i64);
                let _ = element.g_add_scalar_(by);
                value(&nearby)
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!(
                (gradient - difference).abs() <= 1e-8 + 1e-6 * difference.abs(),
                "{name}, tensor {which}, element {index}: {gradient}, by differences {difference}"
            );
            largest = largest.max(gradient.abs());
        }
    }
    assert!(largest > 1e-4, "{name}: no gradient to speak of");
}

fn mask() -> Tensor {
    Tensor::from_slice2(&[[1i64, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]])
}

/// Losses between numbers. All others that are registered as losses on logits are taken for such.
/// The weights of the one and the target of the other are constants for the gradient, though they
/// depend on the student.
const NOT_ALL_OF_IT: [&str; 2] = ["adaptive_kl", "taid"];
const NUMBERS: [&str; 2] = ["regression_mse", "smooth_l1"];
/// Losses between features, by what they are between.
const ATTENTIONS: [&str; 4] = [
    "attention_ce",
    "attention_ce_mean",
    "attention_mse",
    "attention_mse_sum",
];
const HIDDEN_STATES: [&str; 3] = ["cos", "hidden_mse", "pkd"];
/// Losses between how examples relate to each other.
const EXAMPLES: [&str; 5] = ["cka", "pkt", "rkd_angle", "rkd_distance", "sp"];
/// It takes four examples.
const MORE_EXAMPLES: &str = "cka_unbiased";
/// Losses between queries, keys and values.
const RELATIONS: [&str; 2] = ["minilm", "minilmv2"];
/// What it divides by is a constant for the gradient; `tests/golden` has gradients of it.
const NORMALIZED: &str = "crd";
const TWO_LAYERS: [&str; 4] = ["fsp", "gram", "mmd", "nst"];

#[test]
fn no_registered_loss_is_left_out() {
    let presets = Presets::default();
    let mut checked = [
        &ATTENTIONS[..],
        &HIDDEN_STATES,
        &EXAMPLES,
        &[MORE_EXAMPLES],
        &RELATIONS,
        &[NORMALIZED],
        &TWO_LAYERS,
    ]
    .concat();
    checked.sort_unstable();
    let known: Vec<&str> = presets.match_losses().collect();
    assert_eq!(checked, known, "put a new one into one of the lists above");
    let known: Vec<&str> = presets.kd_losses().collect();
    assert!(NUMBERS.iter().all(|name| known.contains(name)), "{known:?}");
}

fn match_loss(loss: impl Into<PresetSpec>) -> MatchLoss {
    Presets::default().find_match_loss("loss", loss).unwrap()
}

#[test]
fn losses_on_logits() {
    let presets = Presets::default();
    let checked = |name: &&str| !NUMBERS.contains(name) && !NOT_ALL_OF_IT.contains(name);
    for name in presets.kd_losses().filter(checked) {
        let loss = presets.find_kd_loss("kd_loss_type", name).unwrap();
        for shape in [&[3, 5][..], &[3, 4, 5]] {
            let positions = &shape[..shape.len() - 1];
            let teacher = waves(shape, 0.4) * 3.0;
            let labels = teacher.argmin(-1, false);
            for temperature in [
                Temperature::Constant(1.0),
                Temperature::Constant(2.5),
                Temperature::Each(waves(positions, 0.9) + 2.0),
                Temperature::Each(waves(&[3], 0.9) + 2.0),
            ] {
                let name = format!("{name} {shape:?} {temperature:?}");
                check(&name, &[waves(shape, 0.1) * 2.0], |student| {
                    let input = KdInput::new(&student[0], &teacher, &temperature)?;
                    loss.apply(&input.with_labels(&labels))
                });
            }
        }
    }
}

#[test]
fn losses_on_numbers() {
    for name in NUMBERS {
        let loss = Presets::default()
            .find_kd_loss("kd_loss_type", name)
            .unwrap();
        for shape in [&[7][..], &[7, 1], &[3, 5]] {
            let (student, teacher) = (waves(shape, 0.1), waves(shape, 0.4) * 2.0);
            let distance = (&student - &teacher).abs();
            assert!(
                distance.max().double_value(&[]) > 1.0 && distance.min().double_value(&[]) < 1.0
            );
            check(&format!("{name} {shape:?}"), &[student], |student| {
                loss.apply(&KdInput::new(&student[0], &teacher, 1.0)?)
            });
        }
    }
}

#[test]
fn losses_on_attentions() {
    let mask = mask();
    for name in ATTENTIONS {
        let loss = match_loss(name);
        let shapes: &[&[i64]] = match name {
            "attention_mse" | "attention_ce" => &[&[3, 2, 4, 4]],
            _ => &[&[3, 2, 4, 4], &[3, 4, 4]],
        };
        for shape in shapes {
            let (student, teacher) = (waves(shape, 0.1), waves(shape, 0.4));
            // Differences across the jump at −1e-3 would mean nothing.
            let summed = match shape.len() {
                4 => student.sum_dim_intlist([1i64].as_slice(), false, None),
                _ => student.shallow_clone(),
            };
            for values in [&student, &summed] {
                let nearest = (values + 1e-3).abs().min().double_value(&[]);
                assert!(nearest > 1e-4, "an element is too near −1e-3");
            }
            for mask in [None, Some(&mask)] {
                let name = format!("{name} {shape:?} {}", kind(mask));
                check(&name, &[student.copy()], |student| {
                    loss.apply(student, &[teacher.shallow_clone()], mask)
                });
            }
        }
    }
}

#[test]
fn losses_on_hidden_states() {
    let mask = mask();
    let teacher = [waves(&[3, 4, 6], 0.4)];
    for name in HIDDEN_STATES {
        let loss = match_loss(name);
        for mask in [None, Some(&mask)] {
            let name = format!("{name} {}", kind(mask));
            check(&name, &[waves(&[3, 4, 6], 0.1)], |student| {
                loss.apply(student, &teacher, mask)
            });
        }
    }
    let teacher = waves(&[3, 6], 0.4);
    check("pkd of pooled states", &[waves(&[3, 6], 0.1)], |student| {
        pkd(&student[0], &teacher, None)
    });
}

#[test]
fn losses_on_examples() {
    let four = Tensor::from_slice2(&[[1i64, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]);
    for name in EXAMPLES.iter().chain([&MORE_EXAMPLES]) {
        let loss = match_loss(*name);
        for (mask, width) in [(None, 5), (Some(&four), 6)] {
            let teacher = [waves(&[4, 3, width], 0.4)];
            let name = format!("{name} {}", kind(mask));
            check(&name, &[waves(&[4, 3, 6], 0.1)], |student| {
                loss.apply(student, &teacher, mask)
            });
        }
    }
}

#[test]
fn losses_on_queries_keys_and_values() {
    let mask = mask();
    let teacher = [waves(&[3, 3, 4, 9], 0.4) * 2.0];
    for name in RELATIONS {
        for heads in [1.0, 3.0] {
            let loss = match_loss((name, [heads]));
            for mask in [None, Some(&mask)] {
                let name = format!("{name} of {heads} heads {}", kind(mask));
                check(&name, &[waves(&[3, 3, 4, 6], 0.1)], |student| {
                    loss.apply(student, &teacher, mask)
                });
            }
        }
    }
}

#[test]
fn losses_on_two_layers() {
    let mask = mask();
    for name in TWO_LAYERS {
        let loss = match_loss(name);
        let teacher_hidden = if matches!(name, "mmd" | "nst") { 9 } else { 6 };
        let teacher = [0.4, 0.7].map(|seed| waves(&[3, 4, teacher_hidden], seed));
        for mask in [None, Some(&mask)] {
            let name = format!("{name} {}", kind(mask));
            let student = [0.1, 0.2].map(|seed| waves(&[3, 4, 6], seed));
            check(&name, &student, |student| {
                loss.apply(student, &teacher, mask)
            });
        }
    }
}

fn kind(mask: Option<&Tensor>) -> &'static str {
    mask.map_or("without a mask", |_| "with a mask")
}
