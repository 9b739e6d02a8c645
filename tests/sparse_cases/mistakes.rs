//! What cannot be is an error that says what to do.

use tch::{Kind, Tensor};
use textbrewer::logits::{Sample, Tail, TopK};
use textbrewer::{DistillationConfig, KdInput, Logits};

use crate::common::device::{device, waves};
use crate::{logits, try_value};

fn message(name: &str, tail: Tail, teacher: impl Into<Logits>) -> String {
    let input = KdInput::new(logits(0.3), teacher, 1.0).unwrap();
    let error = try_value(&name.into(), tail, &input).unwrap_err();
    error.to_string().lines().next().unwrap().to_owned()
}

#[test]
fn what_does_not_fit_is_named() {
    let top = |shape: &[i64], k| TopK::of(&waves(shape, 0.3), k, 1.0).unwrap();
    assert_eq!(
        message("forward_kl", Tail::Bucket, top(&[2, 4, 7], 3)),
        "forward_kl: expected the teacher's top k at each position of the student's logits [2, 3, \
         7], got indices [2, 4, 3]"
    );
    for name in ["reverse_kl", "adaptive_kl"] {
        assert_eq!(
            message(name, Tail::Renormalized, top(&[2, 3, 7], 3)),
            format!(
                "tail: `renormalized` gives the teacher no probability outside its top k, from \
                 which `{name}` is infinitely far; take another, such as `bucket`"
            )
        );
    }
    // On other devices it is reported later.
    if device() == tch::Device::Cpu {
        let outside = message("kl", Tail::Bucket, top(&[2, 3, 20], 15));
        assert!(
            outside.starts_with("kd_kl: the indices of the teacher's top k must be in 0..7"),
            "{outside}"
        );
        let (ids, weights) = (top(&[2, 3, 20], 15), waves(&[2, 3, 15], 0.1));
        let sample = Sample::new(ids.indices(), &weights).unwrap();
        let outside = message("ce", Tail::Bucket, sample);
        assert!(
            outside.starts_with("kd_ce: the indices of the teacher's sample must be in 0..7"),
            "{outside}"
        );
    }
}

#[test]
fn what_cannot_be_taken_or_drawn_is_an_error() {
    let given = waves(&[2, 7], 0.3);
    let integers = Tensor::zeros([2, 7], (Kind::Int64, device()));
    let none = Tensor::zeros([2, 0], (Kind::Float, device()));
    for (error, expected) in [
        (
            TopK::of(&given, 0, 1.0).err(),
            "top k: expected a k from 1 to the 7 classes of the logits, got 0",
        ),
        (
            TopK::of(&given, 8, 1.0).err(),
            "top k: expected a k from 1 to the 7 classes of the logits, got 8",
        ),
        (
            TopK::of(&given, 1, 0.0).err(),
            "temperature: must be a positive number, is 0",
        ),
        (
            TopK::of(&integers, 1, 1.0).err(),
            "logits of the top k: expected floating-point numbers, got Int64",
        ),
        (
            TopK::of(&Tensor::new(), 1, 1.0).err(),
            "logits of the top k: expected a tensor, got an undefined one",
        ),
        (
            TopK::of(&none, 1, 1.0).err(),
            "logits of the top k: expected [.., classes] of at least one class, got [2, 0]",
        ),
        (
            TopK::of(&given, 1, 1.0)
                .unwrap()
                .at_temperature(f64::NAN)
                .err(),
            "temperature of the top k: must be a positive number, is NaN",
        ),
        (
            Sample::draw(&given, 0, 1.0).err(),
            "sample: expected at least one draw, got 0",
        ),
        (
            Sample::draw(&given, 1, -1.0).err(),
            "temperature: must be a positive number, is -1",
        ),
    ] {
        assert_eq!(error.unwrap().to_string(), expected);
    }
    if device() == tch::Device::Cpu {
        let error = Sample::draw(&(given * f64::NAN), 2, 1.0).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("logits of a sample: the probabilities must be finite"),
            "{message}"
        );
    }
    for (json, expected) in [
        (
            r#"{"tail": "zero"}"#,
            "tail: unknown variant `zero`, expected one of `bucket`, `truncated`, `renormalized`, `uniform`",
        ),
        (
            r#"{"tail": 1}"#,
            "tail: invalid type: integer `1`, expected one of \"bucket\", \"truncated\", \"renormalized\", \"uniform\"",
        ),
    ] {
        let message = DistillationConfig::from_json_str(json)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
    let config = DistillationConfig::default().tail(Tail::Uniform);
    let json = config.to_json_string().unwrap();
    assert_eq!(DistillationConfig::from_json_str(&json).unwrap(), config);
    assert!(
        !DistillationConfig::default()
            .to_json_string()
            .unwrap()
            .contains("tail")
    );
}
