//! Positions with and without a label.

use crate::common::{elements, waves};
use tch::{Kind, Tensor};
use textbrewer::losses::support::at_temperature;
use textbrewer::{KdInput, Logits, Presets};

use crate::dkd::*;

#[test]
fn of_classes_it_is_the_closed_form() {
    let (student, teacher) = (waves(&[3, 4], 0.1) * 3.0, waves(&[3, 4], 0.5) * 3.0);
    let classes = [2usize, 0, 3];
    let labels = Tensor::from_slice(&classes.map(|label| label as i64));
    let (s, t) = (elements(&student), elements(&teacher));
    let each: Vec<f64> = classes
        .iter()
        .enumerate()
        .map(|(i, &label)| dkd_of(&s[4 * i..4 * i + 4], &t[4 * i..4 * i + 4], label))
        .collect();
    let plain = output(&student).labels(&labels);
    let got = number(loss("dkd", &plain, &output(&teacher)));
    assert_near("mean", got, each.iter().sum::<f64>() / 3.0);

    let weights = [2.0, 0.0, 0.5];
    let weighted = plain.logits_weights(&Tensor::from_slice(&weights));
    let got = number(loss("dkd", &weighted, &output(&teacher)));
    let sum: f64 = each.iter().zip(weights).map(|(l, w)| l * w).sum();
    assert_near("weighted", got, sum / 2.5);
}

#[test]
fn labels_travel_with_the_positions_that_a_mask_selects() {
    let Tokens {
        student,
        teacher,
        mask,
        labels,
        expected,
    } = tokens();
    let teacher = output(&teacher).logits_mask(&mask);
    for labels in [&labels, &labels.reshape([6])] {
        let student = output(&student).logits_mask(&mask).labels(labels);
        let got = number(loss("dkd", &student, &teacher));
        assert_near("masked", got, expected);
    }
}

#[test]
fn positions_without_a_label_are_left_out() {
    let tokens = tokens();
    let Tokens { mask, expected, .. } = &tokens;
    let gradient = |mask: Option<&Tensor>, weights: Option<&Tensor>| {
        tokens.gradient(&tokens.labels, mask, weights)
    };
    let (alone, by_label) = gradient(None, None);
    assert_near("by labels", alone, *expected);
    assert_eq!((alone, by_label.clone()), gradient(Some(mask), None));
    assert!(by_label[4..8].iter().all(|gradient| *gradient == 0.0));
    // With weights, of positions or of examples.
    for weights in [waves(&[2, 3], 0.7) + 1.5, Tensor::from_slice(&[3.0, 0.5])] {
        let (masked, by_mask) = gradient(Some(mask), Some(&weights));
        assert_eq!(gradient(None, Some(&weights)), (masked, by_mask));
        assert_ne!(masked, alone);
    }
    // A mask may keep positions without a label.
    let all = mask.ones_like();
    assert_eq!(gradient(Some(&all), None), (alone, by_label));
}

#[test]
fn a_temperature_of_each_is_that_of_the_positions_with_labels() {
    let Tokens {
        student,
        teacher,
        labels,
        ..
    } = tokens();
    let presets = Presets::default().kd_loss_with_labels("ce", |input| {
        let logits = |logits: &Logits| at_temperature("ce", &logits.whole()?, &input.temperature);
        let logs = logits(&input.student)?.f_log_softmax(-1, None)?;
        let products = logits(&input.teacher)?.f_softmax(-1, None)?.f_mul(&logs)?;
        assert_eq!(input.labels()?, Tensor::from_slice(&[1i64, 3, 0, 2]));
        Ok(products
            .f_sum_dim_intlist([-1i64].as_slice(), false, None)?
            .f_neg()?)
    });
    let with_labels = presets.find_kd_loss("kd_loss_type", "ce").unwrap();
    let weighted = Presets::default();
    let weighted = weighted.find_kd_loss("kd_loss_type", "ce").unwrap();
    for temperature in [
        waves(&[2, 3], 0.4) + 2.0,
        Tensor::from_slice(&[1.5, 4.0]),
        Tensor::from(3.0),
    ] {
        let input = || KdInput::new(&student, &teacher, temperature.shallow_clone()).unwrap();
        let got = number(with_labels.apply(&input().with_labels(&labels)));
        let weights = labels.ge(0).to_kind(Kind::Double);
        let expected = number(weighted.apply(&input().with_weights(&weights)));
        assert_near("loss", got, expected);
    }
}

#[test]
fn no_label_at_all_is_0_and_other_losses_see_all_positions() {
    let Tokens {
        student, teacher, ..
    } = tokens();
    let none = Tensor::full([2, 3], -100, (Kind::Int64, tch::Device::Cpu));
    let unlabelled = output(&student).labels(&none);
    assert_eq!(number(loss("dkd", &unlabelled, &output(&teacher))), 0.0);
    let (_, all) = at_positions(&Presets::default());
    for name in &all {
        let with = number(loss(name, &unlabelled, &output(&teacher)));
        let without = number(loss(name, &output(&student), &output(&teacher)));
        assert_eq!(with, without, "{name}");
    }
}
