//! The bytes of examples, as what a teacher said of a batch.

use tch::{Device, Kind, Tensor};

use super::column::{Column, Form, Layout, Stored};
use super::content::Content;
use super::numbers::{LOG_OF_ZERO, from_bytes};
use super::places::Places;
use super::{sample_rows, top_k_rows};
use crate::error::{Error, Result};
use crate::logits::{Logits, Sample, TopK};
use crate::scalar::ScalarOps;

/// Logits with these positions; those that the file does not have are 0, or have no classes.
pub(super) fn logits(column: &Column, content: &Content, places: &Places) -> Result<Logits> {
    let wide = |rows: &Tensor, filler: f64| spread(column, rows, places, filler);
    Ok(match &column.form {
        Form::Numbers { stored } => Logits::Whole(wide(&numbers(column, content, *stored)?, 0.0)?),
        Form::Probabilities { stored } => {
            // Logarithms of probabilities are logits of the same classes.
            let logs = numbers(column, content, *stored)?.f_log()?;
            let logs = logs.at_least(LOG_OF_ZERO)?;
            Logits::Whole(wide(&logs, 0.0)?)
        }
        Form::TopK { k, temperature } => {
            let [classes, logs, tails] = top_k_rows::from_rows(&content.bytes, column, *k)?;
            let top = TopK::new(
                &wide(&classes, 0.0)?,
                &wide(&logs, f64::NEG_INFINITY)?,
                &spread(column, &tails.f_unsqueeze(-1)?, places, 0.0)?.f_squeeze_dim(-1)?,
            )?;
            Logits::TopK(top.taken_at(*temperature)?)
        }
        Form::Sample { draws, temperature } => {
            let mut drawn = Vec::new();
            for example in 0..content.ends.len() {
                let (positions, bytes) = content.of(example);
                drawn.extend(sample_rows::from_bytes(bytes, positions, (column, *draws))?);
            }
            let [classes, weights] = sample_rows::to_tensors(&drawn, *draws)?;
            let sample = Sample::new(&wide(&classes, 0.0)?, &wide(&weights, 0.0)?)?;
            Logits::Sample(sample.drawn_at(*temperature)?)
        }
    })
}

/// A layer with these positions; those that the file does not have are 0.
pub(super) fn layer(column: &Column, content: &Content, places: &Places) -> Result<Tensor> {
    let Form::Numbers { stored } = column.form else {
        return Err(Error::other("a layer is kept as numbers"));
    };
    if let Layout::Attention { heads } = column.layout {
        return attention((stored, heads), content, places);
    }
    let wide = spread(column, &numbers(column, content, stored)?, places, 0.0)?;
    Ok(match column.layout {
        Layout::Groups { groups } => {
            let size = [-1, places.length, groups, column.width];
            wide.f_reshape(size)?
                .f_permute([0i64, 2, 1, 3])?
                .f_contiguous()?
        }
        _ => wide,
    })
}

fn attention((stored, heads): (Stored, i64), content: &Content, places: &Places) -> Result<Tensor> {
    let length = places.length;
    let size = [content.ends.len() as i64, heads, length, length];
    let all = Tensor::f_zeros(size, (Kind::Float, Device::Cpu))?;
    for (example, kept) in places.within().enumerate() {
        let count = kept.len() as i64;
        if count == 0 {
            continue;
        }
        let square = from_bytes(content.of(example).1, stored, count)?;
        let square = square.f_reshape([heads, count, count])?;
        let kept = Tensor::f_from_slice(&kept)?;
        let rows = Tensor::f_zeros([heads, count, length], (Kind::Float, Device::Cpu))?;
        let rows = rows.f_index_copy(2, &kept, &square)?;
        let mut place = all.f_select(0, example as i64)?;
        let _ = place.f_index_copy_(1, &kept, &rows)?;
    }
    Ok(all)
}

/// All rows of all examples, `[rows, width]`.
fn numbers(column: &Column, content: &Content, stored: Stored) -> Result<Tensor> {
    let width = match column.layout {
        Layout::Groups { groups } => groups * column.width,
        _ => column.width,
    };
    from_bytes(&content.bytes, stored, width)
}

/// Rows `[rows, n]` at their places, `[batch, length, n]` or `[batch, n]`.
fn spread(column: &Column, rows: &Tensor, places: &Places, filler: f64) -> Result<Tensor> {
    let (_, width) = rows.size2()?;
    let count = places.of_each.len() as i64;
    let all = places.rows.len() as i64 == count * places.length;
    let flat = match all {
        true => rows.shallow_clone(),
        false => {
            let kind = rows.f_kind()?;
            let flat = Tensor::f_zeros([count * places.length, width], (kind, Device::Cpu))?;
            let flat = match filler == 0.0 {
                true => flat,
                false => flat.plus(filler)?,
            };
            flat.f_index_copy(0, &places.tensor(Device::Cpu)?, rows)?
        }
    };
    Ok(match column.layout {
        Layout::Example => flat,
        _ => flat.f_reshape([count, places.length, width])?,
    })
}
