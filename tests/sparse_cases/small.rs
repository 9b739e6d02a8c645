//! Numbers worked out by hand, small tails, and places that fill up.

use tch::{Kind, Tensor};
use textbrewer::KdInput;
use textbrewer::logits::{Sample, Tail, TopK};
use textbrewer::losses::Temperature;

use crate::common::device::device;
use crate::{ALL, assert_near, logits, losses, try_value, value_and_gradient};

fn on_device(tensor: Tensor) -> Tensor {
    tensor.to_device(device())
}

/// Four classes with these probabilities, of which the teacher names the first two.
const P: [f64; 4] = [0.5, 0.3, 0.15, 0.05];
const Q: [f64; 4] = [0.4, 0.1, 0.2, 0.3];

#[test]
fn the_four_treatments_are_what_they_say() {
    let student = on_device(Tensor::from_slice2(&[Q]).log());
    let teacher = on_device(Tensor::from_slice2(&[P]).log());
    let terms = |pairs: &[(f64, f64)]| -> f64 { pairs.iter().map(|(p, q)| p * (p / q).ln()).sum() };
    let (a, b) = ((0.5, 0.4), (0.3, 0.1));
    for (tail, expected) in [
        (Tail::Bucket, terms(&[a, b, (0.2, 0.5)])),
        (Tail::Truncated, terms(&[a, b])),
        (Tail::Renormalized, terms(&[(0.625, 0.4), (0.375, 0.1)])),
        (Tail::Uniform, terms(&[a, b, (0.1, 0.2), (0.1, 0.3)])),
    ] {
        let top = TopK::of(&teacher, 2, 1.0).unwrap();
        let input = KdInput::new(&student, top, 1.0).unwrap();
        let value = try_value(&"forward_kl".into(), tail, &input).unwrap();
        assert!((value.double_value(&[]) - expected).abs() < 1e-12, "{tail}");
    }
}

/// `pᵃ`, the tail as one class or as two of one size, divided by their sum.
#[test]
fn another_temperature_is_a_power() {
    let student = on_device(Tensor::from_slice2(&[Q]).log());
    let teacher = on_device(Tensor::from_slice2(&[P]).log());
    // Taken at 1, wanted at 2.
    let [p0, p1, one, half] = [0.5f64, 0.3, 0.2, 0.1].map(f64::sqrt);
    let q = Q.map(f64::sqrt);
    let of_student = q.map(|of_class| of_class / q.iter().sum::<f64>());
    let terms = |pairs: &[(f64, f64)], total: f64| -> f64 {
        let of_one = |(p, q): &(f64, f64)| p / total * (p / total / q).ln();
        pairs.iter().map(of_one).sum()
    };
    let rest = of_student[2] + of_student[3];
    let (a, b) = ((p0, of_student[0]), (p1, of_student[1]));
    let spread = [a, b, (half, of_student[2]), (half, of_student[3])];
    for (tail, expected) in [
        (Tail::Bucket, terms(&[a, b, (one, rest)], p0 + p1 + one)),
        (Tail::Truncated, terms(&[a, b], p0 + p1 + one)),
        (Tail::Renormalized, terms(&[a, b], p0 + p1)),
        (Tail::Uniform, terms(&spread, p0 + p1 + 2.0 * half)),
    ] {
        let top = || TopK::of(&teacher, 2, 1.0).unwrap();
        let each = Temperature::from(on_device(Tensor::from_slice(&[2.0])));
        for temperature in [Temperature::from(2.0), each] {
            let input = KdInput::new(&student, top(), temperature).unwrap();
            let value = try_value(&"forward_kl".into(), tail, &input).unwrap();
            assert!((value.double_value(&[]) - expected).abs() < 1e-12, "{tail}");
        }
    }
}

#[test]
fn a_tail_of_a_hundred_thousandth_is_right_in_float32() {
    let classes = 1000;
    // The likeliest has nearly all; the others have together 1e-5, no two the same.
    let others = (Tensor::arange(classes - 1, (Kind::Double, device())) * 0.7).sin();
    let others = others.softmax(-1, None).log() + 1e-5f64.ln();
    let first = on_device(Tensor::from_slice(&[(1.0f64 - 1e-5).ln()]));
    let logits = Tensor::cat(&[first, others], 0).view([1, classes]);
    let of_kind = |kind| {
        let logits = logits.to_kind(kind);
        let top = TopK::of(&logits, 1, 1.0).unwrap();
        let of_teacher = top.log_tail().to_kind(Kind::Double).exp();
        // A teacher with all in the tail: −log of the student's.
        let nothing = on_device(Tensor::from_slice2(&[[-80.0]]));
        let all = TopK::new(
            top.indices(),
            &nothing,
            &on_device(Tensor::from_slice(&[0.0])),
        );
        let input = KdInput::new(&logits, all.unwrap(), 1.0).unwrap();
        let value = try_value(&"ce".into(), Tail::Bucket, &input).unwrap();
        (of_teacher.double_value(&[0]), value.double_value(&[]))
    };
    let (of_teacher, of_student) = of_kind(Kind::Float);
    assert!((of_teacher / 1e-5 - 1.0).abs() < 1e-6, "{of_teacher}");
    // A difference of logarithms is a ratio.
    assert!((of_student + 1e-5f64.ln()).abs() < 1e-6, "{of_student}");
    let (of_teacher, of_student) = of_kind(Kind::Double);
    assert!((of_teacher / 1e-5 - 1.0).abs() < 1e-10, "{of_teacher}");
    assert!((of_student + 1e-5f64.ln()).abs() < 1e-10, "{of_student}");
}

#[test]
fn places_without_a_class_fill_up() {
    let (student, teacher) = (logits(0.3), logits(5.0));
    for (spec, tail) in losses()
        .into_iter()
        .flat_map(|spec| ALL.map(|tail| (spec.clone(), tail)))
    {
        if tail == Tail::Renormalized && crate::ends_in_reverse(&spec) {
            continue;
        }
        for temperature in [1.0, 2.0] {
            let top = TopK::of(&teacher, 3, 1.0).unwrap();
            // The first class again, one that is not named, and two that there are not, before and
            // after the others.
            let ids = top.indices();
            let again = ids.narrow(-1, 0, 1);
            let nothing = again.to_kind(Kind::Double).full_like(f64::NEG_INFINITY);
            let other = (ids.sum_dim_intlist([-1i64].as_slice(), true, None)).remainder(7);
            let (before, after) = (again.full_like(-1), again.full_like(7));
            let ids = Tensor::cat(&[&before, &again, ids, &other, &again, &after], -1);
            let named = top.log_probabilities();
            let logs = [&nothing, &nothing, named, &nothing, &nothing, &nothing];
            let filled = TopK::new(&ids, &Tensor::cat(&logs, -1), top.log_tail()).unwrap();
            let got = value_and_gradient(&spec, tail, &student, filled, temperature);
            let plain = value_and_gradient(&spec, tail, &student, top, temperature);
            let what = format!("{spec} {tail}");
            assert_near(&what, (got.0, &got.1), (plain.0, &plain.1), 1e-12);
        }
    }
}

/// All is in the tail, and which index fills up does not matter.
#[test]
fn a_position_may_have_no_class_at_all() {
    let student = on_device(Tensor::from_slice2(&[Q]).log());
    let flat = on_device(Tensor::from_slice2(&[[0.25f64; 4]]).log());
    for (spec, tail) in losses()
        .into_iter()
        .flat_map(|spec| ALL.map(|tail| (spec.clone(), tail)))
    {
        if tail == Tail::Renormalized && crate::ends_in_reverse(&spec) {
            continue;
        }
        for (ids, temperature) in [([-1, -1], 1.0), ([0, 4], 1.0), ([1, 1], 2.0)] {
            let nothing = Tensor::from_slice2(&[[f64::NEG_INFINITY; 2]]);
            let top = TopK::new(
                &on_device(Tensor::from_slice2(&[ids])),
                &on_device(nothing),
                &on_device(Tensor::from_slice(&[0.0])),
            );
            let (value, gradient) =
                value_and_gradient(&spec, tail, &student, top.unwrap(), temperature);
            let what = format!("{spec} {tail} {ids:?}");
            if tail == Tail::Uniform {
                let whole = value_and_gradient(&spec, tail, &student, &flat, temperature);
                assert_near(&what, (value, &gradient), (whole.0, &whole.1), 1e-12);
                continue;
            }
            // With `renormalized` the teacher has nothing at all, and the student one class.
            let expected = match (tail, spec.name.as_str()) {
                (Tail::Renormalized, "total_variation") => 0.5,
                (Tail::Renormalized, "generalized_jsd") => 0.7 * -0.7f64.ln(),
                (Tail::Renormalized, "skew_reverse_kl") => -0.1f64.ln(),
                _ => 0.0,
            };
            assert_near(&what, (value, &gradient), (expected, &[0.0; 4]), 1e-12);
        }
    }
}

/// What fills up a sample is not looked at either.
#[test]
fn a_weight_of_0_fills_up() {
    let student = on_device(Tensor::from_slice2(&[Q]).log());
    for outside in [-1i64, 4] {
        let ids = on_device(Tensor::from_slice2(&[[outside, 2]]));
        let weights = on_device(Tensor::from_slice2(&[[0.0, 1.0]]));
        let sample = Sample::new(&ids, &weights).unwrap();
        let got = value_and_gradient(&"ce".into(), Tail::Bucket, &student, sample, 1.0);
        assert_near(
            "a sample",
            (got.0, &got.1),
            (-0.2f64.ln(), &[0.4, 0.1, 0.2 - 1.0, 0.3]),
            1e-12,
        );
    }
}
