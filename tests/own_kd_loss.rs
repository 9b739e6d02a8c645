//! A user's loss on logits at each position: labels, masks, weights, and the batch.

mod common;
#[path = "kd_cases/dkd.rs"]
mod dkd;
#[path = "kd_cases/labels.rs"]
mod labels;
#[path = "kd_cases/weights.rs"]
mod weights;

use common::said::kd_loss_of;
use common::{elements, waves};
use tch::Tensor;
use textbrewer::losses::support::ScalarOps;
use textbrewer::{AdaptorOutput, DistillationConfig, Presets};

use dkd::*;

#[test]
fn each_of_several_logits_has_its_own_labels_and_weights() {
    let (student, teacher) = (waves(&[3, 4], 0.1) * 3.0, waves(&[3, 4], 0.5) * 3.0);
    let (first, second) = (
        Tensor::from_slice(&[2i64, 0, 3]),
        Tensor::from_slice(&[1i64, 1, 0]),
    );
    let weights = Tensor::from_slice(&[1.0, 2.0, 4.0]);
    let one = |labels: &Tensor, weights: &Tensor| {
        let student = output(&student).labels(labels).logits_weights(weights);
        number(loss("dkd", &student, &output(&teacher)))
    };
    let both = || {
        output(&student)
            .logits(&student)
            .labels(&first)
            .labels(&second)
    };
    let teachers = output(&teacher).logits(&teacher);
    let got = number(loss("dkd", &both().logits_weights(&weights), &teachers));
    let expected = one(&first, &weights) + one(&second, &weights);
    assert_near("one tensor of weights for both", got, expected);
    let other = Tensor::from_slice(&[0.0, 1.0, 0.0]);
    let of_each = both().logits_weights(&weights).logits_weights(&other);
    let expected = one(&first, &weights) + one(&second, &other);
    assert_near(
        "one for each",
        number(loss("dkd", &of_each, &teachers)),
        expected,
    );
}

#[test]
fn gradients_are_those_of_central_differences() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        ..
    } = tokens();
    let weights = waves(&[2, 3], 0.3) + 1.5;
    let teacher = output(&teacher).logits_mask(&mask);
    let (all, _) = at_positions(&presets());
    // The weights of the one and the target of the other are constants for the gradient, though they
    // depend on the student.
    let not_all = ["adaptive_kl", "taid"];
    for name in all.iter().filter(|name| !not_all.contains(&name.as_str())) {
        let value = |student: &Tensor| {
            let student = output(student).logits_mask(&mask).labels(&labels);
            loss(name, &student.logits_weights(&weights), &teacher).unwrap()
        };
        let leaf = student.copy().set_requires_grad(true);
        value(&leaf).backward();
        for (index, gradient) in elements(&leaf.grad()).into_iter().enumerate() {
            let moved = |by: f64| {
                let nearby = student.copy();
                let _ = nearby.view([-1]).get(index as i64).g_add_scalar_(by);
                value(&nearby).double_value(&[])
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let near = (gradient - difference).abs() <= 1e-8 + 1e-6 * difference.abs();
            assert!(
                near,
                "{name}, {index}: {gradient}, by differences {difference}"
            );
        }
    }
}

#[test]
fn a_loss_finds_the_batch_and_the_step() {
    let presets = Presets::default().kd_loss_per_position("of the batch", |input| {
        let batch: &(Tensor, i64) = input.batch()?;
        assert_eq!(input.step, step());
        Ok(batch.0.times(batch.1)?)
    });
    let config = DistillationConfig::default().kd_loss_type("of the batch");
    let logits = output(&waves(&[2, 4], 0.1));
    let both = (&logits, &logits);
    let batch = (Tensor::from_slice(&[1.0, 3.0]), 5i64);
    let loss = kd_loss_of(both, config.clone(), presets.clone(), (&batch, &step()));
    assert_eq!(number(loss), 10.0);
    let error = kd_loss_of(both, config, presets, (&3i64, &step())).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("batch of a loss on logits: expected the loader's batches"));
}

#[test]
fn what_cannot_be_is_told() {
    let logits = waves(&[2, 3, 4], 0.1);
    let presets = Presets::default()
        .kd_loss("one number", textbrewer::losses::kd_ce)
        .kd_loss_per_position("of each class", |input| input.student.whole())
        .kd_loss_with_labels("dkd", dkd);
    let message = |name: &str, student: AdaptorOutput| {
        let config = DistillationConfig::default().kd_loss_type(name);
        let both = (&student, &output(&logits));
        let result = kd_loss_of(both, config, presets.clone(), (&(), &step()));
        result.unwrap_err().to_string()
    };
    let weights = Tensor::from_slice(&[1.0, 2.0]);
    assert_eq!(
        message("one number", output(&logits).logits_weights(&weights)),
        "logits_weights: expected a loss that is computed at each position \
         (`kd_loss_per_position` registers it), got a loss that gives one number for all \
         positions (`kd_loss`)"
    );
    assert_eq!(
        message("of each class", output(&logits)),
        "kd_loss_type `of each class`: losses at the positions of logits: expected [2, 3], one for \
         each position (a mean or sum over the classes), got [2, 3, 4]"
    );
    assert_eq!(
        message("ce", output(&logits).logits_weights(&waves(&[3], 0.1))),
        "logits_weights: expected one for each position, [2, 3], or for each example, got [3]"
    );
    let negative = Tensor::from_slice(&[1.0, -1.0]);
    assert_eq!(
        message("ce", output(&logits).logits_weights(&negative)),
        "logits_weights: expected numbers of at least 0, got -1"
    );
    let two = output(&logits)
        .logits_weights(&weights)
        .logits_weights(&weights);
    assert_eq!(
        message("ce", two),
        "logits_weights: expected one tensor of weights, or one for each of the 1 tensors of \
         logits, got 2 tensors"
    );
    let without = message("dkd", output(&logits));
    assert!(without.contains("`labels`"), "{without}");
    assert_eq!(
        message(
            "dkd",
            output(&logits).labels(&Tensor::from_slice(&[1i64, 2]))
        ),
        "labels of logits: expected [2, 3], one for each position, got [2]"
    );
    // A loss that asks for no labels does not mind.
    let student = output(&logits).labels(&Tensor::from_slice(&[1i64, 2]));
    let config = DistillationConfig::default();
    let both = (&student, &output(&logits));
    let _ = kd_loss_of(both, config, presets, (&(), &step())).unwrap();
}

#[test]
fn the_teacher_gets_no_gradient() {
    let teacher = waves(&[3, 4], 0.5).set_requires_grad(true);
    let student = waves(&[3, 4], 0.1).set_requires_grad(true);
    let labels = Tensor::from_slice(&[1i64, 0, 3]);
    for name in Presets::default().kd_losses() {
        let student = output(&student).labels(&labels);
        loss(name, &student, &output(&teacher)).unwrap().backward();
        assert!(!teacher.grad().defined(), "{name}");
    }
    assert!(student.grad().defined());
}
