use super::super::linear;
use super::*;
use crate::native::Autocast;

const NAMES: [&str; 3] = ["input", "weight", "bias"];

/// Just large enough: 2²⁶ multiplications.
const ROWS: i64 = 512;
const INPUTS: i64 = 512;
const OUTPUTS: i64 = 256;

fn operands(outputs: i64, kind: Kind) -> [Tensor; 3] {
    [
        randn(&[ROWS, INPUTS], kind),
        randn(&[outputs, INPUTS], kind),
        randn(&[outputs], kind),
    ]
}

fn detached(operands: &[Tensor; 3]) -> [Tensor; 3] {
    operands.each_ref().map(Tensor::detach)
}

fn of([input, weight, bias]: [&Tensor; 3], gelu: bool) -> Option<Tensor> {
    linear(input, weight, bias, gelu).unwrap()
}

fn plain([input, weight, bias]: [&Tensor; 3]) -> Tensor {
    input.linear(weight, Some(bias))
}

#[test]
fn the_same_as_the_plain_operator() {
    let operands = operands(OUTPUTS, Kind::Float);
    let operands = operands.each_ref();
    let got = of(operands, false).expect("a kernel");
    assert_same(&NAMES, &operands, &got, &plain(operands), 1e-5);
    let without_gradient = tch::no_grad(|| of(operands, false)).expect("a kernel");
    assert_near("without a gradient", &without_gradient, &got, 1e-5);
    assert!(!without_gradient.requires_grad());
}

/// Not every processor has a kernel for it.
#[test]
fn lower_precision_stays_within_its_rounding() {
    let operands = operands(OUTPUTS, Kind::BFloat16);
    let operands = operands.each_ref();
    let Some(got) = of(operands, false) else {
        return;
    };
    let wide = operands.map(|operand| operand.to_kind(Kind::Float));
    let expected = plain(wide.each_ref()).to_kind(Kind::BFloat16);
    assert_same(&NAMES, &operands, &got, &expected, 8e-3);
}

/// Weights that are frozen, or a first layer.
#[test]
fn only_the_gradients_that_are_wanted() {
    for wanted in 0..3 {
        let operands = detached(&operands(OUTPUTS, Kind::Float));
        let _ = operands[wanted].set_requires_grad(true);
        let got = of(operands.each_ref(), false).expect("a kernel");
        let expected = plain(operands.each_ref());
        let (names, inputs) = ([NAMES[wanted]], [&operands[wanted]]);
        assert_same(&names, &inputs, &got, &expected, 1e-5);
    }
}

#[test]
fn views_and_gradients_of_views() {
    let input = randn(&[INPUTS, ROWS], Kind::Float);
    let weight = randn(&[INPUTS, OUTPUTS], Kind::Float);
    let bias = randn(&[OUTPUTS, 2], Kind::Float);
    let leaves = [&input, &weight, &bias];
    let views = [input.tr(), weight.tr(), bias.select(1, 1)];
    let got = of(views.each_ref(), false).expect("a kernel").tr();
    let expected = plain(views.each_ref()).tr();
    assert_same(&NAMES, &leaves, &got, &expected, 1e-5);
    // A part of a larger matrix.
    let part = input.narrow(0, 1, INPUTS - 1).tr();
    let of_part = weight.narrow(0, 0, INPUTS - 1).tr();
    let bias_part = views[2].narrow(0, 0, OUTPUTS);
    let more_rows = Tensor::cat(&[&part, &part], 0);
    let views = [&more_rows, &of_part, &bias_part];
    let part = of(views, false).expect("a kernel");
    assert_same(&NAMES, &leaves, &part, &plain(views), 1e-5);
    // A gradient that is one number in memory.
    let of_sum = |output: &Tensor| Tensor::run_backward(&[output.sum(None)], &leaves, true, false);
    for (got, expected) in of_sum(&got).iter().zip(&of_sum(&expected)) {
        assert_near("gradient of the sum", got, expected, 1e-5);
    }
}

#[test]
fn gelu_in_the_same_pass() {
    let operands = detached(&operands(OUTPUTS, Kind::Float));
    let got = of(operands.each_ref(), true).expect("a kernel");
    let expected = plain(operands.each_ref()).gelu("none");
    assert_near("gelu", &got, &expected, 1e-5);
    // Relative to the largest number a wrong kind of GELU could pass; not near zero.
    let bias = &operands[2];
    let input = operands[0].zeros_like();
    let got = of([&input, &operands[1], bias], true).expect("a kernel");
    let error = (got - bias.gelu("none")).abs().max().double_value(&[]);
    assert!(error <= 1e-6, "{error:e}");
}

#[test]
fn none_where_it_does_not_pay_off_or_cannot_be() {
    let small = operands(OUTPUTS - 1, Kind::Float);
    assert!(of(small.each_ref(), false).is_none(), "small");
    assert!(
        tch::no_grad(|| of(small.each_ref(), true)).is_none(),
        "small"
    );
    let large = operands(OUTPUTS, Kind::Float);
    assert!(of(large.each_ref(), true).is_none(), "gelu with gradient");
    for kind in [Kind::Double, Kind::Half] {
        let other = large.each_ref().map(|operand| operand.to_kind(kind));
        assert!(of(other.each_ref(), false).is_none(), "{kind:?}");
    }
    let [input, weight, bias] = large.each_ref();
    let lower = weight.to_kind(Kind::BFloat16);
    assert!(of([input, &lower, bias], false).is_none(), "mixed kinds");
    let more = input.view([2, ROWS / 2, INPUTS]);
    assert!(of([&more, weight, bias], false).is_none(), "not a matrix");
    let narrow = weight.narrow(1, 0, INPUTS - 1);
    assert!(of([input, &narrow, bias], false).is_none(), "shapes");
    let short = bias.narrow(0, 0, OUTPUTS - 1);
    assert!(of([input, weight, &short], false).is_none(), "bias");
    let _region = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
    assert!(of([input, weight, bias], false).is_none(), "autocast");
    let _off = Autocast::off(Device::Cpu).unwrap();
    assert!(of([input, weight, bias], false).is_some(), "no autocast");
}

/// A backward pass inside a region of mixed precision.
#[test]
fn mixed_precision_leaves_the_gradient_alone() {
    let operands = operands(OUTPUTS, Kind::Float);
    let operands = operands.each_ref();
    let (got, expected) = (of(operands, false).expect("a kernel"), plain(operands));
    let gradient = Tensor::randn_like(&expected.detach());
    let of_expected = gradients(&expected, &gradient, &operands);
    let _region = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
    let of_got = gradients(&got, &gradient, &operands);
    for ((name, got), expected) in NAMES.iter().zip(&of_got).zip(&of_expected) {
        assert_near(name, got, expected, 1e-5);
    }
}

#[test]
fn it_can_be_differentiated_once() {
    let operands = operands(OUTPUTS, Kind::Float);
    let output = of(operands.each_ref(), false).expect("a kernel");
    assert_once_only(&output, &operands[0]);
}
