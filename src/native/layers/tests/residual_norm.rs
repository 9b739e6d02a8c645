use super::super::residual_norm;
use super::*;

const NAMES: [&str; 4] = ["input", "residual", "weight", "bias"];
const EPS: f64 = 1e-5;

/// The same of plain operators, with these factors on the input.
fn plain([input, residual, weight, bias]: [&Tensor; 4], factors: &Tensor) -> Tensor {
    let sum = input * factors + residual;
    sum.layer_norm(weight.size(), Some(weight), Some(bias), EPS, true)
}

fn layer([input, residual, weight, bias]: [&Tensor; 4], p: f64) -> Tensor {
    residual_norm(input, residual, [weight, bias], EPS, p).unwrap()
}

fn one(kind: Kind) -> Tensor {
    Tensor::ones([1], (kind, Device::Cpu))
}

#[test]
fn without_drops_the_same_as_plain_operators() {
    for (rows, size) in [(1, 8), (9, 17), (40, 64)] {
        let [input, residual] = [(); 2].map(|()| randn(&[rows, size], Kind::Double));
        let [weight, bias] = [(); 2].map(|()| randn(&[size], Kind::Double));
        let operands = [&input, &residual, &weight, &bias];
        let got = layer(operands, NONE);
        let expected = plain(operands, &one(Kind::Double));
        assert_same(&NAMES, &operands, &got, &expected, 1e-10);
    }
}

/// What is left of the input is about 200 and what is dropped at most 1, so that the former
/// is above the mean of its row, and the latter below.
#[test]
fn with_drops_the_same_as_plain_operators_with_the_same_drops() {
    let shape = [30, 64];
    let input = between(100.0, 101.0, &shape);
    let residual = between(0.0, 1.0, &shape);
    let weight = between(0.5, 1.5, &shape[1..]);
    let bias = randn(&shape[1..], Kind::Double);
    let operands = [&input, &residual, &weight, &bias];
    let got = layer(operands, 0.5);
    let left = ((&got - &bias) / &weight).detach().gt(0.0);
    let part = left.to_kind(Kind::Double).mean(None).double_value(&[]);
    // Five sigma.
    assert!((part - 0.5).abs() < 0.06, "{part}");
    let factors = left.to_kind(Kind::Double) * 2.0;
    assert_same(&NAMES, &operands, &got, &plain(operands, &factors), 1e-10);
}

#[test]
fn everything_can_be_dropped() {
    let [input, residual] = [(); 2].map(|()| randn(&[9, 16], Kind::Double));
    let [weight, bias] = [(); 2].map(|()| randn(&[16], Kind::Double));
    let operands = [&input, &residual, &weight, &bias];
    let expected = plain(operands, &(one(Kind::Double) * 0.0));
    assert_same(&NAMES, &operands, &layer(operands, 1.0), &expected, 1e-10);
}

#[test]
fn views_and_gradients_of_views() {
    let [input, residual] = [(); 2].map(|()| randn(&[16, 9], Kind::Double));
    let [weight, bias] = [(); 2].map(|()| randn(&[16], Kind::Double));
    let views = [input.tr(), residual.tr()];
    let operands = [&views[0], &views[1], &weight, &bias];
    let leaves = [&input, &residual, &weight, &bias];
    let got = layer(operands, NONE);
    let expected = plain(operands, &one(Kind::Double));
    assert_same(&NAMES, &leaves, &got.tr(), &expected.tr(), 1e-10);
    // A gradient that is one number in memory.
    let of_sum = |output: &Tensor| Tensor::run_backward(&[output.sum(None)], &leaves, true, false);
    assert_near("bias", &of_sum(&got)[3], &of_sum(&expected)[3], 1e-10);
    assert_near("weight", &of_sum(&got)[2], &of_sum(&expected)[2], 1e-10);
}

/// Under mixed precision a product is in the lower kind, and weights are in float32; what
/// it is added to can be in either.
#[test]
fn mixed_kinds() {
    use Kind::{BFloat16, Float, Half};
    for (kinds, tolerance) in [
        ([BFloat16, Float], 8e-3),
        ([Half, Float], 1e-3),
        ([Float, BFloat16], 8e-3),
        ([BFloat16, BFloat16], 2e-2),
        ([Float, Float], 1e-5),
    ] {
        let [input, residual] = kinds.map(|kind| randn(&[11, 32], kind));
        let [weight, bias] = [(); 2].map(|()| randn(&[32], Float));
        let operands = [&input, &residual, &weight, &bias];
        let got = layer(operands, NONE);
        let lower = kinds[0] != Float && kinds[0] == kinds[1];
        assert_eq!(got.kind(), if lower { kinds[0] } else { Float });
        let wide = operands.map(|operand| operand.to_kind(Float));
        let expected = plain(wide.each_ref(), &one(Float)).to_kind(got.kind());
        // Only what is in a lower kind is rounded to it.
        let within = if lower { tolerance } else { 1e-5 };
        assert_near(&format!("{kinds:?}"), &got, &expected, within);
        assert_same(&NAMES, &operands, &got, &expected, tolerance);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let [input, residual] = [[4, 8], [4, 9]].map(|shape| randn(&shape, Kind::Double));
    let [eight, nine] = [8, 9].map(|size| randn(&[size], Kind::Double));
    assert!(residual_norm(&input, &residual, [&eight; 2], EPS, 0.1).is_err());
    assert!(residual_norm(&input, &input, [&nine; 2], EPS, 0.1).is_err());
}

#[test]
fn it_can_be_differentiated_once() {
    let [input, residual] = [(); 2].map(|()| randn(&[4, 8], Kind::Double));
    let [weight, bias] = [(); 2].map(|()| randn(&[8], Kind::Double));
    let output = residual_norm(&input, &residual, [&weight, &bias], EPS, 0.1).unwrap();
    assert_once_only(&output, &input);
}
