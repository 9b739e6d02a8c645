//! Classes drawn from a teacher's probabilities as bytes, and back.
//!
//! A position has the number of its classes, and each of them with how often it was drawn, in as many
//! bits as these numbers need. The bytes of an example begin anew.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::bits::{BitReader, BitWriter};
use super::column::{Column, bits};
use super::numbers::{floats, tensor_of};
use crate::error::{Error, Result};
use crate::logits::Sample;

/// About how many bytes of probabilities are drawn from at a time.
const BYTES_AT_ONCE: i64 = 64 << 20;

/// Classes with their weights that take some gigabytes.
const MANY: usize = 1 << 28;

/// So many fillers for each class are in no teacher's samples, but a file of few bytes can ask for them.
const FILLERS: usize = 256;

/// How often each class was drawn, for each position, classes in their order.
pub(super) type Drawn = Vec<Vec<(u32, u32)>>;

/// The random numbers of each position of examples with these ids and numbers of positions. They
/// follow from `seed`, the id and the position alone.
pub(super) fn generators(
    examples: impl Iterator<Item = (u64, u64)>,
    (draws, seed): (i64, u64),
) -> impl Iterator<Item = ChaCha8Rng> {
    // A number between 0 and 1 takes two words.
    let words = 2 * draws as u128;
    examples.flat_map(move |(id, positions)| {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(id);
        (0..positions).map(move |position| {
            let mut generator = generator.clone();
            generator.set_word_pos(words * u128::from(position));
            generator
        })
    })
}

/// Draws from log-probabilities `[rows, classes]`.
///
/// # Errors
/// When the probabilities are not finite.
pub(super) fn draw(
    logs: &Tensor,
    generators: &mut impl Iterator<Item = ChaCha8Rng>,
    draws: i64,
) -> Result<Drawn> {
    let (rows, classes) = logs.size2()?;
    let at_once = (BYTES_AT_ONCE / (8 * classes.max(1))).max(1);
    let mut drawn = Vec::with_capacity(rows as usize);
    for start in (0..rows).step_by(at_once as usize) {
        let part = logs.f_narrow(0, start, at_once.min(rows - start))?;
        let sums = part
            .f_to_kind(Kind::Double)?
            .f_exp()?
            .f_cumsum(-1, Kind::Double)?;
        let sums = Vec::<f64>::try_from(&sums.f_contiguous()?.f_reshape([-1i64])?)?;
        for sums in sums.chunks(classes.max(1) as usize) {
            let total = sums.last().copied().unwrap_or(f64::NAN);
            let Some(mut generator) = generators.next().filter(|_| total.is_finite()) else {
                return Err(Error::shape(
                    "a sample of the teacher's classes",
                    "finite probabilities",
                    "others",
                ));
            };
            let mut of_row: Vec<u32> = (0..draws)
                .map(|_| {
                    let at = generator.random::<f64>() * total;
                    // The first class whose sum is above; one without mass adds nothing to it.
                    let class = sums.partition_point(|&sum| sum <= at);
                    class.min(sums.partition_point(|&sum| sum < total)) as u32
                })
                .collect();
            of_row.sort_unstable();
            let of_class = of_row.chunk_by(|one, other| one == other);
            let counted = of_class.filter_map(|same| Some((*same.first()?, same.len() as u32)));
            drawn.push(counted.collect());
        }
    }
    Ok(drawn)
}

/// What was drawn elsewhere: weights that are `count / draws`.
///
/// # Errors
/// When they are not, or a class is not one of the column's.
pub(super) fn counted(sample: &Sample, column: &Column, draws: i64) -> Result<Drawn> {
    let width = sample.indices().size2()?.1.max(1) as usize;
    let classes = sample
        .indices()
        .f_to_kind(Kind::Int64)?
        .f_reshape([-1i64])?;
    let classes = Vec::<i64>::try_from(&classes)?;
    let weights = floats(sample.weights())?;
    let rows = classes.chunks(width).zip(weights.chunks(width));
    let counts = rows.map(|(classes, weights)| {
        let mut counted = Vec::new();
        for (&class, &weight) in classes
            .iter()
            .zip(weights)
            .filter(|(_, weight)| **weight != 0.0)
        {
            let count = f64::from(weight) * draws as f64;
            let is_count = (count - count.round()).abs() < 1e-2 && count.round() >= 1.0;
            if !is_count || count.round() > draws as f64 || !(0..column.width).contains(&class) {
                return Err(Error::shape(
                    format!("the sample of `{}`", column.name),
                    format!(
                        "weights that are counts of {draws} draws, of {} classes",
                        column.width
                    ),
                    format!("a weight of {weight} of class {class}"),
                ));
            }
            counted.push((class as u32, count.round() as u32));
        }
        counted.sort_unstable();
        Ok(counted)
    });
    counts.collect()
}

/// The bytes of the positions of an example.
pub(super) fn to_bytes(positions: &[Vec<(u32, u32)>], column: &Column, draws: i64) -> Vec<u8> {
    let (of_class, of_count, of_number) = widths(column, draws);
    let mut writer = BitWriter::default();
    for counted in positions {
        writer.write(counted.len() as u32, of_number);
        for &(class, count) in counted {
            writer.write(class, of_class);
            writer.write(count - 1, of_count);
        }
    }
    writer.finish()
}

/// The bits of a class, of how often it was drawn, and of how many there are at a position.
fn widths(column: &Column, draws: i64) -> (u32, u32, u32) {
    (column.bits_of_class(), bits(draws - 1), bits(draws))
}

/// The positions of an example from its bytes.
///
/// # Errors
/// When they are not what `to_bytes` writes.
pub(super) fn from_bytes(
    bytes: &[u8],
    positions: u64,
    (column, draws): (&Column, i64),
) -> Result<Drawn> {
    let (of_class, of_count, of_number) = widths(column, draws);
    let mut reader = BitReader::new(bytes);
    let mut drawn = Vec::new();
    for _ in 0..positions {
        let number = reader.read(of_number)?;
        if i64::from(number) > draws {
            return Err(Error::other(format!("{number} classes of {draws} draws")));
        }
        let mut counted = Vec::new();
        for _ in 0..number {
            let (class, count) = (reader.read(of_class)?, reader.read(of_count)? + 1);
            if i64::from(class) >= column.width || i64::from(count) > draws {
                return Err(Error::other(format!(
                    "class {class} of {} classes, drawn {count} of {draws} times",
                    column.width
                )));
            }
            counted.push((class, count));
        }
        drawn.push(counted);
    }
    match reader.is_at_end() {
        true => Ok(drawn),
        false => Err(Error::other("has bytes after the last position")),
    }
}

/// `vec!` would abort the process when there is not enough memory.
fn zeros<T: Clone + Default>(rows: usize, most: usize) -> Result<Vec<T>> {
    let too_many = || {
        Error::other(format!(
            "no memory for {most} classes at each of {rows} positions"
        ))
    };
    let count = rows.checked_mul(most).ok_or_else(too_many)?;
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(count).map_err(|_| too_many())?;
    zeros.resize(count, T::default());
    Ok(zeros)
}

/// Classes and weights `[rows, n]`, as many as the position with the most has.
pub(super) fn to_tensors(drawn: &Drawn, draws: i64) -> Result<[Tensor; 2]> {
    let rows = drawn.len();
    let most = drawn.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let drawn_classes: usize = drawn.iter().map(Vec::len).sum();
    let is_sparse = rows.saturating_mul(most) / FILLERS > rows + drawn_classes;
    if is_sparse && rows.saturating_mul(most) > MANY {
        return Err(Error::other(format!(
            "one of {rows} positions has {most} classes, and most have few: too much memory for all; \
             read fewer examples at a time"
        )));
    }
    let (mut classes, mut weights) = (zeros(rows, most)?, zeros(rows, most)?);
    let places = classes.chunks_mut(most).zip(weights.chunks_mut(most));
    for (counted, (classes, weights)) in drawn.iter().zip(places) {
        for ((class, weight), counted) in classes.iter_mut().zip(weights).zip(counted) {
            *class = i64::from(counted.0);
            *weight = (f64::from(counted.1) / draws as f64) as f32;
        }
    }
    let size = [rows as i64, most as i64];
    Ok([
        Tensor::f_from_slice(&classes)?.f_reshape(size)?,
        tensor_of(&weights, &size)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_do_not_ask_for_all_memory() {
        let mut drawn = vec![Vec::new(); 1 << 20];
        drawn[7] = (0..1 << 16).map(|class| (class, 1)).collect();
        let error = to_tensors(&drawn, 1 << 16).unwrap_err().to_string();
        assert!(error.contains("read fewer examples at a time"), "{error}");
        drawn.truncate(100);
        assert_eq!(
            to_tensors(&drawn, 1 << 16).unwrap()[0].size(),
            [100, 1 << 16]
        );
    }
}
