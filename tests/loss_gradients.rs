//! The gradient of each loss against central differences in double precision.

mod common;

use common::{elements, waves};
use tch::Tensor;
use textbrewer::Result;
use textbrewer::losses::{
    Temperature, attention_ce, attention_ce_mean, attention_mse, attention_mse_sum, cos, fsp,
    hidden_mse, kd_bce, kd_ce, kd_kl, kd_mse, mmd, pkd, regression_mse, smooth_l1,
};

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

type LossOnNumbers = fn(&Tensor, &Tensor) -> Result<Tensor>;
type KdLoss = fn(&Tensor, &Tensor, &Temperature) -> Result<Tensor>;
type MatchLoss = fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>;
type MatchOnSeveral = fn(&[Tensor], &[Tensor], Option<&Tensor>) -> Result<Tensor>;

#[test]
fn losses_on_logits() {
    let losses: [(&str, KdLoss); 4] = [
        ("kd_ce", kd_ce),
        ("kd_mse", kd_mse),
        ("kd_kl", kd_kl),
        ("kd_bce", kd_bce),
    ];
    for (name, loss) in losses {
        for shape in [&[3, 5][..], &[3, 4, 5]] {
            let positions = &shape[..shape.len() - 1];
            let teacher = waves(shape, 0.4) * 3.0;
            for temperature in [
                Temperature::Constant(1.0),
                Temperature::Constant(2.5),
                Temperature::Each(waves(positions, 0.9) + 2.0),
                Temperature::Each(waves(&[3], 0.9) + 2.0),
            ] {
                let name = format!("{name} {shape:?} {temperature:?}");
                check(&name, &[waves(shape, 0.1) * 2.0], |student| {
                    loss(&student[0], &teacher, &temperature)
                });
            }
        }
    }
}

#[test]
fn losses_on_numbers() {
    let losses: [(&str, LossOnNumbers); 2] =
        [("regression_mse", regression_mse), ("smooth_l1", smooth_l1)];
    for (name, loss) in losses {
        for shape in [&[7][..], &[7, 1], &[3, 5]] {
            let (student, teacher) = (waves(shape, 0.1), waves(shape, 0.4) * 2.0);
            let distance = (&student - &teacher).abs();
            assert!(
                distance.max().double_value(&[]) > 1.0 && distance.min().double_value(&[]) < 1.0
            );
            check(&format!("{name} {shape:?}"), &[student], |student| {
                loss(&student[0], &teacher)
            });
        }
    }
}

#[test]
fn losses_on_attentions() {
    let losses: [(&str, MatchLoss, &[&[i64]]); 4] = [
        ("attention_mse", attention_mse, &[&[3, 2, 4, 4]]),
        ("attention_ce", attention_ce, &[&[3, 2, 4, 4]]),
        (
            "attention_mse_sum",
            attention_mse_sum,
            &[&[3, 2, 4, 4], &[3, 4, 4]],
        ),
        (
            "attention_ce_mean",
            attention_ce_mean,
            &[&[3, 2, 4, 4], &[3, 4, 4]],
        ),
    ];
    let mask = mask();
    for (name, loss, shapes) in losses {
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
                    loss(&student[0], &teacher, mask)
                });
            }
        }
    }
}

#[test]
fn losses_on_hidden_states() {
    let losses: [(&str, MatchLoss); 3] = [("hidden_mse", hidden_mse), ("cos", cos), ("pkd", pkd)];
    let mask = mask();
    let teacher = waves(&[3, 4, 6], 0.4);
    for (name, loss) in losses {
        for mask in [None, Some(&mask)] {
            let name = format!("{name} {}", kind(mask));
            check(&name, &[waves(&[3, 4, 6], 0.1)], |student| {
                loss(&student[0], &teacher, mask)
            });
        }
    }
    let teacher = waves(&[3, 6], 0.4);
    check("pkd of pooled states", &[waves(&[3, 6], 0.1)], |student| {
        pkd(&student[0], &teacher, None)
    });
}

#[test]
fn losses_on_two_layers() {
    let losses: [(&str, MatchOnSeveral, i64); 2] = [("fsp", fsp, 6), ("mmd", mmd, 9)];
    let mask = mask();
    for (name, loss, teacher_hidden) in losses {
        let teacher = [0.4, 0.7].map(|seed| waves(&[3, 4, teacher_hidden], seed));
        for mask in [None, Some(&mask)] {
            let name = format!("{name} {}", kind(mask));
            let student = [0.1, 0.2].map(|seed| waves(&[3, 4, 6], seed));
            check(&name, &student, |student| loss(student, &teacher, mask));
        }
    }
}

fn kind(mask: Option<&Tensor>) -> &'static str {
    mask.map_or("without a mask", |_| "with a mask")
}
