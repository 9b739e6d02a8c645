use tch::IndexOp;

use super::super::dropout;
use super::*;

/// Relative rounding of the kinds that are supported.
const KINDS: [(Kind, f64); 4] = [
    (Kind::Double, 2.3e-16),
    (Kind::Float, 1.2e-7),
    (Kind::Half, 9.8e-4),
    (Kind::BFloat16, 7.9e-3),
];

fn ones(count: i64) -> Tensor {
    Tensor::ones([count], (Kind::Float, Device::Cpu))
}

/// Which elements are left, of an input without zeros.
fn kept(output: &Tensor) -> Tensor {
    output.ne(0.0)
}

fn fraction_kept(output: &Tensor) -> f64 {
    kept(output)
        .to_kind(Kind::Double)
        .mean(None)
        .double_value(&[])
}

#[test]
fn as_many_are_dropped_as_asked_for() {
    // Odd, and more than one thread's share.
    let count = 300_001;
    for p in [0.01, 0.1, 0.5, 0.9, 0.999] {
        let fraction = fraction_kept(&dropout(&ones(count), p).unwrap());
        let sigma = (p * (1.0 - p) / count as f64).sqrt();
        assert!(
            (fraction - (1.0 - p)).abs() <= 5.0 * sigma,
            "{p}: {fraction}"
        );
    }
}

/// Neighbours share the random bits of one place.
#[test]
fn neighbours_are_dropped_independently() {
    let pairs = 200_000;
    let left = kept(&dropout(&ones(2 * pairs), 0.5).unwrap()).view([pairs, 2]);
    let [first, second] = [0, 1].map(|column| left.i((.., column)).to_kind(Kind::Double));
    for (what, other) in [
        ("of a place", second.shallow_clone()),
        ("of two places", second.roll([1], [0])),
    ] {
        let both = (&first * other).mean(None).double_value(&[]);
        let sigma = (0.25f64 * 0.75 / pairs as f64).sqrt();
        assert!((both - 0.25).abs() <= 5.0 * sigma, "{what}: {both}");
    }
}

#[test]
fn what_is_left_is_divided_by_its_part() {
    for (kind, rounding) in KINDS {
        for count in [1, 2, 3, 1001] {
            let input = between(0.5, 2.0, &[count]).detach().to_kind(kind);
            for p in [0.1, 0.5, 0.75] {
                let output = dropout(&input, p).unwrap();
                assert_eq!(output.kind(), kind);
                let expected = input.to_kind(Kind::Double) / (1.0 - p) * kept(&output);
                // These are powers of two.
                let tolerance = if p == 0.1 { rounding } else { 0.0 };
                let error = (output.to_kind(Kind::Double) - &expected).abs();
                let within = error.le_tensor(&(expected * tolerance));
                assert!(is_true(within), "{kind:?}, {count}, {p}");
            }
        }
    }
}

#[test]
fn an_empty_tensor_stays_empty() {
    let output = dropout(&Tensor::zeros([3, 0], (Kind::Float, Device::Cpu)), 0.5).unwrap();
    assert_eq!(output.size(), [3, 0]);
}

#[test]
fn everything_and_nothing_can_be_dropped() {
    for (kind, _) in KINDS {
        let input = between(0.5, 2.0, &[10_001]).detach().to_kind(kind);
        assert!(is_true(dropout(&input, 1.0).unwrap().eq(0.0)), "{kind:?}");
        assert_eq!(dropout(&input, 0.0).unwrap(), input, "{kind:?}");
    }
}

#[test]
fn a_view_is_read_in_its_own_order() {
    let whole = between(1.0, 2.0, &[6, 35]).detach();
    for view in [
        whole.tr(),
        whole.i((.., 3..20)),
        whole.i((1, ..)).expand([4, 35], false),
    ] {
        let output = dropout(&view, 0.5).unwrap();
        assert_eq!(output, &view * kept(&output) * 2.0);
        let fraction = fraction_kept(&output);
        assert!(fraction > 0.0 && fraction < 1.0, "{fraction}");
    }
}

#[test]
fn the_gradient_is_dropped_where_the_output_is() {
    for (kind, _) in KINDS {
        let input = between(0.5, 2.0, &[7, 143]).detach().to_kind(kind);
        let input = input.set_requires_grad(true);
        let output = dropout(&input, 0.5).unwrap();
        let expected = kept(&output).to_kind(kind) * 2.0;
        // Of an expanded number, and of a transposed matrix.
        let of_sum = Tensor::run_backward(&[output.sum(None)], &[&input], true, false);
        assert_eq!(of_sum[0], expected, "{kind:?}");
        let factors = between(1.0, 2.0, &[143, 7]).detach().to_kind(kind);
        let of_view = gradients(&output.tr(), &factors, &[&input]);
        assert_eq!(of_view[0], expected * factors.tr(), "{kind:?}");
    }
}

#[test]
fn every_call_drops_others() {
    let [first, second] = [(); 2].map(|()| dropout(&ones(1000), 0.5).unwrap());
    assert_ne!(first, second);
}

/// Of one tensor of a single thread's share, and of one that several threads share, the
/// first elements are treated alike. The generator is the process's, and another test may
/// draw between the seed and the call; one undisturbed pair is enough, as by chance
/// no two are alike.
#[test]
fn the_seed_and_the_place_decide() {
    // The most that one thread does alone.
    let few = 16_384;
    let seeded = |count: i64| {
        tch::manual_seed(5);
        dropout(&ones(count), 0.5).unwrap()
    };
    for other in [few, 16_501, 100_000] {
        let first = |tensor: Tensor| tensor.narrow(0, 0, few);
        let alike = |_| first(seeded(few)) == first(seeded(other));
        assert!((0..1000).any(alike), "{few} and {other} elements");
    }
}

#[test]
fn it_can_be_differentiated_once() {
    let input = randn(&[50], Kind::Float);
    assert_once_only(&dropout(&input, 0.5).unwrap(), &input);
}
