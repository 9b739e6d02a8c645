//! Random changes to token sequences, for more and other training data.
//!
//! TextBrewer's five: [`masking`] and [`deleting`] lose tokens, [`n_gram_sampling`] cuts a
//! span out, [`short_disorder`] and [`long_disorder`] change the order. They take tokens of
//! any type that can be cloned (words, ids, structs), leave them as they are and return new
//! ones. Where the original crashes or never ends, these return an [`Error`](crate::Error)
//! or, where a sentence is merely too short to be changed, the same tokens.
//!
//! Chance comes from the caller's generator, any [`Rng`] of rand 0.9, which is handed on as
//! [`augment::rand`](rand). With a seeded generator the results can be repeated; they are
//! not the numbers that NumPy draws from the same seed.
//!
//! ```
//! use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
//! use textbrewer::augment::{masking, short_disorder};
//!
//! let mut rng = StdRng::seed_from_u64(7);
//! let words = ["the", "cat", "sat", "on", "the", "mat"];
//! let masked = masking(&words, 0.3, "[MASK]", &mut rng)?;
//! let both = short_disorder(&masked, [0.8, 0.1, 0.1, 0.0, 0.0], &mut rng)?;
//! assert_eq!(both.len(), words.len());
//! # textbrewer::Result::Ok(())
//! ```

pub use rand;

use rand::Rng;

use crate::{Error, Result};

/// By how much probabilities may miss a sum of 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// Each token becomes `mask` with probability `p` (TextBrewer's default: 0.1).
///
/// # Errors
/// When `p` is not a probability.
///
/// ```
/// use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
/// use textbrewer::augment::masking;
///
/// let masked = masking(&[7, 8, 9], 1.0, 103, &mut StdRng::seed_from_u64(0))?;
/// assert_eq!(masked, [103, 103, 103]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn masking<T: Clone>(
    tokens: &[T],
    p: f64,
    mask: T,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Vec<T>> {
    check_probability("masking, p", p)?;
    let masked = tokens.iter().map(|token| {
        let token = if happens(p, rng) { &mask } else { token };
        token.clone()
    });
    Ok(masked.collect())
}

/// Each token is left out with probability `p` (TextBrewer's default: 0.1); the others keep
/// their order. Nothing may be left.
///
/// # Errors
/// When `p` is not a probability.
///
/// ```
/// use textbrewer::augment::deleting;
/// use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
///
/// let rest = deleting(&[7, 8, 9], 0.0, &mut StdRng::seed_from_u64(0))?;
/// assert_eq!(rest, [7, 8, 9]);
/// # textbrewer::Result::Ok(())
/// ```
pub fn deleting<T: Clone>(tokens: &[T], p: f64, rng: &mut (impl Rng + ?Sized)) -> Result<Vec<T>> {
    check_probability("deleting, p", p)?;
    let kept = tokens.iter().filter(|_| !happens(p, rng));
    Ok(kept.cloned().collect())
}

/// A random span of the tokens. Its length is `lengths[i]` with probability
/// `probabilities[i]` (TextBrewer's default: 1 to 5, with 0.2 each), and every place where
/// a span of that length fits is equally likely.
///
/// # Errors
/// When there are not as many probabilities as lengths, when the probabilities are not
/// between 0 and 1 with the sum 1, or when a length that has a probability above 0 is
/// longer than the tokens: whether a sentence is long enough does not depend on chance.
///
/// ```
/// use textbrewer::augment::n_gram_sampling;
/// use textbrewer::augment::rand::{rngs::StdRng, SeedableRng};
///
/// let mut rng = StdRng::seed_from_u64(0);
/// let span = n_gram_sampling(&[7, 8, 9], &[0.5, 0.5], &[1, 2], &mut rng)?;
/// assert!(span.len() == 1 || span.len() == 2);
/// assert!(n_gram_sampling(&[7, 8, 9], &[1.0], &[4], &mut rng).is_err());
/// # textbrewer::Result::Ok(())
/// ```
pub fn n_gram_sampling<T: Clone>(
    tokens: &[T],
    probabilities: &[f64],
    lengths: &[usize],
    rng: &mut (impl Rng + ?Sized),
) -> Result<Vec<T>> {
    let field = "n_gram_sampling, probabilities";
    if probabilities.len() != lengths.len() {
        let (probabilities, lengths) = (probabilities.len(), lengths.len());
        let reason = format!("must be one for each length, are {probabilities} for {lengths}");
        return Err(Error::config(field, reason));
    }
    check_distribution(field, probabilities)?;
    for (i, (&length, &p)) in lengths.iter().zip(probabilities).enumerate() {
        if p > 0.0 && length > tokens.len() {
            return Err(Error::config(
                format!("n_gram_sampling, lengths[{i}]"),
                format!(
                    "is {length}, but there are {} tokens; leave short sentences as they are, \
                     or give them shorter lengths",
                    tokens.len()
                ),
            ));
        }
    }
    let length = lengths.get(choose(probabilities, rng)).copied();
    let length = length.unwrap_or_default();
    let start = rng.random_range(0..=tokens.len().saturating_sub(length));
    let span = tokens.iter().skip(start).take(length);
    Ok(span.cloned().collect())
}

/// Changes the order of tokens that stand next to each other.
///
/// From left to right, at each position one of five things happens to the three tokens
/// `abc` that begin there, with probabilities `p` (TextBrewer's default: 0.9, 0.1, 0, 0, 0):
///
/// | | becomes | goes on after |
/// |---|---|---|
/// | `p[0]` | `abc` | `a` |
/// | `p[1]` | `bac` | `ba` |
/// | `p[2]` | `cba` | `cba` |
/// | `p[3]` | `cab` | `cab` |
/// | `p[4]` | `bca` | `bca` |
///
/// The last two tokens are exchanged by each but the first. No token moves by more than two.
///
/// # Errors
/// When the numbers in `p` are not between 0 and 1 with the sum 1.
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
/// Odd lengths are rounded up to even ones, since the halves of a span change places.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SpanLength {
    /// This many tokens.
    Tokens(usize),
    /// This part of all tokens, rounded down before it is made even: 0.4 of 11 is 4.
    Fraction(f64),
}

/// As TextBrewer reads its `length`: numbers below 2 are a [fraction](SpanLength::Fraction),
/// 1 and 1.5 included, other numbers are rounded down to [tokens](SpanLength::Tokens).
impl From<f64> for SpanLength {
    fn from(length: f64) -> Self {
        if length >= 2.0 {
            SpanLength::Tokens(length as usize)
        } else {
            SpanLength::Fraction(length)
        }
    }
}

/// Exchanges the two halves of spans.
///
/// From left to right, at each position where a whole span of `length` tokens begins, its
/// halves change places with probability `p` (TextBrewer's default: 0.1, of 20 tokens), and
/// what follows begins after it; otherwise one token later. Tokens that are fewer than a
/// span stay as they are, and so do all when a fraction of them is less than one token.
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

/// True with probability `p`: never for 0, always for 1.
fn happens(p: f64, rng: &mut (impl Rng + ?Sized)) -> bool {
    rng.random::<f64>() < p
}

/// An index, with these probabilities; never one whose probability is 0.
fn choose(probabilities: &[f64], rng: &mut (impl Rng + ?Sized)) -> usize {
    let drawn = rng.random::<f64>();
    let mut sum = 0.0;
    let mut chosen = 0;
    for (i, &p) in probabilities.iter().enumerate() {
        if p > 0.0 {
            // The last one that is possible also takes what the sum misses of 1.
            chosen = i;
            sum += p;
            if drawn < sum {
                break;
            }
        }
    }
    chosen
}

fn check_probability(field: impl Into<String>, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    let reason = format!("must be a probability, from 0 to 1, is {p}");
    Err(Error::config(field, reason))
}

fn check_distribution(field: &str, probabilities: &[f64]) -> Result<()> {
    for (i, &p) in probabilities.iter().enumerate() {
        check_probability(format!("{field}[{i}]"), p)?;
    }
    // Not `sum`, which is −0 for nothing.
    let sum = probabilities.iter().fold(0.0, |sum, p| sum + p);
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return Ok(());
    }
    let reason = format!("must be probabilities whose sum is 1; the sum is {sum}");
    Err(Error::config(field, reason))
}
