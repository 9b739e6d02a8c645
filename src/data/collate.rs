//! Padding sequences of different lengths into one tensor.

use tch::Tensor;

use crate::error::{Error, Result};

/// Pads sequences of token ids with `pad` to the length of the longest, and returns them as one
/// tensor with the attention mask: 1 at tokens, 0 at padding.
///
/// The ids may have any type of integers, such as `i64`, or `u32` as the tokenizers crate gives them.
/// Sequences longer than `max_length` are cut after `max_length` ids, which drops a separator
/// at their end.
///
/// # Shape
/// Both tensors are `[sequences, longest]` of type `Int64`, on the CPU.
///
/// # Errors
/// When there are no sequences, all are empty, `max_length` is 0, or an id is too large for `Int64`.
///
/// ```
/// # fn main() -> textbrewer::Result<()> {
/// let (ids, mask) = textbrewer::data::pad_to_longest(&[vec![5, 6, 7], vec![8]], 0, None)?;
/// assert_eq!(Vec::<Vec<i64>>::try_from(ids)?, [[5, 6, 7], [8, 0, 0]]);
/// assert_eq!(Vec::<Vec<i64>>::try_from(mask)?, [[1, 1, 1], [1, 0, 0]]);
/// # Ok(())
/// # }
/// ```
pub fn pad_to_longest<S, T>(
    sequences: &[S],
    pad: T,
    max_length: Option<usize>,
) -> Result<(Tensor, Tensor)>
where
    S: AsRef<[T]>,
    T: Copy + TryInto<i64>,
{
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
    let pad = to_i64(pad, || "the padding".to_owned())?;
    for (row, sequence) in sequences.iter().enumerate() {
        let real = sequence.as_ref().iter().take(longest);
        let padding = longest - real.len();
        mask.extend(real.clone().map(|_| 1i64));
        for (place, id) in real.enumerate() {
            ids.push(to_i64(*id, || format!("id {place} of sequence {row}"))?);
        }
        ids.extend(std::iter::repeat_n(pad, padding));
        mask.extend(std::iter::repeat_n(0, padding));
    }
    let shape = [sequences.len() as i64, longest as i64];
    Ok((
        Tensor::f_from_slice(&ids)?.f_reshape(shape)?,
        Tensor::f_from_slice(&mask)?.f_reshape(shape)?,
    ))
}

fn to_i64<T: TryInto<i64>>(id: T, what: impl FnOnce() -> String) -> Result<i64> {
    let too_large = |_| {
        let got = format!("a larger one: {}", what());
        Error::shape(
            "padding to the longest sequence",
            "numbers that fit into Int64",
            got,
        )
    };
    id.try_into().map_err(too_large)
}
