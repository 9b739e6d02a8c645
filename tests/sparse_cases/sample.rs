//! Classes that were drawn.

use tch::{Device, Kind, Tensor};
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
    let probabilities = elements(&(one(5.0) / temperature).softmax(-1, None));
    for spec in ["ce", "forward_kl", "kl"] {
        let spec = PresetSpec::from(spec);
        let input = (many(0.3), textbrewer::Logits::from(&sample));
        let (value, gradient) =
            value_and_gradient(&spec, Tail::Bucket, &input.0, input.1, temperature);
        let of_one = |gradient: &[f64]| -> Vec<f64> {
            let rows = gradient.chunks(12);
            let mut sum = vec![0.0; 12];
            rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, of)| *sum += of));
            sum
        };
        let whole = value_and_gradient(&spec, Tail::Bucket, &one(0.3), one(5.0), temperature);
        let factor = if spec.name == "kl" { 4.0 } else { 1.0 };
        // The part that a class has of 8 draws has a deviation of √(p (1 − p) / 8) at a position.
        let deviation = |p: f64| (p * (1.0 - p) / 8.0 / ROWS as f64).sqrt() / temperature;
        let gradients = of_one(&gradient);
        for ((got, expected), p) in gradients.iter().zip(&whole.1).zip(&probabilities) {
            assert!(
                (got - expected).abs() < 5.0 * factor * deviation(*p),
                "{spec}: {got}, expected {expected}"
            );
        }
        let cross =
            value_and_gradient(&"ce".into(), Tail::Bucket, &one(0.3), one(5.0), temperature);
        assert!(
            (value / factor / cross.0 - 1.0).abs() < 0.01,
            "{spec}: {value}, {}",
            cross.0
        );
    }
}

/// A sum over the classes in float32 would not grow by any of the rare ones after the first.
#[test]
fn rare_classes_of_a_large_vocabulary_are_drawn_in_float32() {
    tch::manual_seed(3);
    // More positions than are drawn at a time.
    let (positions, classes, draws) = (50, 200_000, 2_000);
    let rare = 0.4 * f64::powi(2.0, -24);
    let tail = rare * (classes - 1) as f64;
    let logits = Tensor::full([positions, classes], rare.ln(), (Kind::Float, device()));
    let _ = logits.narrow(-1, 0, 1).fill_((1.0 - tail).ln());
    // Another class than at the other positions.
    let last = logits.select(0, positions - 1);
    let _ = last.narrow(0, 0, 1).fill_(rare.ln());
    let _ = last.narrow(0, 7, 1).fill_((1.0 - tail).ln());
    let sample = Sample::draw(&logits, draws, 1.0).unwrap();
    let likeliest = sample.weights().argmax(-1, true);
    let likeliest = elements(&sample.indices().gather(-1, &likeliest, false));
    let (others, of_last) = likeliest.split_at(likeliest.len() - 1);
    assert!(others.iter().all(|class| *class == 0.0), "{others:?}");
    assert_eq!(of_last, [7.0]);
    let is_rare = sample.indices().not_equal(0).to_kind(Kind::Float);
    let weights = (sample.weights() * is_rare).narrow(0, 0, positions - 1);
    let drawn = weights.sum(Kind::Double).double_value(&[]) / (positions - 1) as f64;
    let deviation = (tail * (1.0 - tail) / (draws * (positions - 1)) as f64).sqrt();
    assert!(
        (drawn - tail).abs() < 5.0 * deviation,
        "{drawn}, expected {tail}"
    );
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
    if device() != Device::Cpu {
        // The host does not wait for the number of classes that came.
        assert_eq!(width, 30);
    }
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
    let sample = |tau| Sample::new(&ids, &weights).unwrap().drawn_at(tau).unwrap();
    for (name, factor) in [("ce", 1.0), ("forward_kl", 1.0), ("kl", 4.0)] {
        let input = KdInput::new(&student, sample(2.0), 2.0).unwrap();
        let value = try_value(&name.into(), Tail::Bucket, &input).unwrap();
        assert!((value.double_value(&[]) - factor * expected).abs() < 1e-12);
    }
    // A class that the student masks has no part, as in `forward_kl`, and fills up too.
    let masked = student.detach();
    let _ = masked.select(-1, 0).fill_(f64::NEG_INFINITY);
    let got = value_and_gradient(&"ce".into(), Tail::Bucket, &masked, sample(1.0), 1.0);
    let logs = elements(&masked.log_softmax(-1, None));
    assert!((got.0 + 0.5 * logs[2]).abs() < 1e-12, "{}", got.0);
    assert!(got.1.iter().all(|gradient| gradient.is_finite()));
    assert_near("mask", (0.0, &got.1[..1]), (0.0, &[0.0]), 0.0);
}

#[test]
fn a_sample_is_of_one_temperature() {
    let logits = waves(&[2, 4], 0.3);
    let drawn = Sample::draw(&logits, 5, 2.0).unwrap();
    assert_eq!(drawn.temperature(), 2.0);
    let stored = || Sample::new(drawn.indices(), drawn.weights()).unwrap();
    assert_eq!(stored().temperature(), 1.0);
    for (sample, loss_at, drawn_at) in [
        (drawn.to_device(device()).unwrap(), 4, 2),
        (stored(), 4, 1),
        (stored().drawn_at(3.0).unwrap(), 1, 3),
    ] {
        let input = KdInput::new(&logits, &sample, f64::from(loss_at)).unwrap();
        let error = try_value(&"kl".into(), Tail::Bucket, &input).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "kl: expected a sample drawn at the temperature of the loss, {loss_at}, got one \
                 drawn at {drawn_at} (`Sample::drawn_at` says so of a stored one)"
            )
        );
        for same in [sample.shallow_clone(), sample.to_device(device()).unwrap()] {
            let input = KdInput::new(&logits, &same, f64::from(drawn_at)).unwrap();
            assert!(try_value(&"kl".into(), Tail::Bucket, &input).is_ok());
        }
    }
    // Nothing is drawn where there is no position, at that temperature too.
    let none = Sample::draw(&waves(&[0, 4], 0.3), 5, 2.0).unwrap();
    assert_eq!(none.temperature(), 2.0);
}
