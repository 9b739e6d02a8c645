//! Classes that were drawn.

use tch::{Kind, Tensor};
use textbrewer::KdInput;
use textbrewer::config::PresetSpec;
use textbrewer::logits::{Sample, Tail};

use crate::common::device::{device, waves};
use crate::common::elements;
use crate::{assert_near, try_value, value_and_gradient};

const ROWS: i64 = 20_000;

#[test]
fn the_mean_gradient_is_that_of_whole_logits() {
    tch::manual_seed(5);
    let temperature = 2.0;
    let one = |seed| waves(&[1, 12], seed) * 3.0;
    let many = |seed| one(seed).expand([ROWS, 12], false).contiguous();
    // The same teacher and student at all positions: what is left of chance is small.
    let sample = Sample::draw(&many(5.0), 8, temperature).unwrap();
    assert!(sample.indices().size()[1] <= 8);
    for spec in ["ce", "forward_kl", "kl"] {
        let spec = PresetSpec::from(spec);
        let input = (
            many(0.3),
            textbrewer::Logits::from(Sample::new(sample.indices(), sample.weights()).unwrap()),
        );
        let (value, gradient) =
            value_and_gradient(&spec, Tail::Bucket, &input.0, input.1, temperature);
        let of_one = |gradient: &[f64]| -> Vec<f64> {
            let rows = gradient.chunks(12);
            let mut sum = vec![0.0; 12];
            rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, of)| *sum += of));
            sum
        };
        let whole = value_and_gradient(&spec, Tail::Bucket, &one(0.3), one(5.0), temperature);
        // A drawn class has a deviation of √(p (1 − p) / 8) at a position.
        let most =
            if spec.name == "kl" { 4.0 } else { 1.0 } * 4.0 * (0.25 / 8.0 / ROWS as f64).sqrt();
        for (got, expected) in of_one(&gradient).iter().zip(&whole.1) {
            assert!(
                (got - expected).abs() < most,
                "{spec}: {got}, expected {expected}"
            );
        }
        let factor = if spec.name == "kl" { 4.0 } else { 1.0 };
        let cross =
            value_and_gradient(&"ce".into(), Tail::Bucket, &one(0.3), one(5.0), temperature);
        assert!(
            (value / factor / cross.0 - 1.0).abs() < 0.01,
            "{spec}: {value}, {}",
            cross.0
        );
    }
}

#[test]
fn what_was_drawn_is_counted() {
    let teacher = Tensor::cat(
        &[waves(&[5, 7, 30], 0.3) * 5.0, waves(&[5, 1, 30], 0.1) + 0.0],
        1,
    );
    let _ = teacher
        .select(1, 3)
        .narrow(-1, 1, 29)
        .fill_(f64::NEG_INFINITY);
    let sample = Sample::draw(&teacher, 50, 1.0).unwrap();
    let width = sample.indices().size()[2];
    assert_eq!(sample.indices().size()[..2], [5, 8]);
    assert!((2..=30).contains(&width), "{width}");
    let rows = elements(sample.indices());
    let weights = elements(sample.weights());
    for (ids, weights) in rows
        .chunks(width as usize)
        .zip(weights.chunks(width as usize))
    {
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let drawn: Vec<_> = ids.iter().zip(weights).filter(|(_, w)| **w > 0.0).collect();
        assert!(
            drawn.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{drawn:?}"
        );
        assert!(
            drawn
                .iter()
                .all(|(_, w)| ((**w * 50.0) - (**w * 50.0).round()).abs() < 1e-9)
        );
    }
    // A class that has all is all that is drawn.
    assert_eq!(sample.weights().select(1, 3).max().double_value(&[]), 1.0);
    // No position: nothing is drawn.
    let none = Sample::draw(&Tensor::zeros([0, 4], (Kind::Float, device())), 5, 1.0).unwrap();
    assert_eq!(none.indices().size()[0], 0);
}

/// Weights of draws from other probabilities need not sum to 1.
#[test]
fn weights_are_taken_as_they_are() {
    let student = waves(&[1, 4], 0.3).set_requires_grad(true);
    let ids = Tensor::from_slice2(&[[2i64, 0, 0]]).to_device(device());
    let weights = Tensor::from_slice2(&[[0.5, 0.2, 0.0]]).to_device(device());
    let logs = elements(&(&student / 2.0).log_softmax(-1, None));
    let expected = -0.5 * logs[2] - 0.2 * logs[0];
    let sample = || Sample::new(&ids, &weights).unwrap();
    for (name, factor) in [("ce", 1.0), ("forward_kl", 1.0), ("kl", 4.0)] {
        let input = KdInput::new(&student, sample(), 2.0).unwrap();
        let value = try_value(&name.into(), Tail::Bucket, &input).unwrap();
        assert!((value.double_value(&[]) - factor * expected).abs() < 1e-12);
    }
    // A class that the student masks has no part, as in `forward_kl`, and fills up too.
    let masked = student.detach();
    let _ = masked.select(-1, 0).fill_(f64::NEG_INFINITY);
    let got = value_and_gradient(&"ce".into(), Tail::Bucket, &masked, sample(), 1.0);
    let logs = elements(&masked.log_softmax(-1, None));
    assert!((got.0 + 0.5 * logs[2]).abs() < 1e-12, "{}", got.0);
    assert!(got.1.iter().all(|gradient| gradient.is_finite()));
    assert_near("mask", (0.0, &got.1[..1]), (0.0, &[0.0]), 0.0);
}
