//! Logits that are made of hidden states and an output matrix.

use crate::common::waves;
use tch::Kind;
use textbrewer::Logits;
use textbrewer::logits::FromHidden;

#[test]
fn logits_from_hidden_states_are_those_of_the_formula() {
    let (hidden, weight, bias) = (
        waves(&[2, 3, 4], 0.1),
        waves(&[5, 4], 0.6),
        waves(&[5], 0.8),
    );
    let leaves = [&hidden, &weight, &bias].map(|leaf| leaf.copy().set_requires_grad(true));
    let made = FromHidden::new(&leaves[0], &leaves[1]).unwrap();
    let made = made.bias(&leaves[2]).unwrap().scale(0.25).unwrap();
    let made = Logits::from(made.soft_cap(0.5).unwrap());
    let z = (hidden.matmul(&weight.tr()) + &bias) * 0.25;
    let by_hand = (z / 0.5).tanh() * 0.5;
    crate::common::assert_close("logits", &made.whole().unwrap(), &by_hand);
    assert!(
        by_hand.abs().max().double_value(&[]) > 0.2,
        "the cap does something"
    );
    made.whole().unwrap().sum(None).backward();
    assert!(
        leaves
            .iter()
            .all(|leaf| leaf.grad().abs().sum(None).double_value(&[]) > 0.0)
    );
    // Without a bias, scale and cap.
    let plain = Logits::from(FromHidden::new(&hidden, &weight).unwrap());
    crate::common::assert_close(
        "plain",
        &plain.whole().unwrap(),
        &hidden.matmul(&weight.tr()),
    );
}

#[test]
fn hidden_states_of_16_bits_meet_a_matrix_of_32() {
    let (hidden, weight) = (
        waves(&[2, 4], 0.1),
        waves(&[5, 4], 0.6).to_kind(Kind::Float),
    );
    let hidden = hidden.to_kind(Kind::BFloat16);
    let logits = Logits::from(FromHidden::new(&hidden, &weight).unwrap());
    for logits in [&logits, &logits.at_least_float32().unwrap()] {
        let whole = logits.whole().unwrap();
        assert_eq!(whole, hidden.to_kind(Kind::Float).matmul(&weight.tr()));
    }
}

#[test]
fn a_matrix_of_16_bits_is_multiplied_as_it_is() {
    for kind in [Kind::Half, Kind::BFloat16] {
        let (hidden, weight) = (
            waves(&[2, 4], 0.1).to_kind(kind),
            waves(&[5, 4], 0.6).to_kind(kind),
        );
        let bias = waves(&[5], 0.8).to_kind(Kind::Float);
        let product = hidden.matmul(&weight.tr());
        let made = || FromHidden::new(&hidden, &weight).unwrap();
        let (plain, with_bias) = (made().into(), made().bias(&bias).unwrap().into());
        let expected = product.to_kind(Kind::Float);
        for (logits, expected) in [(plain, &expected), (with_bias, &(&expected + &bias))] {
            let logits: Logits = logits;
            // Widened hidden states get their kind back for the product.
            for logits in [&logits, &logits.at_least_float32().unwrap()] {
                assert_eq!(&logits.whole().unwrap(), expected, "{kind:?}");
            }
        }
    }
}

#[test]
fn of_two_kinds_the_product_is_in_one_that_holds_both() {
    let (hidden, weight, bias) = (waves(&[2, 4], 0.1), waves(&[5, 4], 0.6), waves(&[5], 0.8));
    use Kind::{BFloat16, Double, Float, Half};
    for (of_hidden, of_weight, of_bias, expected) in [
        (Float, BFloat16, Float, Float),
        (BFloat16, Float, Half, Float),
        (Half, BFloat16, BFloat16, Float),
        (Double, Float, Float, Double),
        (Float, Double, Double, Double),
    ] {
        let [hidden, weight, bias] = [(&hidden, of_hidden), (&weight, of_weight), (&bias, of_bias)]
            .map(|(tensor, kind)| tensor.to_kind(kind));
        let logits = FromHidden::new(&hidden, &weight)
            .unwrap()
            .bias(&bias)
            .unwrap();
        let [hidden, weight, bias] = [hidden, weight, bias].map(|tensor| tensor.to_kind(expected));
        let got = Logits::from(logits).whole().unwrap();
        assert_eq!(got, hidden.linear(&weight, Some(&bias)));
        assert_eq!(got.kind(), expected);
    }
}
