//! Changing the order of tokens.

use rand::Rng;

use super::chance::{check_distribution, check_probability, choose, happens};
use crate::error::{Error, Result};

/// Reorders neighbouring tokens.
///
/// From left to right, one of five reorderings is applied to the three tokens `abc` at each
/// position, with probabilities `p` (TextBrewer's default: 0.9, 0.1, 0, 0, 0):
///
/// | | becomes | continues after |
/// |---|---|---|
/// | `p[0]` | `abc` | `a` |
/// | `p[1]` | `bac` | `ba` |
/// | `p[2]` | `cba` | `cba` |
/// | `p[3]` | `cab` | `cab` |
/// | `p[4]` | `bca` | `bca` |
///
/// When only two tokens are left, every reordering but the first swaps them. No token moves by
/// more than two places.
///
/// # Errors
/// When the numbers in `p` are not probabilities that sum to 1.
///
/// ```
/// use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
/// use textbrewer::augment::short_disorder;
///
/// let mut rng = StdRng::seed_from_u64(0);
/// let disordered = short_disorder(&[1, 2, 3, 4, 5], [0.0, 0.0, 0.0, 1.0, 0.0], &mut rng)?;
/// assert_eq!(disordered, [3, 1, 2, 5, 4]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn short_disorder<T: Clone>(
    tokens: &[T],
    p: [f64; 5],
    rng: &mut (impl Rng + ?Sized),
) -> Result<Vec<T>> {
    check_distribution("short_disorder, p", &p)?;
    let mut disordered = tokens.to_vec();
    let mut rest = disordered.as_mut_slice();
    while rest.len() >= 2 {
        let done = match (choose(&p, rng), rest.len()) {
            (0, _) => 1,
            (1, _) | (_, 2) => {
                rest.swap(0, 1);
                2
            }
            (permutation, _) => {
                if let Some(three) = rest.get_mut(..3) {
                    match permutation {
                        2 => three.reverse(),
                        3 => three.rotate_right(1),
                        _ => three.rotate_left(1),
                    }
                }
                3
            }
        };
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    Ok(disordered)
}

/// How many tokens [`long_disorder`] moves at once.
///
/// Odd lengths are rounded up to even ones, since the halves of a span are swapped.
///
/// ```
/// use textbrewer::augment::SpanLength;
///
/// assert_eq!(SpanLength::from(20.0), SpanLength::Tokens(20));
/// assert_eq!(SpanLength::from(0.4), SpanLength::Fraction(0.4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SpanLength {
    /// This many tokens.
    Tokens(usize),
    /// This fraction of all tokens, rounded down before it is made even: 0.4 of 11 is 4.
    Fraction(f64),
}

/// As TextBrewer reads its `length`: numbers below 2, including 1 and 1.5, are a
/// [fraction](SpanLength::Fraction); others are rounded down to [tokens](SpanLength::Tokens).
impl From<f64> for SpanLength {
    fn from(length: f64) -> Self {
        if length >= 2.0 {
            SpanLength::Tokens(length as usize)
        } else {
            SpanLength::Fraction(length)
        }
    }
}

/// Swaps the two halves of spans.
///
/// From left to right, at each position where a whole span of `length` tokens begins, its
/// halves are swapped with probability `p` (TextBrewer's default: 0.1, with 20 tokens). The next
/// position is after the span if it was changed, else one token later. A sequence shorter than
/// a span is returned unchanged, and so is one of which the fraction is less than one token.
///
/// # Errors
/// When `p` is not a probability, the span has 0 tokens, or the fraction is negative or not
/// finite.
///
/// ```
/// use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
/// use textbrewer::augment::{long_disorder, SpanLength};
///
/// let mut rng = StdRng::seed_from_u64(0);
/// let tokens = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
/// let disordered = long_disorder(&tokens, 1.0, SpanLength::Fraction(0.4), &mut rng)?;
/// assert_eq!(disordered, [2, 3, 0, 1, 6, 7, 4, 5, 8, 9, 10]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn long_disorder<T: Clone>(
    tokens: &[T],
    p: f64,
    length: SpanLength,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Vec<T>> {
    check_probability("long_disorder, p", p)?;
    let length = match length {
        SpanLength::Tokens(0) => {
            let reason = "is 0 tokens; a span has at least 2";
            return Err(Error::config("long_disorder, length", reason));
        }
        SpanLength::Tokens(length) => length,
        SpanLength::Fraction(fraction) if fraction.is_finite() && fraction >= 0.0 => {
            (tokens.len() as f64 * fraction) as usize
        }
        SpanLength::Fraction(fraction) => {
            let reason = format!("a fraction must be a finite number, at least 0, is {fraction}");
            return Err(Error::config("long_disorder, length", reason));
        }
    };
    let mut disordered = tokens.to_vec();
    let half = length.div_ceil(2);
    let Some(length) = half.checked_mul(2).filter(|&length| length > 0) else {
        return Ok(disordered);
    };
    let mut rest = disordered.as_mut_slice();
    while let Some(span) = rest.get_mut(..length) {
        let done = if happens(p, rng) {
            span.rotate_left(half);
            length
        } else {
            1
        };
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    Ok(disordered)
}
