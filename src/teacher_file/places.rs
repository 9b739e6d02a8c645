//! Which positions of a batch are kept.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::defined;
use crate::scalar::ScalarOps;

/// The positions of the examples of a batch that a file has, example by example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// How many positions each example of the batch has, padding included.
    pub(super) length: i64,
    /// Where they are among the flattened positions `[batch × length]`.
    pub(super) rows: Vec<i64>,
    /// How many of them each example has.
    pub(super) of_each: Vec<u64>,
}

impl Places {
    /// One place for each of so many examples.
    pub(super) fn examples(count: i64) -> Self {
        Places::all(count, 1)
    }

    /// All positions.
    pub(super) fn all(count: i64, length: i64) -> Self {
        Places {
            length,
            rows: (0..count * length).collect(),
            of_each: vec![length as u64; count as usize],
        }
    }

    /// Those that a mask `[batch, length]` keeps.
    ///
    /// # Errors
    /// When the mask has another shape.
    pub(super) fn of_mask(what: &str, mask: &Tensor, count: i64) -> Result<Self> {
        defined(what, mask)?;
        let size = mask.size();
        let [batch, length] = size[..] else {
            return Err(Error::shape(what, "[batch, length]", format!("{size:?}")));
        };
        if batch != count {
            let expected = format!("[{count}, length], for the batch has {count} ids");
            return Err(Error::shape(what, expected, format!("{size:?}")));
        }
        let kept = mask.f_to_device(Device::Cpu)?.is_not(0)?;
        let counts = kept.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
        let rows = kept.f_reshape([-1i64])?.f_nonzero()?.f_reshape([-1i64])?;
        let counts = Vec::<i64>::try_from(&counts)?;
        Ok(Places {
            length,
            rows: Vec::try_from(&rows)?,
            of_each: counts.into_iter().map(|count| count as u64).collect(),
        })
    }

    pub(super) fn tensor(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&self.rows)?.f_to_device(device)?)
    }

    /// The positions of each example, within the example.
    pub(super) fn within(&self) -> impl Iterator<Item = Vec<i64>> {
        let mut rest = self.rows.iter();
        let length = self.length.max(1);
        self.of_each.iter().map(move |&count| {
            let of_one = rest.by_ref().take(count as usize);
            of_one.map(|row| row % length).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_positions_on_either_side_of_padding() {
        let mask = Tensor::from_slice2(&[[1i64, 1, 0], [0, 0, 0], [0, 1, 1]]);
        let places = Places::of_mask("mask", &mask, 3).unwrap();
        assert_eq!(places.rows, [0, 1, 7, 8]);
        assert_eq!(places.of_each, [2, 0, 2]);
        let within: Vec<_> = places.within().collect();
        assert_eq!(within, [vec![0, 1], vec![], vec![1, 2]]);
        assert!(Places::of_mask("mask", &mask, 2).is_err());
        assert_eq!(Places::all(2, 2).within().last(), Some(vec![0, 1]));
    }
}
