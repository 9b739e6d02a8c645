//! Scores of classes and numbers, against scikit-learn and SciPy.

use tasks::metrics::classification::{accuracy, f1, macro_f1, matthews};
use tasks::metrics::correlation::{pearson, spearman};

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
        same(&what, macro_f1(&p, &l).unwrap(), case.macro_f1);
    }
}

#[test]
fn numbers() {
    let cases = reference().correlation;
    assert_eq!(cases.len(), 28);
    for case in cases {
        let what = format!("{:?} for {:?}", case.predicted, case.labels);
        let (p, l) = (&case.predicted, &case.labels);
        same(&what, pearson(p, l).unwrap(), case.pearson);
        same(&what, spearman(p, l).unwrap(), case.spearman);
    }
}

#[test]
fn any_number_is_a_class() {
    let (p, l) = ([usize::MAX, 0, 7], [usize::MAX, 7, 0]);
    same("f1", f1(&p, &l, usize::MAX).unwrap(), 1.0);
    same("macro", macro_f1(&p, &l).unwrap(), 1.0 / 3.0);
    // One of three right, each class once on both sides: (1·3 − 3) / (9 − 3).
    same("matthews", matthews(&p, &l).unwrap(), 0.0);
}

#[test]
fn equal_numbers_correlate_with_nothing() {
    // Their rounded mean is another number.
    let (constant, other) = ([0.1; 3], [1.0, 2.0, 4.0]);
    for correlation in [pearson, spearman] {
        assert_eq!(correlation(&constant, &other).unwrap(), 0.0);
        assert_eq!(correlation(&other, &constant).unwrap(), 0.0);
        assert_eq!(correlation(&[0.0; 3], &other).unwrap(), 0.0);
        assert_eq!(correlation(&[-0.3; 3], &other).unwrap(), 0.0);
        assert_eq!(correlation(&[1.0], &[2.0]).unwrap(), 0.0);
    }
}

#[test]
fn numbers_without_a_sum() {
    let large = [f64::MAX, f64::MAX, -f64::MAX];
    same("pearson", pearson(&large, &large).unwrap(), 1.0);
    same("pearson", pearson(&large, &[1.0, 1.0, 0.0]).unwrap(), 1.0);
}

#[test]
fn errors_name_the_position() {
    type Score = fn(&[usize], &[usize]) -> tasks::Result<f64>;
    let of_first: Score = |p, l| f1(p, l, 0);
    for score in [accuracy, matthews, of_first, macro_f1] {
        let message = score(&[0, 1], &[0, 1, 1]).unwrap_err().to_string();
        assert!(message.starts_with("2 predictions for 3 labels: position 2"));
        let message = score(&[0, 1], &[0]).unwrap_err().to_string();
        assert!(message.starts_with("2 predictions for 1 labels: position 1"));
        let message = score(&[], &[]).unwrap_err().to_string();
        assert!(message.starts_with("no examples"), "{message}");
    }
    for correlation in [pearson, spearman] {
        let message = correlation(&[1.0], &[]).unwrap_err().to_string();
        assert!(message.contains("position 0"), "{message}");
        let error = correlation(&[1.0, f64::NAN], &[1.0, 2.0]).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("the prediction at position 1"));
        let error = correlation(&[1.0], &[f64::INFINITY]).unwrap_err();
        assert!(error.to_string().starts_with("the label at position 0"));
    }
}
