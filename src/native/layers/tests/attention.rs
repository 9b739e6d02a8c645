use super::super::attention;
use super::*;
use crate::native::Autocast;

const NAMES: [&str; 3] = ["query", "key", "value"];

/// `[batch · length, hidden]` to `[batch, heads, length, size]`.
fn split(states: &Tensor, batch: i64, heads: i64) -> Tensor {
    let size = states.size()[1] / heads;
    states.view([batch, -1, heads, size]).transpose(1, 2)
}

/// The same of plain operators, with these factors on the probabilities.
fn plain(
    [query, key, value]: [&Tensor; 3],
    mask: Option<&Tensor>,
    batch: i64,
    heads: i64,
    factors: &Tensor,
) -> Tensor {
    let [query, key, value] = [query, key, value].map(|states| split(states, batch, heads));
    let size = query.size()[3] as f64;
    let mut scores = query.matmul(&key.transpose(2, 3)) / size.sqrt();
    if let Some(mask) = mask {
        scores += mask;
    }
    let probabilities = scores.softmax(-1, None) * factors;
    let output = probabilities.matmul(&value).transpose(1, 2);
    output.reshape([-1, output.size()[2] * output.size()[3]])
}

fn one() -> Tensor {
    Tensor::ones([1], (Kind::Double, Device::Cpu))
}

/// Hides the last two places of the last example, and prefers some others.
fn mask(batch: i64, length: i64) -> Tensor {
    let mask = between(-2.0, 0.0, &[batch, 1, 1, length]).detach();
    let _ = mask
        .get(batch - 1)
        .narrow(2, length - 2, 2)
        .fill_(f64::NEG_INFINITY);
    mask
}

#[test]
fn without_drops_the_same_as_plain_operators() {
    let length = 7;
    for (batch, heads) in [(1, 1), (3, 1), (1, 4), (2, 4)] {
        let masks = [
            None,
            Some(mask(batch, length)),
            Some(randn(&[batch, heads, length, length], Kind::Double).detach()),
        ];
        for mask in &masks {
            let states = [(); 3].map(|()| randn(&[batch * length, 4 * heads], Kind::Double));
            let states = states.each_ref();
            let got = attention(states, mask.as_ref(), batch, heads, NONE).unwrap();
            let expected = plain(states, mask.as_ref(), batch, heads, &one());
            assert_same(&NAMES, &states, &got, &expected, 1e-10);
        }
    }
}

/// Each head's value is the identity, so that the output is the probabilities that are left.
#[test]
fn with_drops_the_same_as_plain_operators_with_the_same_drops() {
    let (batch, heads, length, p) = (2, 3, 10, 0.3);
    let float = (Kind::Double, Device::Cpu);
    for mask in [None, Some(mask(batch, length))] {
        let [query, key] = [(); 2].map(|()| randn(&[batch * length, heads * length], Kind::Double));
        let value = Tensor::eye(length, float).repeat([batch, heads]);
        let value = value.set_requires_grad(true);
        let states = [&query, &key, &value];
        let got = attention(states, mask.as_ref(), batch, heads, p).unwrap();
        let left = split(&got.detach(), batch, heads).ne(0.0);
        let part = left.to_kind(Kind::Double).mean(None).double_value(&[]);
        // A tenth is hidden by the mask.
        assert!(part > 0.45 && part < 0.85, "{part}");
        let factors = left.to_kind(Kind::Double) / (1.0 - p);
        let expected = plain(states, mask.as_ref(), batch, heads, &factors);
        assert_same(&NAMES, &states, &got, &expected, 1e-10);
    }
}

#[test]
fn views_are_read_as_they_are_seen() {
    let (batch, heads) = (2, 2);
    let wide = randn(&[3, 8, 10], Kind::Double);
    let [query, key, value] = [0, 1, 2].map(|part| wide.get(part).tr());
    let states = [&query, &key, &value];
    let got = attention(states, None, batch, heads, NONE).unwrap();
    // A copy for `view`.
    let copies = states.map(Tensor::contiguous);
    let expected = plain(copies.each_ref(), None, batch, heads, &one());
    assert_same(&["all"], &[&wide], &got, &expected, 1e-10);
}

#[test]
fn lower_precision_stays_within_its_rounding() {
    for (kind, tolerance) in [
        (Kind::Float, 1e-5),
        (Kind::BFloat16, 0.03),
        (Kind::Half, 4e-3),
    ] {
        let states = [(); 3].map(|()| randn(&[2 * 9, 8], kind));
        let got = attention(states.each_ref(), None, 2, 2, NONE).unwrap();
        let exact = states.each_ref().map(|states| states.to_kind(Kind::Double));
        let expected = plain(exact.each_ref(), None, 2, 2, &one()).to_kind(kind);
        assert_same(&NAMES, &states.each_ref(), &got, &expected, tolerance);
    }
}

/// Both passes are in the kind of the operands.
#[test]
fn mixed_precision_changes_nothing() {
    let states = [(); 3].map(|()| randn(&[2 * 9, 8], Kind::Double).to_kind(Kind::Float));
    let states = states.map(|states| states.detach().set_requires_grad(true));
    let expected = plain(states.each_ref(), None, 2, 2, &one().to_kind(Kind::Float));
    let gradient = Tensor::randn_like(&expected.detach());
    let of_expected = gradients(&expected, &gradient, &states.each_ref());
    let _region = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
    let got = attention(states.each_ref(), None, 2, 2, NONE).unwrap();
    assert_near("output", &got, &expected, 1e-5);
    let of_got = gradients(&got, &gradient, &states.each_ref());
    for (got, expected) in of_got.iter().zip(&of_expected) {
        assert_near("gradient", got, expected, 1e-5);
    }
}

#[test]
fn shapes_that_cannot_be_split_are_errors() {
    let states = randn(&[6, 8], Kind::Double);
    for (batch, heads) in [(4, 2), (2, 3), (0, 2), (2, 0), (-1, 2)] {
        let output: Result<_> = attention([&states; 3], None, batch, heads, 0.1);
        assert!(output.is_err(), "{batch}, {heads}");
    }
    let empty = Tensor::zeros([0, 8], (Kind::Double, Device::Cpu));
    assert!(attention([&empty; 3], None, 0, 2, 0.1).is_err());
}

#[test]
fn it_can_be_differentiated_once() {
    let states = [(); 3].map(|()| randn(&[6, 8], Kind::Double));
    let output = attention(states.each_ref(), None, 2, 2, 0.1).unwrap();
    assert_once_only(&output, &states[0]);
}
