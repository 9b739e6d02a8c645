//! Padding sequences of different lengths into one tensor.

use tch::Tensor;

use crate::error::{Error, Result};

/// Pads sequences of token ids with `pad` to the length of the longest, and returns them as one
/// tensor with the attention mask: 1 at tokens, 0 at padding.
///
/// Sequences longer than `max_length` are cut after `max_length` ids, which drops a separator
/// at their end.
///
/// # Shape
/// Both tensors are `[sequences, longest]` of type `Int64`, on the CPU.
///
/// # Errors
/// When there are no sequences, all are empty, or `max_length` is 0.
///
/// ```
/// # fn main() -> textbrewer::Result<()> {
/// let (ids, mask) = textbrewer::data::pad_to_longest(&[vec![5, 6, 7], vec![8]], 0, None)?;
/// assert_eq!(Vec::<Vec<i64>>::try_from(ids)?, [[5, 6, 7], [8, 0, 0]]);
/// assert_eq!(Vec::<Vec<i64>>::try_from(mask)?, [[1, 1, 1], [1, 0, 0]]);
/// # Ok(())
/// # }
/// ```
pub fn pad_to_longest<S: AsRef<[i64]>>(
    sequences: &[S],
    pad: i64,
    max_length: Option<usize>,
) -> Result<(Tensor, Tensor)> {
    let max_length = max_length.unwrap_or(usize::MAX);
    if max_length == 0 {
        return Err(Error::config("max_length", "must be at least 1, got 0"));
    }
    let cut = |sequence: &S| sequence.as_ref().len().min(max_length);
    let longest = sequences.iter().map(cut).max().unwrap_or_default();
    if longest == 0 {
        return Err(Error::shape(
            "padding to the longest sequence",
            "at least one sequence with at least one id",
            format!("{} empty sequences", sequences.len()),
        ));
    }
    let mut ids = Vec::with_capacity(sequences.len() * longest);
    let mut mask = Vec::with_capacity(sequences.len() * longest);
    for sequence in sequences {
        let real = sequence.as_ref().iter().take(longest);
        let padding = longest - real.len();
        ids.extend(real.clone());
        mask.extend(real.map(|_| 1i64));
        ids.extend(std::iter::repeat_n(pad, padding));
        mask.extend(std::iter::repeat_n(0, padding));
    }
    let shape = [sequences.len() as i64, longest as i64];
    Ok((
        Tensor::f_from_slice(&ids)?.f_reshape(shape)?,
        Tensor::f_from_slice(&mask)?.f_reshape(shape)?,
    ))
}
