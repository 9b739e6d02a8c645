//! Every layer against the same of libtorch's plain operators, and their automatic gradients.

mod attention;
mod dropout;
mod linear;
mod residual_norm;

use tch::{Device, Kind, Tensor};

use super::Result;

/// So small that nothing is dropped: it rounds to none of 2³² numbers.
const NONE: f64 = 1e-12;

/// From a normal distribution; wants a gradient.
fn randn(shape: &[i64], kind: Kind) -> Tensor {
    let tensor = Tensor::randn(shape, (Kind::Double, Device::Cpu));
    tensor.to_kind(kind).set_requires_grad(true)
}

/// Uniform in this range; wants a gradient.
fn between(low: f64, high: f64, shape: &[i64]) -> Tensor {
    let tensor = Tensor::empty(shape, (Kind::Double, Device::Cpu));
    tensor.uniform(low, high).set_requires_grad(true)
}

/// Gradients of the inputs, where this is that of the output.
fn gradients(output: &Tensor, gradient: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    let total = (output * gradient).sum(None);
    Tensor::run_backward(&[total], inputs, true, false)
}

/// The largest difference, as a part of the largest number.
fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    let [got, expected] = [got, expected].map(|tensor| tensor.detach().to_kind(Kind::Double));
    let largest = |tensor: Tensor| tensor.abs().max().double_value(&[]);
    let unit = largest(expected.shallow_clone()).max(f64::MIN_POSITIVE);
    largest(got - expected) / unit
}

fn assert_near(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), expected.size(), "{what}");
    assert_eq!(got.kind(), expected.kind(), "{what}");
    // Written so that NaN fails.
    let distance = distance(got, expected);
    assert!(distance <= tolerance, "{what}: differ by {distance:e}");
}

/// The same output, and the same gradients of all inputs.
fn assert_same(names: &[&str], inputs: &[&Tensor], got: &Tensor, expected: &Tensor, within: f64) {
    assert_near("output", got, expected, within);
    let gradient = Tensor::randn_like(&expected.detach());
    let of_got = gradients(got, &gradient, inputs);
    let of_expected = gradients(expected, &gradient, inputs);
    for ((name, got), expected) in names.iter().zip(&of_got).zip(&of_expected) {
        assert_near(&format!("gradient of {name}"), got, expected, within);
    }
    assert_eq!(of_got.len(), names.len());
}

/// A gradient of a gradient would be wrong, as none of the layers has one.
fn assert_once_only(output: &Tensor, input: &Tensor) {
    let twice = Tensor::f_run_backward(&[output.square().sum(None)], &[input], true, true);
    let message = twice.unwrap_err().to_string();
    assert!(message.contains("differentiated once only"), "{message}");
    // The first gradient is still to be had.
    let once = Tensor::f_run_backward(&[output.square().sum(None)], &[input], false, false);
    assert_eq!(once.unwrap()[0].size(), input.size());
}

fn is_true(tensor: Tensor) -> bool {
    tensor.all().int64_value(&[]) == 1
}
