//! The most likely classes of a position as bytes, and back.
//!
//! A row has the numbers of its classes in as many bits as the largest needs, then their
//! log-probabilities and that of all other classes in float16.

use tch::{Kind, Tensor};

use super::Stored;
use super::bits::{BitReader, BitWriter};
use super::column::Column;
use super::numbers::{floats, from_bytes, tensor_of, to_bytes};
use crate::error::{Error, Result};
use crate::logits::TopK;

/// The least number of float16.
const LEAST: f32 = -65_504.0;

/// The bytes of a top k of positions `[rows, k]`, one row after the other.
///
/// # Errors
/// When a class is not one of the column's.
pub(super) fn to_rows(top: &TopK, column: &Column, k: i64) -> Result<Vec<u8>> {
    let (rows, given) = top.indices().size2()?;
    let classes = Vec::<i64>::try_from(&top.indices().f_to_kind(Kind::Int64)?.f_reshape([-1i64])?)?;
    let logs = floats(top.log_probabilities())?;
    let tails = floats(top.log_tail())?;
    let bits = column.bits_of_class();
    let mut bytes = Vec::new();
    for row in 0..rows as usize {
        let places = row * given as usize..(row + 1) * given as usize;
        let of_row = classes.get(places.clone()).unwrap_or_default();
        let mut pairs: Vec<(i64, f32)> = Vec::with_capacity(of_row.len());
        for (&class, &log) in of_row.iter().zip(logs.get(places).unwrap_or_default()) {
            let log = in_range(log);
            // What only fills up a row may have any number for a class.
            let is_filler = log == f32::NEG_INFINITY;
            if !is_filler && !(0..column.width).contains(&class) {
                return Err(Error::shape(
                    format!("the top k of `{}`", column.name),
                    format!("classes from 0 to {}", column.width - 1),
                    class.to_string(),
                ));
            }
            pairs.push((if is_filler { 0 } else { class }, log));
        }
        let mut tail = in_range(tails.get(row).copied().unwrap_or(f32::NEG_INFINITY));
        // More classes than are kept go into the tail.
        pairs.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        for (_, log) in pairs.iter().skip(k as usize) {
            tail = log_of_sum(tail, *log);
        }
        pairs.resize(k as usize, (0, f32::NEG_INFINITY));
        let mut of_classes = BitWriter::default();
        let mut numbers = Vec::with_capacity(pairs.len() + 1);
        for (class, log) in pairs {
            of_classes.write(class as u32, bits);
            numbers.push(log);
        }
        numbers.push(tail);
        bytes.extend(of_classes.finish());
        bytes.extend(to_bytes(
            &tensor_of(&numbers, &[1, k + 1])?,
            Stored::Float16,
        )?);
    }
    Ok(bytes)
}

/// Logarithms that float16 does not have are those of 0: of a class that a model never says.
fn in_range(log: f32) -> f32 {
    match log < LEAST {
        true => f32::NEG_INFINITY,
        false => log,
    }
}

/// `ln(eᵃ + eᵇ)`
fn log_of_sum(a: f32, b: f32) -> f32 {
    let (most, least) = (a.max(b), a.min(b));
    match most == f32::NEG_INFINITY {
        true => most,
        false => most + (least - most).exp().ln_1p(),
    }
}

/// Classes `[rows, k]`, their log-probabilities `[rows, k]`, and those of the tails `[rows]`.
///
/// # Errors
/// When a class is not one of the column's.
pub(super) fn from_rows(bytes: &[u8], column: &Column, k: i64) -> Result<[Tensor; 3]> {
    let of_row = column.row_bytes().unwrap_or(1).max(1) as usize;
    let of_numbers = 2 * (k as usize + 1);
    let bits = column.bits_of_class();
    let (mut classes, mut halves) = (Vec::new(), Vec::new());
    for row in bytes.chunks(of_row) {
        let (packed, numbers) = row
            .split_at_checked(of_row - of_numbers)
            .ok_or_else(|| Error::other("a row is cut short"))?;
        let mut packed = BitReader::new(packed);
        for _ in 0..k {
            let class = i64::from(packed.read(bits)?);
            if class >= column.width {
                return Err(Error::other(format!(
                    "class {class} of {} classes",
                    column.width
                )));
            }
            classes.push(class);
        }
        halves.extend_from_slice(numbers);
    }
    let rows = classes.len() as i64 / k;
    let numbers = from_bytes(&halves, Stored::Float16, k + 1)?;
    Ok([
        Tensor::f_from_slice(&classes)?.f_reshape([rows, k])?,
        numbers.f_narrow(1, 0, k)?.f_contiguous()?,
        numbers.f_select(1, k)?.f_contiguous()?,
    ])
}
