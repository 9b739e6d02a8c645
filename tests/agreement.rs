//! How far two models agree: closed forms, edges, errors.

mod common;

use std::f64::consts::LN_2;

use common::{elements, waves};
use tch::{Device, Kind, Tensor};
use textbrewer::losses::{Agreement, agreement};

fn all(agreement: &Agreement) -> [&Tensor; 5] {
    [
        &agreement.best,
        &agreement.top_k,
        &agreement.student_entropy,
        &agreement.teacher_entropy,
        &agreement.student_mass,
    ]
}

fn assert_values(got: &Tensor, expected: &[f64], what: &str) {
    let got = elements(got);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-12, "{what}: {got}, {expected}");
    }
}

/// Logits whose probabilities are powers of 1/2, so that all is known.
#[test]
fn numbers_of_known_probabilities() {
    let logits = |exponents: [f64; 4]| exponents.map(|exponent| exponent * LN_2);
    // Probabilities of 1/2, 1/4, 1/8, 1/8 (logits may have any offset) and of 1/4 each.
    let student = Tensor::from_slice2(&[
        logits([7.0, 6.0, 5.0, 5.0]),
        logits([-1.0, -2.0, -3.0, -3.0]),
        logits([3.0, 3.0, 3.0, 3.0]),
    ]);
    let teacher = Tensor::from_slice2(&[
        logits([3.0, 2.0, 1.0, 1.0]),
        logits([1.0, 1.0, 2.0, 3.0]),
        logits([0.0, 0.0, 1.0, 2.0]),
    ]);
    let two = agreement(&student, &teacher, 2).unwrap();
    assert_values(&two.best, &[1.0, 0.0, 0.0], "best");
    let skewed = 1.75 * LN_2;
    assert_values(
        &two.student_entropy,
        &[skewed, skewed, 2.0 * LN_2],
        "student",
    );
    assert_values(&two.teacher_entropy, &[skewed; 3], "teacher");
    assert_values(&two.student_mass, &[0.75, 0.25, 0.5], "mass");
    assert_eq!(elements(&two.top_k)[..2], [1.0, 0.0]);
    let one = agreement(&student, &teacher, 1).unwrap();
    assert_values(&one.student_mass, &[0.5, 0.125, 0.25], "mass of one");
    assert_eq!(elements(&one.top_k)[..2], [1.0, 0.0]);
    let three = agreement(&student, &teacher, 3).unwrap();
    // The teacher's last class but one of the second position is a tie, one of the student's.
    assert_values(&three.student_entropy, &elements(&two.student_entropy), "k");
    let whole = agreement(&student, &teacher, 4).unwrap();
    assert_values(&whole.top_k, &[1.0; 3], "all classes");
    assert_values(&whole.student_mass, &[1.0; 3], "all classes");
}

/// The same by sets of indices, one position at a time.
#[test]
fn overlap_is_that_of_two_sets() {
    let (positions, classes) = (40, 23);
    let student = waves(&[5, 8, classes], 0.3) * 4.0;
    let teacher = waves(&[5, 8, classes], 1.9) * 4.0 + &student * 0.5;
    let best = |logits: &[f64], k: usize| {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        order.truncate(k);
        order
    };
    let (of_student, of_teacher) = (elements(&student), elements(&teacher));
    let rows = |values: &[f64], row: i64| {
        let start = (row * classes) as usize;
        values[start..start + classes as usize].to_vec()
    };
    for k in [1, 2, 7, 22, 23] {
        let got = agreement(&student, &teacher, k as i64).unwrap();
        for tensor in all(&got) {
            assert_eq!(tensor.size(), [5, 8]);
        }
        let (overlap, is_best) = (elements(&got.top_k), elements(&got.best));
        for row in 0..positions {
            let (one, other) = (
                best(&rows(&of_student, row), k),
                best(&rows(&of_teacher, row), k),
            );
            let shared = other.iter().filter(|class| one.contains(class)).count();
            let row = row as usize;
            assert!((overlap[row] - shared as f64 / k as f64).abs() < 1e-12);
            assert_eq!(is_best[row] == 1.0, one[0] == other[0], "{row}");
        }
    }
}

/// More positions than are looked at in one go, and a single one without a dimension of its own.
#[test]
fn many_positions_are_as_each_by_itself() {
    let (positions, classes) = (600, 1000);
    let student = waves(&[2, positions / 2, classes], 0.3) * 3.0;
    let teacher = waves(&[2, positions / 2, classes], 1.2) * 2.0 + &student * 0.7;
    let got = agreement(&student, &teacher, 5).unwrap();
    let rows = |logits: &Tensor| logits.reshape([positions, classes]);
    let (student, teacher) = (rows(&student), rows(&teacher));
    for row in [0, 1, 130, 131, 261, 262, 263, 524, 599] {
        let one = agreement(&student.get(row), &teacher.get(row), 5).unwrap();
        for (got, one) in all(&got).into_iter().zip(all(&one)) {
            assert_eq!(got.size(), [2, positions / 2]);
            assert_eq!(one.dim(), 0);
            let gap = elements(got)[row as usize] - one.double_value(&[]);
            assert!(gap.abs() < 1e-12, "{row}: {gap}");
        }
    }
}

#[test]
fn equal_models_agree_and_masked_classes_are_no_nan() {
    let masked = Tensor::from_slice2(&[
        [0.0, 0.0, f64::NEG_INFINITY, f64::NEG_INFINITY],
        [1e4, -1e4, f64::NEG_INFINITY, 0.0],
    ]);
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
        let logits = masked.to_kind(kind);
        let same = agreement(&logits, &logits, 2).unwrap();
        for tensor in all(&same) {
            let wide = if kind == Kind::Double {
                kind
            } else {
                Kind::Float
            };
            assert_eq!(tensor.kind(), wide);
        }
        assert_eq!(elements(&same.best), [1.0, 1.0], "{kind:?}");
        assert_eq!(elements(&same.top_k), [1.0, 1.0], "{kind:?}");
        for entropy in [&same.student_entropy, &same.teacher_entropy] {
            let entropy = elements(entropy);
            assert!((entropy[0] - LN_2).abs() < 1e-6, "{kind:?}: {entropy:?}");
            assert_eq!(entropy[1], 0.0, "{kind:?}");
        }
        let mass = elements(&same.student_mass);
        assert!(mass.iter().all(|mass| (mass - 1.0).abs() < 1e-6));
    }
}

/// In 16 bits both classes of the teacher would be one number.
#[test]
fn a_teacher_is_not_rounded_to_16_bits() {
    let student = Tensor::from_slice2(&[[2f32, 1.0]]).to_kind(Kind::BFloat16);
    let teacher = Tensor::from_slice2(&[[100f32, 100.1]]);
    let got = agreement(&student, &teacher, 1).unwrap();
    assert_eq!(elements(&got.best), [0.0]);
}

#[test]
fn no_history_is_recorded() {
    let student = Tensor::from_slice2(&[[1.0, 2.0]]).set_requires_grad(true);
    let got = agreement(&student, &student, 1).unwrap();
    assert!(all(&got).iter().all(|tensor| !tensor.requires_grad()));
}

#[test]
fn no_position_is_no_error() {
    let none = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
    let got = agreement(&none, &none, 2).unwrap();
    assert!(all(&got).iter().all(|tensor| tensor.size() == [0]));
}

#[test]
fn what_does_not_fit_is_named() {
    let logits = |classes: i64| Tensor::zeros([2, classes], (Kind::Float, Device::Cpu));
    let error = |student: &Tensor, teacher: &Tensor, k: i64| {
        agreement(student, teacher, k).unwrap_err().to_string()
    };
    for k in [i64::MIN, -1, 0, 4, i64::MAX] {
        let expected = format!(
            "agreement, k: expected how many of the 3 classes to compare, at least 1, got {k}"
        );
        assert_eq!(error(&logits(3), &logits(3), k), expected);
    }
    assert_eq!(
        error(&logits(3), &logits(1), 1),
        "agreement: expected logits of one shape, [batch, classes] or [batch, length, classes], \
         got student [2, 3] and teacher [2, 1]"
    );
    let (undefined, integers) = (Tensor::new(), logits(3).to_kind(Kind::Int64));
    assert_eq!(
        error(&logits(3), &undefined, 1),
        "agreement, teacher: expected a tensor, got an undefined one"
    );
    let message = error(&integers, &integers, 1);
    assert!(
        message.starts_with("agreement: expected floating-point numbers on both sides"),
        "{message}"
    );
}
