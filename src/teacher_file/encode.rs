//! What a teacher said of a batch, as the bytes of its examples.

use tch::{Kind, Tensor};

use super::column::{Column, Form, Layout};
use super::content::Content;
use super::numbers::{in_main_memory, to_bytes};
use super::places::Places;
use super::{sample_rows, top_k_rows};
use crate::error::{Error, Result};
use crate::logits::{Logits, TopK};
use crate::scalar::ScalarOps;

/// About how many bytes of logits are made at a time.
const BYTES_AT_ONCE: i64 = 64 << 20;

/// Logits at these places. Random numbers follow from `seed` and the ids.
pub(super) fn logits(
    column: &Column,
    logits: &Logits,
    places: &Places,
    (ids, seed): (&[u64], u64),
) -> Result<Content> {
    let rows = places.tensor(logits.device()?)?;
    let count = rows.size1()?;
    let at_once = (BYTES_AT_ONCE / (4 * column.width)).max(1);
    let parts = (0..count).step_by(at_once as usize);
    let parts = parts.map(|start| {
        let rows = rows.f_narrow(0, start, at_once.min(count - start))?;
        logits.at_rows(Some(&rows))
    });
    let Form::Sample { draws, temperature } = column.form else {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend(rows_of(column, &part?)?);
        }
        return Ok(in_equal_rows(column, places, bytes));
    };
    let examples = ids.iter().copied().zip(places.of_each.iter().copied());
    let mut generators = sample_rows::generators(examples, (draws, seed));
    let mut drawn = Vec::with_capacity(places.rows.len());
    for part in parts {
        drawn.extend(match part? {
            Logits::Sample(sample) => {
                check_temperature(column, sample.temperature(), temperature)?;
                sample_rows::counted(&sample, column, draws)?
            }
            part => {
                let logits = in_main_memory(&part.whole_or(REMEDY)?)?;
                let logs = logits.over(temperature)?.f_log_softmax(-1, None)?;
                sample_rows::draw(&logs, &mut generators, draws)?
            }
        });
    }
    let mut content = Content {
        positions: places.of_each.clone(),
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    let mut rest = drawn.as_slice();
    for &positions in &places.of_each {
        let (of_example, others) = rest.split_at(rest.len().min(positions as usize));
        let bytes = sample_rows::to_bytes(of_example, column, draws);
        content.bytes.extend(bytes);
        content.ends.push(content.bytes.len());
        rest = others;
    }
    Ok(content)
}

/// What to do where a file is to have more than the teacher says.
const REMEDY: &str = "keep what the teacher's adaptor returns: `top_k` for `TopK`, `sample` for \
                      `Sample`";

/// The bytes of some rows of logits.
fn rows_of(column: &Column, part: &Logits) -> Result<Vec<u8>> {
    match (&column.form, part) {
        (Form::Numbers { stored }, part) => {
            to_bytes(&in_main_memory(&part.whole_or(REMEDY)?)?, *stored)
        }
        (Form::Probabilities { stored }, part) => {
            let logits = part.whole_or(REMEDY)?;
            // Importers give logarithms in float64, so that their probabilities come back as they were.
            let kind = match logits.f_kind()? {
                Kind::Double => Kind::Double,
                _ => Kind::Float,
            };
            let logits = logits.f_to_kind(kind)?;
            to_bytes(&in_main_memory(&logits.f_softmax(-1, None)?)?, *stored)
        }
        (Form::TopK { k, temperature }, Logits::TopK(top)) => {
            check_temperature(column, top.temperature(), *temperature)?;
            top_k_rows::to_rows(top, column, *k)
        }
        (Form::TopK { k, temperature }, part) => {
            let top = TopK::of(&part.whole_or(REMEDY)?, *k, *temperature)?;
            top_k_rows::to_rows(&top, column, *k)
        }
        (Form::Sample { .. }, _) => Err(Error::other("a sample has no rows of one length")),
    }
}

fn check_temperature(column: &Column, got: f64, wanted: f64) -> Result<()> {
    match got == wanted {
        true => Ok(()),
        false => Err(Error::config(
            format!("temperature of `{}`", column.name),
            format!("the teacher's adaptor says {got}, the file is to have {wanted}"),
        )),
    }
}

/// A layer `[batch, size]`, `[batch, length, size]` or `[batch, groups, length, size]`.
pub(super) fn layer(column: &Column, layer: &Tensor, places: &Places) -> Result<Content> {
    let layer = in_main_memory(layer)?;
    let Form::Numbers { stored } = column.form else {
        return Err(Error::other("a layer is kept as numbers"));
    };
    let flat = match column.layout {
        Layout::Example => layer,
        Layout::Positions => layer.f_reshape([-1, column.width])?,
        Layout::Groups { groups } => layer
            .f_permute([0i64, 2, 1, 3])?
            .f_reshape([-1, groups * column.width])?,
        Layout::Attention { .. } => return attention(&layer, stored, places),
    };
    let rows = flat.f_index_select(0, &places.tensor(flat.device())?)?;
    Ok(in_equal_rows(column, places, to_bytes(&rows, stored)?))
}

/// Of each example the square of its own positions.
fn attention(layer: &Tensor, stored: super::Stored, places: &Places) -> Result<Content> {
    let mut content = Content {
        positions: places.of_each.clone(),
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    for (example, kept) in places.within().enumerate() {
        let kept = Tensor::f_from_slice(&kept)?;
        let of_one = layer.f_select(0, example as i64)?;
        let square = of_one.f_index_select(1, &kept)?.f_index_select(2, &kept)?;
        if square.numel() > 0 {
            let rows = square.f_reshape([-1, kept.size1()?])?;
            content.bytes.extend(to_bytes(&rows, stored)?);
        }
        content.ends.push(content.bytes.len());
    }
    Ok(content)
}

fn in_equal_rows(column: &Column, places: &Places, bytes: Vec<u8>) -> Content {
    let of_row = column.row_bytes().unwrap_or(0) as usize;
    let mut end = 0;
    let ends = places.of_each.iter().map(|&positions| {
        end += positions as usize * of_row;
        end
    });
    Content {
        positions: places.of_each.clone(),
        ends: ends.collect(),
        bytes,
    }
}
