//! Losses on logits that are made some positions at a time, against those of all at once.

mod common;
#[path = "fused_cases/trainings.rs"]
mod trainings;

use common::device::{device, waves};
use common::elements;
use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::FromHidden;
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
    for spec in specs {
        for weighted in [false, true] {
            let loss = presets.find_kd_loss("kd_loss_type", &spec).unwrap();
            let input = |student: textbrewer::Logits, teacher: &Head| {
                let teacher = teacher.frozen();
                let input = KdInput::new(student, teacher, 2.0)
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
            let what = format!("{spec} in {kind:?}, weighted: {weighted}");
            assert!(
                (in_parts.0 / at_once.0 - 1.0).abs() < tolerance.min(1e-6),
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
