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
            outside.starts_with("kl: the indices of the teacher's top k must be in 0..7"),
            "{outside}"
        );
        let (ids, weights) = (top(&[2, 3, 20], 15), waves(&[2, 3, 15], 0.1));
        let sample = Sample::new(ids.indices(), &weights).unwrap();
        let outside = message("ce", Tail::Bucket, sample);
        assert!(
            outside.starts_with("ce: the indices of the teacher's sample must be in 0..7"),
            "{outside}"
        );
    }
}

/// On other devices the host would have to wait for it.
#[test]
fn a_teacher_without_a_tail_is_named() {
    if device() != tch::Device::Cpu {
        return;
    }
    let one = |ids: &[i64], logs: &[f64], log_tail| {
        let of = |tensor: Tensor| tensor.view([1, 1, -1]).expand([2, 3, -1], false);
        let log_tail = Tensor::full([2, 3], log_tail, (Kind::Double, device()));
        let (ids, logs) = (Tensor::from_slice(ids), Tensor::from_slice(logs));
        TopK::new(&of(ids), &of(logs), &log_tail).unwrap()
    };
    let (nothing, half) = (f64::NEG_INFINITY, 0.5f64.ln());
    for name in ["reverse_kl", "adaptive_kl"] {
        for tail in [Tail::Bucket, Tail::Uniform] {
            assert_eq!(
                message(name, tail, one(&[1, 2], &[half; 2], nothing)),
                format!(
                    "log_tail: −∞ gives the classes outside the teacher's top k no probability, \
                     from which `{name}` is infinitely far; keep the logarithm of what they have \
                     (`TopK::of` does; 1 less the sum of the k rounds to 0)"
                )
            );
        }
        // As many as there are classes, but some fill up.
        let mut logs = [nothing; 7];
        logs[..2].fill(half);
        let top = one(&[1, 2, 0, 0, 0, 0, 0], &logs, nothing);
        assert_eq!(
            message(name, Tail::Renormalized, top),
            format!(
                "tail: `renormalized` gives the teacher no probability outside its top k, from \
                 which `{name}` is infinitely far; take another, such as `bucket`"
            )
        );
    }
    // Where the teacher says nothing at all is padding, which a weight of 0 leaves out.
    let top = one(&[0, 0], &[nothing; 2], nothing);
    let input = KdInput::new(logits(0.3), top, 1.0).unwrap();
    let input = input.with_weights(&Tensor::zeros([2, 3], (Kind::Double, device())));
    let value = try_value(&"reverse_kl".into(), Tail::Bucket, &input).unwrap();
    assert_eq!(value.double_value(&[]), 0.0);
}

#[test]
fn what_cannot_be_taken_or_drawn_is_an_error() {
    let given = waves(&[2, 7], 0.3);
    let integers = Tensor::zeros([2, 7], (Kind::Int64, device()));
    let none = Tensor::zeros([2, 0], (Kind::Float, device()));
    let wide = Tensor::zeros([1, (1 << 24) + 1], (Kind::Float, device()));
    let top = || TopK::of(&given, 1, 1.0).unwrap();
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
            "temperature of the top k: must be a positive number, is 0",
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
            top().taken_at(f64::NAN).err(),
            "temperature of the top k: must be a positive number, is NaN",
        ),
        (
            top().taken_at(2.0).err(),
            "temperature of the top k: 2 is said of what is at 1 already; no number is converted: \
             take it from the logits anew, at 2",
        ),
        (
            Sample::draw(&given, 1, 2.0).unwrap().drawn_at(1.0).err(),
            "temperature of a sample: 1 is said of what is at 2 already; no number is converted: \
             take it from the logits anew, at 1",
        ),
        (
            Sample::draw(&given, 0, 1.0).err(),
            "sample: expected at least one draw, got 0",
        ),
        (
            Sample::draw(&given, 1, -1.0).err(),
            "temperature of a sample: must be a positive number, is -1",
        ),
        (
            Sample::draw(&wide, 1, 1.0).err(),
            "logits of a sample: expected at most 2^24 = 16777216 classes, for which libtorch can \
             draw, got 16777217",
        ),
    ] {
        assert_eq!(error.unwrap().to_string(), expected);
    }
    if device() == tch::Device::Cpu {
        let error = Sample::draw(&(&given * f64::NAN), 2, 1.0).unwrap_err();
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
