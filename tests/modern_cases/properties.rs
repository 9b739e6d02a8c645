//! What holds of every loss on logits, whatever its numbers.

use tch::{Device, Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::{KdInput, Presets};

use crate::common::device::{device, waves};
use crate::common::elements;

/// Losses that are 0 where both models agree, and never below.
fn divergences() -> Vec<PresetSpec> {
    vec![
        "kl".into(),
        "forward_kl".into(),
        "reverse_kl".into(),
        ("generalized_jsd", [0.0]).into(),
        ("generalized_jsd", [0.1]).into(),
        ("generalized_jsd", [0.9]).into(),
        ("generalized_jsd", [1.0]).into(),
        ("skew_kl", [0.3]).into(),
        ("skew_reverse_kl", [0.3]).into(),
        ("adaptive_kl", [0.4]).into(),
        "total_variation".into(),
        ("dkd", [1.0, 8.0]).into(),
    ]
}

/// Those that have a value at each position besides.
fn at_positions() -> Vec<PresetSpec> {
    let mut all = divergences();
    all.extend([
        "ce".into(),
        "mse".into(),
        "taid".into(),
        ("nkd", [1.5]).into(),
    ]);
    all
}

/// The loss and its gradient.
fn run(
    spec: &PresetSpec,
    input: impl Fn(&Tensor) -> KdInput<'static>,
    student: &Tensor,
) -> (f64, Vec<f64>) {
    let student = student.detach().copy().set_requires_grad(true);
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", spec)
        .unwrap();
    let value = loss.apply(&input(&student)).unwrap();
    value.backward();
    (value.double_value(&[]), elements(&student.grad()))
}

fn labels(count: i64) -> Tensor {
    Tensor::arange(count, (Kind::Int64, device())).remainder(5)
}

#[test]
fn a_teacher_like_the_student_gives_nothing_to_learn() {
    let logits = waves(&[4, 5], 0.3) * 6.0;
    for spec in divergences() {
        let input = |student: &Tensor| {
            let input = KdInput::new(student, &logits, 2.0).unwrap();
            input.with_labels(&labels(4))
        };
        let (value, gradient) = run(&spec, input, &logits);
        assert!(value.abs() < 1e-15, "{spec}: {value}");
        let largest = gradient
            .iter()
            .fold(0f64, |largest, value| largest.max(value.abs()));
        assert!(largest < 1e-15, "{spec}: {largest}");
    }
}

#[test]
fn divergences_are_never_below_zero() {
    for seed in 0..40 {
        let (student, teacher) = (
            waves(&[3, 5], f64::from(seed)) * f64::from(seed % 7 + 1),
            waves(&[3, 5], f64::from(seed) + 0.5) * f64::from(seed % 5 + 1),
        );
        for spec in divergences() {
            let input = |student: &Tensor| {
                let input = KdInput::new(student, &teacher, 1.0).unwrap();
                input.with_labels(&labels(3))
            };
            let (value, _) = run(&spec, input, &student);
            assert!(value >= -1e-12, "{spec}, {seed}: {value}");
        }
    }
}

/// Classes that both models mask have no part in anything; extreme logits stay finite.
#[test]
fn masked_classes_and_extreme_logits_give_no_nan() {
    let (student, teacher) = (waves(&[3, 5], 0.3) * 1e4, waves(&[3, 5], 0.8) * 1e4);
    let masked = |logits: &Tensor| {
        let nothing = Tensor::full([3, 2], f64::NEG_INFINITY, (Kind::Double, device()));
        Tensor::cat(&[logits.shallow_clone(), nothing], -1)
    };
    // `mse` of −∞ is no number, and `ce` has TextBrewer's.
    let specs = at_positions().into_iter();
    for spec in specs.filter(|spec| !["mse", "ce", "kl"].contains(&spec.name.as_str())) {
        for kind in [Kind::Float, Kind::Double] {
            let teacher = teacher.to_kind(kind);
            let input = |teacher: &Tensor, student: &Tensor| {
                let input = KdInput::new(student, teacher, 1.0).unwrap();
                input.with_labels(&labels(3))
            };
            let student = student.to_kind(kind);
            let (plain, _) = run(&spec, |s| input(&teacher, s), &student);
            let (value, gradient) = run(&spec, |s| input(&masked(&teacher), s), &masked(&student));
            assert!(
                value.is_finite() && (value - plain).abs() <= 1e-6 * plain.abs(),
                "{spec}: {value}, {plain}"
            );
            assert!(
                gradient.iter().all(|value| value.is_finite()),
                "{spec} {kind:?}"
            );
        }
    }
}

/// Positions of no weight change nothing, on either side; tokens are flattened examples.
#[test]
fn padding_changes_nothing() {
    let (student, teacher) = (waves(&[2, 3, 5], 0.3) * 4.0, waves(&[2, 3, 5], 0.9) * 4.0);
    let padding = waves(&[2, 2, 5], 7.0) * 9.0;
    let ones = |length| Tensor::ones([2, length], (Kind::Double, device()));
    let zeros = Tensor::zeros([2, 2], (Kind::Double, device()));
    let labels = labels(6).view([2, 3]);
    let no_labels = Tensor::full([2, 2], 1, (Kind::Int64, device()));
    let joined = |one: &Tensor, other: &Tensor| Tensor::cat(&[one, other], 1);
    for spec in at_positions() {
        let of = |student: &Tensor, teacher: &Tensor, labels: &Tensor, weights: &Tensor| {
            let input = |student: &Tensor| {
                let input = KdInput::new(student, teacher, 2.0).unwrap();
                input.with_labels(labels).with_weights(weights)
            };
            run(&spec, input, student)
        };
        let (plain, gradient) = of(&student, &teacher, &labels, &ones(3));
        let right = of(
            &joined(&student, &padding),
            &joined(&teacher, &padding),
            &joined(&labels, &no_labels),
            &joined(&ones(3), &zeros),
        );
        let left = of(
            &joined(&padding, &student),
            &joined(&padding, &teacher),
            &joined(&no_labels, &labels),
            &joined(&zeros, &ones(3)),
        );
        for (padded, start) in [(right, 0), (left, 2)] {
            assert!((padded.0 - plain).abs() < 1e-12, "{spec}");
            let own = Tensor::from_slice(&padded.1)
                .view([2, 5, 5])
                .narrow(1, start, 3);
            let far = (own.reshape([-1]) - Tensor::from_slice(&gradient))
                .abs()
                .max();
            assert!(far.double_value(&[]) < 1e-12, "{spec}");
        }
        let flat = |tensor: &Tensor| tensor.reshape([6, 5]);
        let of_rows = of(
            &flat(&student),
            &flat(&teacher),
            &labels.view([6]),
            &ones(3).view([6]),
        );
        assert!((of_rows.0 - plain).abs() < 1e-12, "{spec}");
    }
}

/// Two halves of a batch have the loss of the whole, but for those that mix examples.
#[test]
fn only_a_loss_that_mixes_examples_depends_on_the_batch() {
    let (student, teacher) = (waves(&[4, 16], 0.3) * 4.0, waves(&[4, 16], 0.9) * 4.0);
    let of = |spec: &PresetSpec, start, length| {
        let part = |tensor: &Tensor| tensor.narrow(0, start, length);
        let input = |student: &Tensor| {
            let input = KdInput::new(student, part(&teacher), 2.0).unwrap();
            input.with_labels(&part(&labels(4)))
        };
        run(spec, input, &part(&student))
    };
    let in_halves = |spec: &PresetSpec| {
        let (first, second) = (of(spec, 0, 2), of(spec, 2, 2));
        let gradient = first.1.into_iter().chain(second.1);
        let gradient: Vec<f64> = gradient.map(|value| value / 2.0).collect();
        ((first.0 + second.0) / 2.0, gradient)
    };
    for spec in at_positions() {
        let (halves, at_once) = (in_halves(&spec), of(&spec, 0, 4));
        assert!((halves.0 - at_once.0).abs() < 1e-12, "{spec}");
        // Shares are powers of 2, and rows whole registers, which a processor computes in one way. So on
        // the CPU, where sums have one order, not a bit differs.
        match device() {
            Device::Cpu => assert_eq!(halves.1, at_once.1, "{spec}"),
            _ => assert!(
                halves
                    .1
                    .iter()
                    .zip(&at_once.1)
                    .all(|(a, b)| (a - b).abs() < 1e-12)
            ),
        }
    }
    let dist = PresetSpec::new("dist");
    assert!((in_halves(&dist).0 - of(&dist, 0, 4).0).abs() > 1e-3);
}

#[test]
fn arguments_out_of_range_are_refused_by_name() {
    let presets = Presets::default();
    for (spec, message) in [
        (
            ("generalized_jsd", [1.5]),
            "kd_loss_type: `generalized_jsd` beta: must be from 0 to 1, is 1.5",
        ),
        (
            ("skew_kl", [-0.1]),
            "kd_loss_type: `skew_kl` alpha: must be from 0 to 1, is -0.1",
        ),
        (
            ("nkd", [-1.0]),
            "kd_loss_type: `nkd` gamma: must be 0 or more, is -1",
        ),
        (
            ("ce", [1.0]),
            "kd_loss_type: `ce` was given 1 arguments; it takes no arguments",
        ),
    ] {
        let error = presets.find_kd_loss("kd_loss_type", spec).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let kl = presets.find_kd_loss("kd_loss_type", "kl").unwrap();
    let error = kl.times_tau_squared().unwrap_err().to_string();
    assert!(
        error.starts_with("tau_squared: this loss has the factor"),
        "{error}"
    );
}
