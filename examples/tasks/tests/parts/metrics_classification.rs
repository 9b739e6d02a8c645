//! Scores of classes, against scikit-learn.

use tasks::metrics::classification::{accuracy, f1, matthews};

use crate::metrics_reference::{reference, same};

fn digits(text: &str) -> Vec<usize> {
    let digit = |c: char| c.to_digit(10).unwrap() as usize;
    text.chars().map(digit).collect()
}

#[test]
fn classes() {
    let cases = reference().classification;
    assert_eq!(cases.len(), 77);
    for case in cases {
        let what = format!("{} for {}", case.predicted, case.labels);
        let (p, l) = (digits(&case.predicted), digits(&case.labels));
        same(&what, accuracy(&p, &l).unwrap(), case.accuracy);
        same(&what, matthews(&p, &l).unwrap(), case.matthews);
        same(&what, f1(&p, &l, 1).unwrap(), case.f1);
    }
}

#[test]
fn any_number_is_a_class() {
    let (p, l) = ([usize::MAX, 0, 7], [usize::MAX, 7, 0]);
    same("f1", f1(&p, &l, usize::MAX).unwrap(), 1.0);
    // One of three right, each class once on both sides: (1·3 − 3) / (9 − 3).
    same("matthews", matthews(&p, &l).unwrap(), 0.0);
}

#[test]
fn errors_name_the_position() {
    type Score = fn(&[usize], &[usize]) -> tasks::Result<f64>;
    let of_first: Score = |p, l| f1(p, l, 0);
    for score in [accuracy, matthews, of_first] {
        let message = score(&[0, 1], &[0, 1, 1]).unwrap_err().to_string();
        assert!(message.starts_with("2 predictions for 3 labels: position 2"));
        let message = score(&[0, 1], &[0]).unwrap_err().to_string();
        assert!(message.starts_with("2 predictions for 1 labels: position 1"));
        let message = score(&[], &[]).unwrap_err().to_string();
        assert!(message.starts_with("no examples"), "{message}");
    }
}
