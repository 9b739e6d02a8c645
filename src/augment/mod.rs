//! Data augmentation: random changes to token sequences.
//!
//! These are TextBrewer's five: [`masking`] and [`deleting`] lose tokens, [`n_gram_sampling`]
//! selects a span, [`short_disorder`] and [`long_disorder`] change the order. They take tokens
//! of any type that can be cloned (words, ids, structs) and return new ones. Where the original
//! crashes or never ends, these return an [`Error`] or, when a sentence is merely too short to
//! be changed, the same tokens.
//!
//! Random numbers come from the caller's generator: any [`Rng`] of rand 0.9, which is re-exported
//! as [`augment::rand`](rand). With a seeded generator the results are reproducible; they differ
//! from what NumPy draws with the same seed.
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

mod chance;
mod disorder;

pub use disorder::{SpanLength, long_disorder, short_disorder};
pub use rand;

use rand::Rng;

use self::chance::{check_distribution, check_probability, choose, happens};
use crate::error::{Error, Result};

/// Replaces each token by `mask` with probability `p` (TextBrewer's default: 0.1).
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

/// Deletes each token with probability `p` (TextBrewer's default: 0.1). The others keep their
/// order. The result can be empty.
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

/// Selects a random span of the tokens. Its length is `lengths[i]` with probability
/// `probabilities[i]` (TextBrewer's default: 1 to 5, with 0.2 each), and every place where
/// a span of that length fits is equally likely.
///
/// # Errors
/// When there are not as many probabilities as lengths, the probabilities do not sum to 1, or
/// the sentence is shorter than a length with a probability above 0, even if another length
/// would have been drawn.
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
