//! Weights of positions and of examples.

use crate::common::{elements, waves};
use tch::{Kind, Tensor};

use crate::dkd::*;

#[test]
fn weights_of_0_and_1_give_what_a_mask_gives() {
    let tokens = tokens();
    let Tokens {
        mask,
        labels,
        expected,
        ..
    } = &tokens;
    // Without a mask, every label has to be a class.
    let classes = labels.clamp_min(0);
    let (masked, by_mask) = tokens.gradient(labels, Some(mask), None);
    let (weighted, by_weight) = tokens.gradient(&classes, None, Some(mask));
    let both = tokens.gradient(labels, Some(mask), Some(&mask.to_kind(Kind::Double)));
    for got in [masked, weighted, both.0] {
        assert_near("loss", got, *expected);
    }
    for ((a, b), c) in by_mask.iter().zip(&by_weight).zip(&both.1) {
        assert!(
            (a - b).abs() < 1e-12 && (a - c).abs() < 1e-12,
            "{a} {b} {c}"
        );
    }
    assert!(by_weight[4..8].iter().all(|gradient| *gradient == 0.0));
}

#[test]
fn weights_of_examples_are_those_of_all_their_positions() {
    let Tokens {
        student,
        teacher,
        mask,
        ..
    } = tokens();
    let of_examples = Tensor::from_slice(&[3.0, 0.5]);
    let of_positions = of_examples.unsqueeze(1).expand([2, 3], false).copy();
    for name in &at_positions(&presets()).1 {
        for masked in [false, true] {
            let with = |weights: &Tensor| {
                let (mut s, mut t) = (output(&student).logits_weights(weights), output(&teacher));
                if masked {
                    (s, t) = (s.logits_mask(&mask), t.logits_mask(&mask));
                }
                number(loss(name, &s, &t))
            };
            assert_eq!(with(&of_examples), with(&of_positions), "{name}");
        }
    }
}

/// Every loss of the crate, weighted: by its unweighted value on one position at a time.
#[test]
fn the_losses_of_the_crate_can_be_weighted() {
    let (student, teacher) = (waves(&[2, 3, 4], 0.1) * 3.0, waves(&[2, 3, 4], 0.5) * 3.0);
    let weights = waves(&[2, 3], 0.7) + 1.5;
    for name in &at_positions(&presets()).1 {
        let (mut sum, mut total) = (0.0, 0.0);
        for (batch, position) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let only = |logits: &Tensor| output(&logits.get(batch).get(position).unsqueeze(0));
            let weight = weights.double_value(&[batch, position]);
            sum += weight * number(loss(name, &only(&student), &only(&teacher)));
            total += weight;
        }
        let weighted = output(&student).logits_weights(&weights);
        let got = number(loss(name, &weighted, &output(&teacher)));
        assert_near(name, got, sum / total);
        // Weights that are all alike change nothing but the last bits.
        let alike = output(&student).logits_weights(&(weights.ones_like() * 0.3));
        let got = number(loss(name, &alike, &output(&teacher)));
        let plain = number(loss(name, &output(&student), &output(&teacher)));
        assert_near(name, got, plain);
    }
}

#[test]
fn all_weights_of_0_are_a_loss_of_0() {
    let Tokens {
        student,
        teacher,
        labels,
        ..
    } = tokens();
    for name in &at_positions(&presets()).0 {
        let leaf = student.copy().set_requires_grad(true);
        let nothing = output(&leaf)
            .labels(&labels.clamp_min(0))
            .logits_weights(&Tensor::from_slice(&[0i64, 0]));
        let loss = loss(name, &nothing, &output(&teacher)).unwrap();
        assert_eq!(loss.double_value(&[]), 0.0, "{name}");
        loss.backward();
        assert!(elements(&leaf.grad()).iter().all(|g| *g == 0.0), "{name}");
    }
}
