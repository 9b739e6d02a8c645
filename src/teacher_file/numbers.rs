//! Numbers as bytes, and back.

use tch::{Device, Kind, Tensor};

use super::column::Stored;
use crate::error::{Error, Result};

/// The largest number of 8 bits.
const LARGEST: f32 = 127.0;

/// What stands for the logarithm of a probability of 0. With −∞ some losses are NaN.
pub(super) const LOG_OF_ZERO: f64 = -1e30;

/// The bytes of rows `[rows, width]`, one after the other.
///
/// # Errors
/// When a number cannot be stored in that way, or is not in main memory.
pub(super) fn to_bytes(rows: &Tensor, stored: Stored) -> Result<Vec<u8>> {
    if i64::try_from(&rows.f_isnan()?.f_any()?)? != 0 {
        return Err(Error::shape("the teacher's numbers", "numbers", "NaN"));
    }
    match stored {
        Stored::Float32 => raw(rows, Kind::Float),
        Stored::BFloat16 => raw(&bfloat16(rows)?, Kind::BFloat16),
        Stored::Float16 => {
            let half = rows.f_to_kind(Kind::Half)?;
            let is_new = half.f_isinf()?.f_logical_and(&rows.f_isfinite()?)?;
            if i64::try_from(&is_new.f_any()?)? != 0 {
                let largest = f64::try_from(&rows.f_abs()?.f_max()?)?;
                return Err(Error::shape(
                    "numbers to be stored in float16",
                    "none above 65504 (keep them in `Stored::BFloat16`)",
                    format!("{largest}"),
                ));
            }
            raw(&half, Kind::Half)
        }
        Stored::Int8 => int8(rows),
    }
}

/// The largest float32s, which models give what is forbidden, would be rounded to infinity: a loss
/// of it is NaN. The largest bfloat16 is as near to them as the table of [`Stored`] says.
fn bfloat16(rows: &Tensor) -> Result<Tensor> {
    let brain = rows.f_to_kind(Kind::BFloat16)?;
    let is_new = brain.f_isinf()?.f_logical_and(&rows.f_isfinite()?)?;
    if i64::try_from(&is_new.f_any()?)? == 0 {
        return Ok(brain);
    }
    let largest = tensor_of(&[f32::from_bits(0x7f7f_0000)], &[1])?;
    let signed = rows.f_sign()?.f_mul(&largest)?.f_to_kind(Kind::BFloat16)?;
    Ok(signed.f_where_self(&is_new, &brain)?)
}

/// The bytes of a tensor in this kind.
fn raw(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>> {
    let tensor = tensor.f_to_kind(kind)?.f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

/// For each row its scale, then its numbers in multiples of it.
fn int8(rows: &Tensor) -> Result<Vec<u8>> {
    let (_, width) = rows.size2()?;
    let numbers = floats(rows)?;
    let mut bytes = Vec::with_capacity(numbers.len() + 4 * numbers.len() / width.max(1) as usize);
    for row in numbers.chunks(width.max(1) as usize) {
        let largest = row.iter().fold(0f32, |most, number| most.max(number.abs()));
        if !row.iter().all(|number| number.is_finite()) {
            return Err(Error::shape(
                "numbers to be stored in int8",
                "finite numbers (keep them in `Stored::BFloat16`)",
                "one that is not",
            ));
        }
        let scale = largest / LARGEST;
        bytes.extend(scale.to_le_bytes());
        let of_scale = |number: &f32| match scale > 0.0 {
            // Of the smallest numbers the quotient may be too large.
            true => (number / scale).round().clamp(-LARGEST, LARGEST) as i8,
            false => 0,
        };
        bytes.extend(row.iter().map(|number| of_scale(number) as u8));
    }
    Ok(bytes)
}

/// Rows of `width` numbers, `[rows, width]` in float32, from their bytes.
pub(super) fn from_bytes(bytes: &[u8], stored: Stored, width: i64) -> Result<Tensor> {
    let kind = match stored {
        Stored::Float32 => Kind::Float,
        Stored::BFloat16 => Kind::BFloat16,
        Stored::Float16 => Kind::Half,
        Stored::Int8 => return from_int8(bytes, width),
    };
    let rows = rows_of(bytes.len(), kind.elt_size_in_bytes() * width as usize)?;
    let tensor = Tensor::f_from_data_size(bytes, &[rows, width], kind)?;
    Ok(tensor.f_to_kind(Kind::Float)?)
}

fn from_int8(bytes: &[u8], width: i64) -> Result<Tensor> {
    let rows = rows_of(bytes.len(), 4 + width as usize)?;
    let mut numbers = Vec::with_capacity(bytes.len());
    for row in bytes.chunks(4 + width as usize) {
        let (scale, row) = row.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let scale = f32::from_le_bytes(*scale);
        numbers.extend(row.iter().map(|&byte| f32::from(byte as i8) * scale));
    }
    tensor_of(&numbers, &[rows, width])
}

fn rows_of(bytes: usize, of_each: usize) -> Result<i64> {
    match of_each > 0 && bytes.is_multiple_of(of_each) {
        true => Ok((bytes / of_each) as i64),
        false => Err(Error::other(format!(
            "{bytes} bytes are no rows of {of_each} bytes"
        ))),
    }
}

/// All numbers of a tensor, in the order of its elements.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    Ok(Vec::try_from(&tensor.f_reshape([-1i64])?)?)
}

pub(super) fn tensor_of(numbers: &[f32], size: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(numbers)?.f_reshape(size)?)
}

/// Without history, in main memory and in float32.
pub(super) fn in_main_memory(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?;
    Ok(tensor.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(numbers: &[f32], width: i64, stored: Stored) -> Vec<f32> {
        let rows = tensor_of(numbers, &[numbers.len() as i64 / width, width]).unwrap();
        let bytes = to_bytes(&rows, stored).unwrap();
        floats(&from_bytes(&bytes, stored, width).unwrap()).unwrap()
    }

    const NUMBERS: [f32; 6] = [0.1, -3.7, 65_000.0, 1e-3, 0.0, -2e-3];

    #[test]
    fn float32_comes_back_to_the_bit() {
        let odd = [f32::NEG_INFINITY, f32::MAX, -0.0, f32::MIN_POSITIVE / 4.0];
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(back(&odd, 2, Stored::Float32)), bits(odd.to_vec()));
    }

    #[test]
    fn less_bits_keep_what_the_table_says() {
        for (stored, bound) in [
            (Stored::BFloat16, 1.0 / 256.0),
            (Stored::Float16, 1.0 / 2048.0),
        ] {
            for (got, number) in back(&NUMBERS, 3, stored).iter().zip(NUMBERS) {
                assert!(
                    (got - number).abs() <= bound * number.abs(),
                    "{stored}: {got} {number}"
                );
            }
        }
        let got = back(&NUMBERS, 3, Stored::Int8);
        for (got, row) in got.chunks(3).zip(NUMBERS.chunks(3)) {
            let largest = row.iter().fold(0f32, |most, number| most.max(number.abs()));
            for (got, number) in got.iter().zip(row) {
                assert!((got - number).abs() <= largest / 253.9, "{got} {number}");
            }
        }
        assert_eq!(back(&[0.0, 0.0], 2, Stored::Int8), [0.0, 0.0]);
    }

    #[test]
    fn the_largest_numbers_stay_finite_in_bfloat16() {
        let numbers = [f32::MIN, f32::MAX, f32::NEG_INFINITY, 1.5];
        let got = back(&numbers, 2, Stored::BFloat16);
        let largest = f32::from_bits(0x7f7f_0000);
        assert_eq!(got, [-largest, largest, f32::NEG_INFINITY, 1.5]);
        assert!(f64::from(f32::MAX) - f64::from(largest) <= f64::from(f32::MAX) / 256.0);
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let large = tensor_of(&[1.0, 7e4], &[1, 2]).unwrap();
        let error = to_bytes(&large, Stored::Float16).unwrap_err().to_string();
        assert!(
            error.ends_with("(keep them in `Stored::BFloat16`), got 70000"),
            "{error}"
        );
        assert!(to_bytes(&large, Stored::Int8).is_ok());
        let none = tensor_of(&[1.0, f32::NAN], &[1, 2]).unwrap();
        assert!(to_bytes(&none, Stored::Float32).is_err());
        let infinite = tensor_of(&[1.0, f32::NEG_INFINITY], &[1, 2]).unwrap();
        assert!(to_bytes(&infinite, Stored::Float16).is_ok());
        assert!(to_bytes(&infinite, Stored::Int8).is_err());
        assert!(from_bytes(&[0; 7], Stored::Float32, 2).is_err());
    }
}
