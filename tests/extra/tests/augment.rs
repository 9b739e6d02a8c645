//! What the augmentations promise, for any tokens and any chance. The golden cases have the
//! corners where TextBrewer leaves nothing to chance.

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use textbrewer::Error;
use textbrewer::augment::{
    SpanLength, deleting, long_disorder, masking, n_gram_sampling, short_disorder,
};

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn sorted(tokens: &[usize]) -> Vec<usize> {
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens
}

fn numbers(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// Five probabilities with the sum 1, some of them 0.
fn five() -> impl Strategy<Value = [f64; 5]> {
    prop::array::uniform5(0u32..4)
        .prop_filter("not all 0", |parts| parts.iter().any(|&part| part > 0))
        .prop_map(|parts| {
            let sum: u32 = parts.iter().sum();
            parts.map(|part| f64::from(part) / f64::from(sum))
        })
}

proptest! {
    #[test]
    fn masking_keeps_every_place(count in 0usize..40, p in 0.0..=1.0, seed: u64) {
        let tokens = numbers(count);
        let masked = masking(&tokens, p, 999, &mut rng(seed)).unwrap();
        prop_assert_eq!(masked.len(), count);
        for (token, masked) in tokens.iter().zip(&masked) {
            prop_assert!(masked == token || *masked == 999);
        }
    }

    #[test]
    fn deleting_keeps_the_order(count in 0usize..40, p in 0.0..=1.0, seed: u64) {
        // The numbers ascend, so the rest ascends strictly if and only if it is a subsequence.
        let rest = deleting(&numbers(count), p, &mut rng(seed)).unwrap();
        prop_assert!(rest.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(rest.iter().all(|&token| token < count));
    }

    #[test]
    fn n_grams_are_spans_of_a_possible_length(
        count in 5usize..40,
        p in five(),
        lengths in prop::array::uniform5(0usize..=5),
        seed: u64,
    ) {
        let span = n_gram_sampling(&numbers(count), &p, &lengths, &mut rng(seed)).unwrap();
        prop_assert!(span.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        prop_assert!(span.iter().all(|&token| token < count));
        let possible = |(&length, &p): (&usize, &f64)| length == span.len() && p > 0.0;
        prop_assert!(lengths.iter().zip(&p).any(possible), "{} of {lengths:?}", span.len());
    }

    #[test]
    fn short_disorder_moves_tokens_by_two_at_most(
        count in 0usize..40, p in five(), seed: u64,
    ) {
        let tokens = numbers(count);
        let disordered = short_disorder(&tokens, p, &mut rng(seed)).unwrap();
        prop_assert_eq!(sorted(&disordered), tokens);
        for (place, token) in disordered.into_iter().enumerate() {
            prop_assert!(place.abs_diff(token) <= 2);
        }
    }

    #[test]
    fn long_disorder_moves_tokens_by_half_a_span(
        count in 0usize..60, p in 0.0..=1.0, length in 1usize..30, seed: u64,
    ) {
        let tokens = numbers(count);
        let span = SpanLength::Tokens(length);
        let disordered = long_disorder(&tokens, p, span, &mut rng(seed)).unwrap();
        prop_assert_eq!(sorted(&disordered), tokens);
        for (place, token) in disordered.into_iter().enumerate() {
            let distance = place.abs_diff(token);
            prop_assert!(distance == 0 || distance == length.div_ceil(2));
        }
    }

    #[test]
    fn fractions_end_and_keep_all_tokens(
        tokens in vec(0usize..5, 0..40), p in 0.0..=1.0, fraction in 0.0..3.0, seed: u64,
    ) {
        let span = SpanLength::Fraction(fraction);
        let disordered = long_disorder(&tokens, p, span, &mut rng(seed)).unwrap();
        prop_assert_eq!(sorted(&disordered), sorted(&tokens));
    }

    #[test]
    fn a_seed_decides_everything(count in 5usize..40, p in five(), seed: u64) {
        let tokens = numbers(count);
        let run = || {
            let mut rng = rng(seed);
            let masked = masking(&tokens, p[0], 999, &mut rng).unwrap();
            let kept = deleting(&masked, p[1], &mut rng).unwrap();
            let moved = short_disorder(&kept, p, &mut rng).unwrap();
            let span = n_gram_sampling(&tokens, &p, &[1, 2, 3, 4, 5], &mut rng).unwrap();
            (moved, span)
        };
        prop_assert_eq!(run(), run());
    }
}

/// Within five standard deviations of `p` among `count`.
fn assert_share(what: &str, got: usize, count: usize, p: f64) {
    let (share, deviation) = (
        got as f64 / count as f64,
        (p * (1.0 - p) / count as f64).sqrt(),
    );
    assert!(
        (share - p).abs() < 5.0 * deviation,
        "{what}: {share}, expected {p}"
    );
}

#[test]
fn probabilities_are_those_asked_for() {
    const COUNT: usize = 20_000;
    let tokens = vec![0; COUNT];
    let masked = masking(&tokens, 0.15, 1, &mut rng(1)).unwrap();
    let count = masked.iter().filter(|&&token| token == 1).count();
    assert_share("masking", count, COUNT, 0.15);

    let rest = deleting(&tokens, 0.3, &mut rng(2)).unwrap();
    assert_share("deleting", COUNT - rest.len(), COUNT, 0.3);

    let (mut rng, mut lengths, mut starts) = (rng(3), [0; 6], [0; 8]);
    let p = [0.1, 0.2, 0.3, 0.0, 0.4];
    for _ in 0..COUNT {
        let span = n_gram_sampling(&numbers(8), &p, &[1, 2, 3, 4, 5], &mut rng).unwrap();
        lengths[span.len()] += 1;
        if span.len() == 3 {
            starts[span[0]] += 1;
        }
    }
    assert_eq!((lengths[0], lengths[4]), (0, 0));
    for (length, p) in [(1, 0.1), (2, 0.2), (3, 0.3), (5, 0.4)] {
        assert_share(&format!("{length}-grams"), lengths[length], COUNT, p);
    }
    assert_eq!(starts[6..], [0, 0]);
    for (start, &count) in starts[..6].iter().enumerate() {
        assert_share(&format!("start {start}"), count, lengths[3], 1.0 / 6.0);
    }

    // Of three tokens only the first draw decides, if it is not the first of the cases.
    let (mut orders, p) = ([0; 5], [0.0, 0.4, 0.3, 0.2, 0.1]);
    for _ in 0..COUNT {
        let order = short_disorder(&['a', 'b', 'c'], p, &mut rng).unwrap();
        let known = ["abc", "bac", "cba", "cab", "bca"];
        let order: String = order.into_iter().collect();
        orders[known.iter().position(|&known| known == order).unwrap()] += 1;
    }
    for (case, p) in p.into_iter().enumerate().skip(1) {
        assert_share(&format!("order {case}"), orders[case], COUNT, p);
    }

    let mut swapped = 0;
    for _ in 0..COUNT {
        let span = SpanLength::Tokens(4);
        let order = long_disorder(&numbers(4), 0.25, span, &mut rng).unwrap();
        swapped += usize::from(order == [2, 3, 0, 1]);
    }
    assert_share("long_disorder", swapped, COUNT, 0.25);
}

#[test]
fn lengths_are_read_as_textbrewer_reads_them() {
    let run = |length: f64, count| {
        long_disorder(&numbers(count), 1.0, length.into(), &mut rng(0)).unwrap()
    };
    assert_eq!(run(3.9, 5), [2, 3, 0, 1, 4], "3 tokens, made even");
    assert_eq!(run(2.0, 3), [1, 0, 2]);
    assert_eq!(run(1.0, 4), [2, 3, 0, 1], "all of them");
    assert_eq!(
        run(1.0, 3),
        [0, 1, 2],
        "3, made even, is more than there are"
    );
    assert_eq!(run(1.5, 2), [0, 1], "more than there are");
    assert_eq!(
        run(0.1, 11),
        [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 10],
        "1.1 tokens"
    );
    // TextBrewer never ends here.
    assert_eq!(run(0.05, 11), numbers(11));
    assert_eq!(run(0.5, 0), numbers(0));
    assert_eq!(run(1e300, 3), numbers(3));
    let whole = SpanLength::Tokens(1);
    assert_eq!(
        long_disorder(&[1, 2], 1.0, whole, &mut rng(0)).unwrap(),
        [2, 1]
    );
    let whole = SpanLength::Tokens(usize::MAX);
    assert_eq!(
        long_disorder(&[1, 2], 1.0, whole, &mut rng(0)).unwrap(),
        [1, 2]
    );
}

#[test]
fn the_generator_may_be_a_trait_object() {
    let mut rng = rng(0);
    let rng: &mut dyn rand::RngCore = &mut rng;
    assert_eq!(masking(&["a"], 1.0, "b", rng).unwrap(), ["b"]);
    assert_eq!(deleting(&["a"], 1.0, rng).unwrap(), [""; 0]);
}

#[test]
fn arguments_that_cannot_work_are_refused() {
    let mut rng = rng(0);
    let field = |result: Result<Vec<usize>, Error>| match result {
        Err(Error::Config { field, reason, .. }) => format!("{field}: {reason}"),
        other => panic!("{other:?}"),
    };
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let expected = format!(", p: must be a probability, from 0 to 1, is {p}");
        assert_eq!(
            field(masking(&[1], p, 0, &mut rng)),
            format!("masking{expected}")
        );
        assert_eq!(
            field(deleting(&[1], p, &mut rng)),
            format!("deleting{expected}")
        );
        let shown = field(long_disorder(&[1], p, SpanLength::Tokens(2), &mut rng));
        assert_eq!(shown, format!("long_disorder{expected}"));
        let shown = field(short_disorder(&[1], [0.0, 1.0, p, 0.0, 0.0], &mut rng));
        assert!(
            shown.starts_with("short_disorder, p[2]: must be"),
            "{shown}"
        );
        let shown = field(n_gram_sampling(&[1], &[1.0, p], &[1, 1], &mut rng));
        assert!(
            shown.starts_with("n_gram_sampling, probabilities[1]: must be"),
            "{shown}"
        );
    }
    assert_eq!(
        field(short_disorder(&[1], [0.5, 0.25, 0.0, 0.0, 0.0], &mut rng)),
        "short_disorder, p: must be probabilities whose sum is 1; the sum is 0.75"
    );
    assert_eq!(
        field(n_gram_sampling(&[1], &[], &[], &mut rng)),
        "n_gram_sampling, probabilities: must be probabilities whose sum is 1; the sum is 0"
    );
    assert_eq!(
        field(n_gram_sampling(&[1], &[1.0], &[1, 2], &mut rng)),
        "n_gram_sampling, probabilities: must be one for each length, are 1 for 2"
    );
    assert_eq!(
        field(n_gram_sampling(&[1, 2], &[0.9, 0.1], &[1, 3], &mut rng)),
        "n_gram_sampling, lengths[1]: is 3, but there are 2 tokens; leave short sentences as \
         they are, or give them shorter lengths"
    );
    // A length that is never drawn does not matter.
    assert_eq!(
        n_gram_sampling(&[1], &[1.0, 0.0], &[1, 3], &mut rng).unwrap(),
        [1]
    );
    assert!(n_gram_sampling::<usize>(&[], &[1.0], &[1], &mut rng).is_err());

    assert_eq!(
        field(long_disorder(&[1], 0.5, SpanLength::Tokens(0), &mut rng)),
        "long_disorder, length: is 0 tokens; a span has at least 2"
    );
    for fraction in [-0.5, f64::NAN, f64::INFINITY] {
        let shown = field(long_disorder(
            &[1],
            0.5,
            SpanLength::Fraction(fraction),
            &mut rng,
        ));
        assert!(
            shown.starts_with("long_disorder, length: a fraction must be"),
            "{shown}"
        );
    }
}
