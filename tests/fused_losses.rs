//! Losses on logits that are made some positions at a time, against those of all at once.

mod common;
#[path = "fused_cases/trainings.rs"]
mod trainings;

use common::device::{device, waves};
use common::elements;
use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::FromHidden;
use textbrewer::losses::Temperature;
use textbrewer::{KdInput, Presets};

const CLASSES: i64 = 700;
const WIDTH: i64 = 3;
const POSITIONS: [i64; 2] = [3, 17];

struct Head {
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Head {
    fn new(seed: f64, kind: Kind) -> Self {
        let values = |shape: &[i64], seed| {
            let values = waves(shape, seed).to_kind(kind) * 2.0;
            values.set_requires_grad(true)
        };
        let [batch, length] = POSITIONS;
        Head {
            hidden: values(&[batch, length, WIDTH], seed),
            weight: values(&[CLASSES, WIDTH], seed + 1.0),
            bias: values(&[CLASSES], seed + 2.0),
        }
    }

    fn logits(&self) -> FromHidden {
        let logits = FromHidden::new(&self.hidden, &self.weight).unwrap();
        let logits = logits.bias(&self.bias).unwrap();
        let logits = logits.scale(0.7).unwrap().soft_cap(3.0).unwrap();
        // Seven positions at a time.
        logits.bytes_at_once(7 * 8 * 4 * CLASSES as u64)
    }

    /// The same numbers in double precision.
    fn in_double(&self) -> Self {
        let wide = |tensor: &Tensor| {
            let wide = tensor.detach().to_kind(Kind::Double).copy();
            wide.set_requires_grad(true)
        };
        Head {
            hidden: wide(&self.hidden),
            weight: wide(&self.weight),
            bias: wide(&self.bias),
        }
    }

    /// Without gradients, as a distiller has a teacher.
    fn frozen(&self) -> textbrewer::Logits {
        textbrewer::Logits::from(self.logits()).detached().unwrap()
    }

    fn gradients(&self) -> [Vec<f64>; 3] {
        [&self.hidden, &self.weight, &self.bias].map(|tensor| {
            let gradient = elements(&tensor.grad());
            let _ = tensor.grad().zero_();
            gradient
        })
    }
}

fn far(one: &[f64], other: &[f64]) -> f64 {
    let largest = other
        .iter()
        .fold(0f64, |largest, value| largest.max(value.abs()));
    let pairs = one.iter().zip(other);
    pairs.fold(0f64, |far, (one, other)| far.max((one - other).abs())) / largest.max(1.0)
}

#[test]
fn in_parts_is_all_at_once() {
    compare(Kind::Double, 1e-12);
    compare(Kind::Float, 1e-6);
}

/// Compares with what comes of all logits at once in double precision, relative to the largest of each
/// tensor, or to 1: in single precision either has its own errors of rounding.
fn compare(kind: Kind, tolerance: f64) {
    let presets = Presets::default();
    let (student, teacher) = (Head::new(0.3, kind), Head::new(5.0, kind));
    let (wide, wide_teacher) = (student.in_double(), teacher.in_double());
    let [batch, length] = POSITIONS;
    let labels = Tensor::arange(batch * length, (Kind::Int64, device()));
    let labels = (labels * 1777 - 100).remainder(CLASSES).view(POSITIONS);
    let weights = waves(&POSITIONS, 0.2).abs().to_kind(kind);
    let specs: [PresetSpec; 17] = [
        "ce".into(),
        "mse".into(),
        "kl".into(),
        "forward_kl".into(),
        "reverse_kl".into(),
        ("generalized_jsd", [0.3]).into(),
        "skew_kl".into(),
        "skew_reverse_kl".into(),
        "total_variation".into(),
        "adaptive_kl".into(),
        ("generalized_jsd", [0.0]).into(),
        ("generalized_jsd", [1.0]).into(),
        ("skew_kl", [0.0]).into(),
        ("skew_reverse_kl", [0.0]).into(),
        "taid".into(),
        ("dkd", [1.0, 2.0]).into(),
        "nkd".into(),
    ];
    let of_each = || Temperature::Each(waves(&[batch], 0.4).abs() * 2.0 + 0.5);
    let temperatures = || [2.0.into(), 1.0.into(), of_each()];
    for spec in specs {
        for (weighted, temperature) in temperatures()
            .into_iter()
            .flat_map(|t| [(false, Temperature::from(&t)), (true, t)])
        {
            let loss = presets.find_kd_loss("kd_loss_type", &spec).unwrap();
            let input = |student: textbrewer::Logits, teacher: &Head| {
                let teacher = teacher.frozen();
                let input = KdInput::new(student, teacher, &temperature)
                    .unwrap()
                    .with_labels(&labels);
                match weighted {
                    true => input.with_weights(&weights),
                    false => input,
                }
            };
            let value = |student: textbrewer::Logits, teacher: &Head| {
                let value = loss.apply(&input(student, teacher)).unwrap();
                (&value * 3.0).backward();
                value.double_value(&[])
            };
            let in_parts = value(student.logits().into(), &teacher);
            let in_parts = (in_parts, student.gradients());
            let whole = textbrewer::Logits::from(wide.logits()).whole().unwrap();
            let at_once = value(whole.into(), &wide_teacher);
            let at_once = (at_once, wide.gradients());
            let what = format!("{spec} in {kind:?}, weighted: {weighted}, {temperature:?}");
            assert!(
                (in_parts.0 - at_once.0).abs() < tolerance * at_once.0.abs().max(1.0),
                "{what}: {} {}",
                in_parts.0,
                at_once.0
            );
            for (part, whole) in in_parts.1.iter().zip(&at_once.1) {
                assert!(far(part, whole) < tolerance, "{what}: {}", far(part, whole));
            }
        }
    }
}

/// Divergences, of logits made in parts in single precision.
const DIVERGENCES: [&str; 7] = [
    "kl",
    "forward_kl",
    "reverse_kl",
    "generalized_jsd",
    "skew_kl",
    "skew_reverse_kl",
    "total_variation",
];

fn run(name: &str, student: &Head, logits: FromHidden, teacher: &Head) -> (f64, [Vec<f64>; 3]) {
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", name)
        .unwrap();
    let teacher = textbrewer::Logits::from(teacher.logits())
        .detached()
        .unwrap();
    let loss = loss
        .apply(&KdInput::new(logits, teacher, 1.0).unwrap())
        .unwrap();
    loss.backward();
    (loss.double_value(&[]), student.gradients())
}

#[test]
fn a_teacher_like_the_student_gives_nothing_to_learn() {
    for name in DIVERGENCES {
        let (student, teacher) = (Head::new(0.3, Kind::Float), Head::new(0.3, Kind::Float));
        let (value, gradients) = run(name, &student, student.logits(), &teacher);
        // A mixture of two equal numbers is rounded.
        let most = match name {
            "generalized_jsd" | "skew_kl" | "skew_reverse_kl" => 1e-7,
            _ => 0.0,
        };
        assert!(value.abs() <= most, "{name}: {value}");
        let largest = gradients
            .iter()
            .flatten()
            .fold(0f64, |most, g| most.max(g.abs()));
        assert!(largest <= most, "{name}: {largest}");
    }
}

/// Classes that both models mask, by a bias of −∞, and logits in the thousands.
#[test]
fn masked_classes_and_extreme_logits_give_no_nan() {
    let masking = |seed| {
        let mut head = Head::new(seed, Kind::Float);
        let bias = head.bias.detach().copy();
        let _ = bias.narrow(0, 10, 300).fill_(f64::NEG_INFINITY);
        head.bias = bias.set_requires_grad(true);
        head
    };
    let logits = |head: &Head, scale| {
        let logits = FromHidden::new(&head.hidden, &head.weight).unwrap();
        let logits = logits.bias(&head.bias).unwrap().scale(scale).unwrap();
        logits.bytes_at_once(7 * 8 * CLASSES as u64)
    };
    // `kl` of whole logits is TextBrewer's, which is NaN there.
    for name in DIVERGENCES.into_iter().skip(1) {
        for scale in [1.0, 1e4] {
            let (student, teacher) = (masking(0.3), masking(5.0));
            let loss = Presets::default()
                .find_kd_loss("kd_loss_type", name)
                .unwrap();
            let frozen = textbrewer::Logits::from(logits(&teacher, scale))
                .detached()
                .unwrap();
            let input = KdInput::new(logits(&student, scale), frozen, 1.0).unwrap();
            let in_parts = loss.apply(&input).unwrap();
            in_parts.backward();
            let gradients = student.gradients();
            let (wide, wide_teacher) = (student.in_double(), teacher.in_double());
            let whole = |head: &Head| {
                textbrewer::Logits::from(logits(head, scale))
                    .whole()
                    .unwrap()
            };
            let input = KdInput::new(whole(&wide), whole(&wide_teacher).detach(), 1.0).unwrap();
            let at_once = loss.apply(&input).unwrap().double_value(&[]);
            let in_parts = in_parts.double_value(&[]);
            // Products of single precision are off by as much.
            let far = (in_parts - at_once).abs() / at_once.abs().max(1.0);
            assert!(far < 2e-5, "{name} {scale}: {in_parts}, {at_once}");
            let finite = |values: &Vec<f64>| values.iter().all(|value| value.is_finite());
            assert!(gradients.iter().all(finite), "{name} {scale}");
            // What is masked learns nothing.
            let masked = &gradients[2][10..310];
            assert!(masked.iter().all(|value| *value == 0.0), "{name} {scale}");
        }
    }
}

/// The student's and the teacher's logits of three classes, of a matrix that is the identity.
fn of_three(logits: [f32; 3]) -> (Tensor, FromHidden) {
    let hidden = Tensor::from_slice(&logits).view([1, 3]).to_device(device());
    let hidden = hidden.set_requires_grad(true);
    let weight = Tensor::eye(3, (Kind::Float, device()));
    let logits = FromHidden::new(&hidden, &weight).unwrap();
    (hidden, logits)
}

/// A class that the student alone masks, by −∞ or by the least number, has no part in `log q`.
#[test]
fn a_class_that_the_student_alone_masks_pulls_at_no_other() {
    for mask in [f32::MIN, -1e31] {
        for name in ["ce", "forward_kl"] {
            let loss = Presets::default()
                .find_kd_loss("kd_loss_type", name)
                .unwrap();
            let (hidden, logits) = of_three([0.0, 0.0, mask]);
            let (_, teacher) = of_three([0.0, 0.0, 0.0]);
            let teacher = textbrewer::Logits::from(teacher).detached().unwrap();
            loss.apply(&KdInput::new(logits, teacher, 1.0).unwrap())
                .unwrap()
                .backward();
            // Of the rest of p, 2/3, each of the two has a half, as in q.
            let gradient = elements(&hidden.grad());
            assert!(
                gradient.iter().all(|value| value.abs() < 1e-7),
                "{name} {mask}: {gradient:?}"
            );
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    for name in DIVERGENCES {
        for of_student in [true, false] {
            let loss = Presets::default()
                .find_kd_loss("kd_loss_type", name)
                .unwrap();
            let bad = [0.5, f32::NAN, 0.1];
            let good = [0.3, 0.2, 0.9];
            let (student, teacher) = match of_student {
                true => (bad, good),
                false => (good, bad),
            };
            let (hidden, logits) = of_three(student);
            // The matrix would spread it over all logits.
            let whole = Tensor::from_slice(&teacher)
                .view([1, 3])
                .to_device(device());
            let value = loss
                .apply(&KdInput::new(logits, whole, 1.0).unwrap())
                .unwrap();
            value.backward();
            assert!(
                value.double_value(&[]).is_nan(),
                "{name}, student: {of_student}"
            );
            let gradient = elements(&hidden.grad());
            assert!(
                gradient.iter().any(|value| value.is_nan()),
                "{name}: {gradient:?}"
            );
        }
    }
}

#[test]
fn a_teacher_of_other_positions_is_refused() {
    let student = Head::new(0.3, Kind::Float);
    let whole = |shape: &[i64]| waves(shape, 0.4).to_kind(Kind::Float);
    for shape in [[3, 18, CLASSES], [17, 3, CLASSES], [2, 17, CLASSES]] {
        let top = textbrewer::logits::TopK::of(&whole(&shape), 4, 1.0).unwrap();
        let teachers = [textbrewer::Logits::from(whole(&shape)), top.into()];
        for teacher in teachers {
            let loss = Presets::default()
                .find_kd_loss("kd_loss_type", "forward_kl")
                .unwrap();
            let input = KdInput::new(student.logits(), teacher, 1.0).unwrap();
            let message = loss.apply(&input).unwrap_err().to_string();
            let expected = "the teacher's logits: expected the student's positions [3, 17]";
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

/// Without a history nothing is learned, and nothing is kept for it; a teacher never gets a gradient.
#[test]
fn nothing_is_recorded_where_nothing_is_to_be() {
    for name in ["forward_kl", "mse", "taid"] {
        let loss = Presets::default()
            .find_kd_loss("kd_loss_type", name)
            .unwrap();
        let (student, teacher) = (Head::new(0.3, Kind::Float), Head::new(5.0, Kind::Float));
        let input = || KdInput::new(student.logits(), teacher.logits(), 1.0).unwrap();
        let value = tch::no_grad(|| loss.apply(&input()).unwrap());
        assert!(!value.requires_grad(), "{name}");
        let learned = loss.apply(&input()).unwrap();
        assert_eq!(learned.double_value(&[]), value.double_value(&[]), "{name}");
        assert!(
            !student.hidden.grad().defined(),
            "{name}: before the backward pass"
        );
        learned.backward();
        assert!(student.hidden.grad().defined());
        for tensor in [&teacher.hidden, &teacher.weight, &teacher.bias] {
            assert!(!tensor.grad().defined(), "{name}");
        }
    }
}

/// Gradients of 16 bits are rounded last, when a scaled loss has made them large enough.
#[test]
fn hidden_states_of_16_bits_get_what_a_scaled_loss_saves() {
    let loss = Presets::default()
        .find_kd_loss("kd_loss_type", "forward_kl")
        .unwrap();
    let numbers = |rows, seed| waves(&[rows, 16], seed).to_kind(Kind::Float);
    let (weight, of_teacher) = (numbers(500, 0.2) * 0.3, numbers(2048, 0.4));
    let run = |kind: Kind, scale: f64| {
        let hidden = numbers(2048, 0.1).to_kind(Kind::Half).to_kind(kind);
        let hidden = hidden.set_requires_grad(true);
        let teacher = FromHidden::new(&of_teacher, &weight).unwrap();
        let student = FromHidden::new(&hidden, &weight).unwrap();
        let value = loss
            .apply(&KdInput::new(student, teacher, 1.0).unwrap())
            .unwrap();
        (value * scale).backward();
        elements(&(hidden.grad().to_kind(Kind::Double) / scale))
    };
    let expected = run(Kind::Float, 1.0);
    let largest = expected
        .iter()
        .fold(0f64, |most, value| most.max(value.abs()));
    let got = run(Kind::Half, 65536.0);
    let pairs = got.iter().zip(&expected);
    let far = pairs.fold(0f64, |most, (got, expected)| {
        most.max((got - expected).abs())
    });
    assert!(far / largest < 1e-3, "{}", far / largest);
}
