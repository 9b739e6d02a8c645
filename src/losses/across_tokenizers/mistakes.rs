//! What does not fit is refused, by name.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::{gold, gold_hybrid, uld};
use crate::losses::Temperature;

type Groups = Vec<(Range<usize>, Range<usize>)>;

const TAU: Temperature = Temperature::Constant(1.5);
const SHARED: [(i64, i64); 1] = [(0, 1)];

/// The student's logits of 5 classes, and the teacher's of 6.
fn logits() -> (Tensor, Tensor) {
    let waves = |size: [i64; 3]| {
        let count = size.iter().product::<i64>();
        let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7;
        numbers.sin().view(size.as_slice())
    };
    (waves([2, 4, 5]), waves([2, 5, 6]))
}

/// Answers of 2 and 3 tokens of the student, and of 4 and 3 of the teacher.
fn labels() -> (Tensor, Tensor) {
    (
        Tensor::from_slice2(&[[-100, 1, 2, -100], [-100, 1, 4, 2]]),
        Tensor::from_slice2(&[[-100, 5, 1, 3, 2], [-100, -100, 4, 0, 1]]),
    )
}

fn singles(count: usize) -> Groups {
    (0..count).map(|at| (at..at + 1, at..at + 1)).collect()
}

/// The error of `gold_hybrid`.
fn of_hybrid(
    groups: [Groups; 2],
    shared: &[(i64, i64)],
    beta: f64,
    weights: Option<(f64, f64)>,
) -> String {
    let ((student, teacher), (labels, of_teacher)) = (logits(), labels());
    let (student, teacher) = ((&student, &labels, &TAU), (&teacher, &of_teacher, &TAU));
    let loss = gold_hybrid(student, teacher, &groups, shared, beta, weights);
    loss.unwrap_err().to_string()
}

/// The error of `gold`, of other labels of the student.
fn of_gold(labels: &Tensor, groups: &[Groups]) -> String {
    let ((student, teacher), of_teacher) = (logits(), self::labels().1);
    let (student, teacher) = ((&student, labels, &TAU), (&teacher, &of_teacher, &TAU));
    gold(student, teacher, groups).unwrap_err().to_string()
}

/// The error of `uld`, of other labels.
fn of_uld(labels: &Tensor, teachers: &Tensor) -> String {
    let (student, teacher) = logits();
    let loss = uld((&student, labels, &TAU), (&teacher, teachers, &TAU));
    loss.unwrap_err().to_string()
}

#[test]
fn groups_have_to_be_of_the_answers() {
    assert_eq!(
        of_hybrid([singles(3), singles(3)], &SHARED, 0.5, None),
        "gold_hybrid, groups of example 0: expected the student's tokens in its answer of 2 (labels that are \
         not -100), got 2..3"
    );
    assert_eq!(
        of_gold(&labels().0, &[singles(1)]),
        "gold, groups: expected a list for each of 2 examples, got 1"
    );
}

#[test]
fn shared_tokens_have_to_be_classes_and_come_once() {
    let of_shared = |shared| of_hybrid([singles(2), singles(3)], shared, 0.5, None);
    assert_eq!(
        of_shared(&[(0, 1), (2, 6)]),
        "gold_hybrid, shared tokens of the teacher: expected classes of 0..6, got 6"
    );
    assert_eq!(
        of_shared(&[(0, 1), (0, 2)]),
        "gold_hybrid, shared tokens of the student: expected each class once, got 0"
    );
}

#[test]
fn beta_and_weights_have_to_be_such() {
    let with = |beta, weights| of_hybrid([singles(2), singles(3)], &SHARED, beta, weights);
    for beta in [1.5, -0.1, f64::NAN] {
        let expected = format!("gold_hybrid, beta: must be from 0 to 1, is {beta}");
        assert_eq!(with(beta, None), expected);
    }
    assert_eq!(
        with(0.5, Some((1.0, f64::NAN))),
        "gold_hybrid, weights: must be finite, are (1, NaN)"
    );
    assert_eq!(
        with(0.5, Some((f64::INFINITY, 0.0))),
        "gold_hybrid, weights: must be finite, are (inf, 0)"
    );
}

#[test]
fn an_answer_stands_in_one_piece() {
    let in_pieces = Tensor::from_slice2(&[[-100, 1, 2, -100], [1, -100, 4, 2]]);
    let wanted =
        "an answer in one piece (labels that are not -100 stand together), got one with -100 in it";
    assert_eq!(
        of_gold(&in_pieces, &[singles(1), singles(1)]),
        format!("gold, student's labels of example 1: expected {wanted}")
    );
    assert_eq!(
        of_uld(&in_pieces, &labels().1),
        format!("uld, student's labels of example 1: expected {wanted}")
    );
    let teachers = Tensor::from_slice2(&[[5, 1, -100, 2, -100], [-100, -100, 4, 0, 1]]);
    assert_eq!(
        of_uld(&labels().0, &teachers),
        format!("uld, teacher's labels of example 0: expected {wanted}")
    );
    assert_eq!(
        of_uld(&labels().0.to_kind(Kind::Float), &teachers),
        "uld, student's labels: expected integers (Int64), got Float"
    );
}

#[test]
fn every_label_is_a_class() {
    let message =
        |got| format!("gold, student's labels: expected -100 or a class of 0..5, got {got}");
    let groups = [vec![(0..2, 0..4)], vec![]];
    let with = |label| Tensor::from_slice2(&[[-100, label, 2, -100], [-100, 1, 4, 2]]);
    assert_eq!(of_gold(&with(5), &groups), message(5));
    // No probability is taken at the last token of a group.
    assert_eq!(of_gold(&with(5), &[singles(2), singles(3)]), message(5));
    assert_eq!(of_gold(&with(-1), &[singles(2), singles(3)]), message(-1));
}
