//! Losses of a teacher that says only its top k, or a sample of its classes.

mod common;
#[path = "sparse_cases/mistakes.rs"]
mod mistakes;
#[path = "sparse_cases/sample.rs"]
mod sample;
#[path = "sparse_cases/small.rs"]
mod small;
#[path = "sparse_cases/together.rs"]
mod together;

use common::device::{device, waves};
use common::elements;
use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::{Tail, TopK};
use textbrewer::losses::Temperature;
use textbrewer::{KdInput, Logits, Presets};

const ALL: [Tail; 4] = [
    Tail::Bucket,
    Tail::Truncated,
    Tail::Renormalized,
    Tail::Uniform,
];

/// All losses that take a top k. Those that are no divergences come first.
fn losses() -> [PresetSpec; 10] {
    [
        "ce".into(),
        "kl".into(),
        "forward_kl".into(),
        "reverse_kl".into(),
        ("generalized_jsd", [0.3]).into(),
        ("generalized_jsd", [1.0]).into(),
        "skew_kl".into(),
        "skew_reverse_kl".into(),
        "adaptive_kl".into(),
        "total_variation".into(),
    ]
}

fn divergences() -> impl Iterator<Item = PresetSpec> {
    losses().into_iter().skip(1)
}

/// Whether it is infinite where the teacher gives nothing outside its top k.
fn ends_in_reverse(spec: &PresetSpec) -> bool {
    let jsd = spec.name == "generalized_jsd" && *spec == ("generalized_jsd", [1.0]).into();
    jsd || ["reverse_kl", "adaptive_kl"].contains(&spec.name.as_str())
}

fn try_value(spec: &PresetSpec, tail: Tail, input: &KdInput<'_>) -> textbrewer::Result<Tensor> {
    let loss = Presets::default().find_kd_loss("kd_loss_type", spec)?;
    loss.with_tail(tail).apply(input)
}

/// The loss, and its gradient by the student's logits.
fn value_and_gradient(
    spec: &PresetSpec,
    tail: Tail,
    student: &Tensor,
    teacher: impl Into<Logits>,
    temperature: impl Into<Temperature>,
) -> (f64, Vec<f64>) {
    let student = student.detach().set_requires_grad(true);
    let input = KdInput::new(&student, teacher, temperature).unwrap();
    let loss = try_value(spec, tail, &input).unwrap();
    loss.backward();
    (loss.double_value(&[]), elements(&student.grad()))
}

fn assert_near(what: &str, one: (f64, &[f64]), other: (f64, &[f64]), tolerance: f64) {
    let pairs = one.1.iter().zip(other.1).chain([(&one.0, &other.0)]);
    for (one, other) in pairs {
        let near = (one - other).abs() <= tolerance * other.abs().max(1.0);
        assert!(near, "{what}: {one}, expected {other}");
    }
    assert_eq!(one.1.len(), other.1.len(), "{what}");
}

fn logits(seed: f64) -> Tensor {
    waves(&[2, 3, 7], seed) * 3.0
}

#[test]
fn with_all_classes_it_is_the_loss_of_whole_logits() {
    let (student, teacher) = (logits(0.3), logits(5.0));
    let each = || Tensor::from_slice(&[1.0, 3.0]).to_device(device());
    for spec in losses() {
        for (tail, from) in ALL.into_iter().flat_map(|tail| [(tail, 1.0), (tail, 2.5)]) {
            let temperatures: [fn(Tensor) -> Temperature; 3] =
                [|_| 1.0.into(), |_| 2.5.into(), Temperature::Each];
            for temperature in temperatures {
                let top = TopK::of(&teacher, 7, from).unwrap();
                let got = value_and_gradient(&spec, tail, &student, top, temperature(each()));
                let whole =
                    value_and_gradient(&spec, tail, &student, &teacher, temperature(each()));
                let what = format!("{spec} {tail} from {from}");
                assert_near(&what, (got.0, &got.1), (whole.0, &whole.1), 1e-10);
            }
        }
    }
}

#[test]
fn it_is_never_negative_but_truncated() {
    for spec in divergences() {
        for (seed, k) in (0..20).flat_map(|seed| [(seed, 1), (seed, 2), (seed, 5)]) {
            let (student, teacher) = (logits(f64::from(seed)), logits(f64::from(seed) + 0.2));
            for tail in [Tail::Bucket, Tail::Renormalized, Tail::Uniform] {
                if tail == Tail::Renormalized && ends_in_reverse(&spec) {
                    continue;
                }
                for from in [1.0, 2.0] {
                    let top = TopK::of(&teacher, k, from).unwrap();
                    let input = KdInput::new(&student, top, 2.0).unwrap();
                    let value = try_value(&spec, tail, &input).unwrap().double_value(&[]);
                    assert!(value > 0.0, "{spec} {tail}, k = {k}: {value}");
                }
            }
        }
    }
    // A student that is surer than its teacher.
    let teacher = logits(0.3);
    let top = TopK::of(&teacher, 1, 1.0).unwrap();
    let input = KdInput::new(&(&teacher * 2.0), top, 1.0).unwrap();
    let truncated = try_value(&"forward_kl".into(), Tail::Truncated, &input).unwrap();
    assert!(truncated.double_value(&[]) < 0.0);
}

#[test]
fn against_the_bucket_the_same_student_learns_nothing() {
    for kind in [Kind::Float, Kind::Double] {
        let logits = logits(0.3).to_kind(kind);
        for (spec, temperature) in divergences().flat_map(|spec| [(spec.clone(), 1.0), (spec, 4.0)])
        {
            let top = TopK::of(&logits, 3, temperature).unwrap();
            let (value, gradient) =
                value_and_gradient(&spec, Tail::Bucket, &logits, top, temperature);
            // The logarithm of a mixture is rounded.
            let mixes = spec.name.starts_with("skew") || spec == ("generalized_jsd", [0.3]).into();
            let most = if mixes { 1e-7 } else { 0.0 };
            assert!(value.abs() <= most, "{spec} at {temperature}: {value}");
            let largest = gradient.iter().fold(0f64, |a, b| a.max(b.abs()));
            assert!(largest < 1e-7, "{spec} at {temperature}: {largest}");
        }
    }
}

#[test]
fn masked_classes_and_extreme_logits_give_no_nan() {
    let masked = |seed, classes: &[i64]| {
        let logits = logits(seed);
        for &class in classes {
            let _ = logits.select(-1, class).fill_(f64::NEG_INFINITY);
        }
        logits
    };
    let extreme = |seed| logits(seed) * 1e4;
    for kind in [Kind::Float, Kind::Double] {
        for (student, teacher) in [
            (masked(0.3, &[1, 4]), masked(5.0, &[1, 4])),
            (logits(0.3), masked(5.0, &[0, 2, 3, 4, 6])),
            (masked(0.3, &[0, 2, 3, 4, 6]), logits(5.0)),
            (masked(0.3, &[0, 1, 2]), masked(5.0, &[3, 4, 5])),
            (extreme(0.3), extreme(5.0)),
        ] {
            for (spec, tail) in losses()
                .into_iter()
                .flat_map(|spec| ALL.map(|t| (spec.clone(), t)))
            {
                if tail == Tail::Renormalized && ends_in_reverse(&spec) {
                    continue;
                }
                for (k, temperature) in [(1, 1.0), (3, 2.0), (6, 1.0), (7, 2.0)] {
                    let top = TopK::of(&teacher.to_kind(kind), k, 1.0).unwrap();
                    let student = student.to_kind(kind);
                    // A class that the student has and the teacher has not: infinitely far.
                    let lacks = teacher.eq(f64::NEG_INFINITY);
                    let known =
                        lacks
                            .logical_not()
                            .sum_dim_intlist([-1i64].as_slice(), false, None);
                    let apart = lacks.logical_and(&student.isfinite()).any();
                    if ends_in_reverse(&spec)
                        && tail != Tail::Truncated
                        && device() == tch::Device::Cpu
                        && i64::try_from(apart).unwrap() == 1
                        && k >= known.int64_value(&[0, 0])
                    {
                        let input = KdInput::new(&student, top, temperature).unwrap();
                        let error = try_value(&spec, tail, &input).unwrap_err().to_string();
                        assert!(
                            error.contains("is infinitely far"),
                            "{spec} {tail}: {error}"
                        );
                        continue;
                    }
                    let (value, gradient) =
                        value_and_gradient(&spec, tail, &student, top, temperature);
                    let what = format!("{spec} {tail} in {kind:?}, k = {k}");
                    assert!(value.is_finite(), "{what}: {value}");
                    assert!(
                        gradient.iter().all(|g| g.is_finite()),
                        "{what}: {gradient:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_padded_vocabulary_has_no_mass() {
    let padding = Tensor::full([2, 3, 4], f64::NEG_INFINITY, (Kind::Double, device()));
    let padded = |logits: &Tensor| Tensor::cat(&[logits, &padding], -1);
    let (student, teacher) = (logits(0.3), logits(5.0));
    for (spec, tail) in losses()
        .into_iter()
        .flat_map(|spec| ALL.map(|tail| (spec.clone(), tail)))
    {
        if tail == Tail::Renormalized && ends_in_reverse(&spec) {
            continue;
        }
        for (k, temperature) in [(3, 1.0), (3, 2.0), (7, 2.0)] {
            let of = |student: &Tensor, teacher: &Tensor| {
                let top = TopK::of(teacher, k, 1.0).unwrap();
                value_and_gradient(&spec, tail, student, top, temperature)
            };
            let plain = of(&student, &teacher);
            let (value, gradient) = of(&padded(&student), &padded(&teacher));
            let mut of_classes = Vec::new();
            for of_position in gradient.chunks(11) {
                of_classes.extend(&of_position[..7]);
                assert_eq!(of_position[7..], [0.0; 4], "{spec} {tail}");
            }
            let what = format!("{spec} {tail}, k = {k}");
            assert_near(&what, (value, &of_classes), (plain.0, &plain.1), 1e-12);
        }
    }
}
