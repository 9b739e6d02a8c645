//! Positions of logits that a mask keeps.

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::kind::{defined, undefined};

/// The logits at the positions that a mask keeps.
///
/// There is a mask for each tensor of logits, or one for all. It has no effect on logits
/// `[batch, classes]`, which have no positions.
///
/// # Shape
/// Logits `[batch, length, classes]` with a mask `[batch, length]` of any kind become
/// `[kept, classes]`, example by example.
///
/// # Errors
/// When there are neither as many masks as logits nor one, or a mask does not fit.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use textbrewer::select_logits_with_mask;
///
/// let logits = Tensor::zeros([2, 3, 5], (Kind::Float, Device::Cpu));
/// let mask = Tensor::from_slice2(&[[1, 1, 1], [1, 0, 0]]);
/// let selected = select_logits_with_mask(&[logits.copy(), logits], &[mask])?;
/// assert_eq!(selected[0].size(), [4, 5]);
/// assert_eq!(selected[1].size(), [4, 5]);
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn select_logits_with_mask(logits: &[Tensor], masks: &[Tensor]) -> Result<Vec<Tensor>> {
    if let Some(index) = logits.iter().position(|logits| !logits.defined()) {
        return Err(undefined(format!("logits[{index}]")));
    }
    let sizes: Vec<_> = logits.iter().map(Tensor::size).collect();
    let positions = sizes.iter().zip(logits).map(|(size, logits)| {
        let before = size.split_last().map_or(&[][..], |(_, before)| before);
        (before, logits.device())
    });
    let rows = kept_rows(positions, masks)?;
    let pairs = logits.iter().zip(&rows);
    let selected = pairs.map(|(logits, rows)| match rows {
        Some(rows) => rows_of(logits, 2, rows),
        None => Ok(logits.shallow_clone()),
    });
    selected.collect()
}

/// Which rows of each of several tensors of logits a mask keeps, once they are flattened to
/// `[batch · length, ..]`. None where the logits have no positions `[batch, length]`.
pub(crate) fn kept_rows<'a>(
    positions: impl ExactSizeIterator<Item = (&'a [i64], Device)>,
    masks: &[Tensor],
) -> Result<Vec<Option<Tensor>>> {
    let count = positions.len();
    if masks.len() != count && masks.len() != 1 {
        return Err(Error::shape(
            "logits_mask",
            format!("one mask, or one for each of the {count} tensors of logits"),
            format!("{} masks", masks.len()),
        ));
    }
    let mut kept: Vec<Option<Tensor>> = masks.iter().map(|_| None).collect();
    let mut of_each = Vec::with_capacity(count);
    for (index, (positions, device)) in positions.enumerate() {
        let (batch, length) = match positions {
            &[batch, length] => (batch, length),
            [] | [_] => {
                of_each.push(None);
                continue;
            }
            more => {
                let wanted = "logits [batch, classes] or [batch, length, classes] beside a mask";
                return Err(Error::shape(
                    "logits_mask",
                    wanted,
                    format!("{more:?} positions"),
                ));
            }
        };
        let index = if masks.len() == 1 { 0 } else { index };
        let (Some(mask), Some(kept)) = (masks.get(index), kept.get_mut(index)) else {
            continue; // cannot be: the counts were compared above
        };
        defined("logits_mask", mask)?;
        if mask.size() != [batch, length] {
            return Err(Error::shape(
                "logits_mask",
                format!("[batch, length] = {:?} of the logits", [batch, length]),
                format!("{:?}", mask.size()),
            ));
        }
        // The device has to tell the host how many are kept: once for each mask.
        let rows = match kept {
            Some(rows) => rows,
            None => kept.insert(
                mask.f_to_device(device)?
                    .f_reshape([-1i64])?
                    .f_nonzero()?
                    .f_squeeze_dim(-1)?,
            ),
        };
        of_each.push(Some(rows.shallow_clone()));
    }
    Ok(of_each)
}

/// These rows of the positions in the first `rank` dimensions of a tensor, as `[rows, ..]`.
pub(super) fn rows_of(tensor: &Tensor, rank: usize, rows: &Tensor) -> Result<Tensor> {
    let flat = match rank {
        0 => tensor.f_unsqueeze(0)?,
        1 => tensor.shallow_clone(),
        _ => tensor.f_flatten(0, rank as i64 - 1)?,
    };
    Ok(flat.f_index_select(0, rows)?)
}
