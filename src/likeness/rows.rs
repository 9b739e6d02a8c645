//! The examples of a batch as each layer has them.

use tch::{Kind, Tensor};

use super::{FEATURE, PLACE};
use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, Side};
use crate::kind::{at_least_float32, holding_both, in_kind, is_floating};
use crate::losses::support::mask_like;
use crate::scalar::ScalarOps;

/// For each layer of both models the same examples as rows, `[examples, size]`, in numbers of one
/// kind on one device.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) teacher: Vec<Tensor>,
    pub(super) student: Vec<Tensor>,
    /// How many examples there are.
    pub(super) count: i64,
}

/// The examples that count, of what the models said of a batch.
pub(super) fn of(teacher: &AdaptorOutput, student: &AdaptorOutput) -> Result<Rows> {
    let of_teacher = layers(teacher, Side::Teacher)?;
    let of_student = layers(student, Side::Student)?;
    let all = || of_student.iter().chain(&of_teacher);
    let Some((_, first)) = all().next() else {
        return Err(Error::missing(Side::Student, FEATURE, PLACE));
    };
    let before_size = before_last(first);
    let mut kind = Kind::Float;
    for (name, layer) in all() {
        check(name, layer, &before_size)?;
        kind = holding_both(kind, layer.f_kind()?);
    }
    let mask = student.mask_beside(Some(teacher), FEATURE, before_size.len() == 2);
    let kept = match mask {
        None => None,
        Some(mask) => {
            let place = format!("{PLACE}, `{FEATURE}`");
            let keeps = mask_like(&place, mask, &before_size, first)?.is_not(0.0)?;
            Some(keeps.f_flatten(0, -1)?.f_nonzero()?.f_squeeze_dim(1)?)
        }
    };
    let count: i64 = before_size.iter().product();
    let rows = |(_, layer): &(String, Tensor)| -> Result<Tensor> {
        let size = layer.size().last().copied().unwrap_or(1);
        let rows = layer.f_reshape([count, size])?;
        let rows = match &kept {
            Some(kept) => rows.f_index_select(0, &kept.f_to_device(rows.device())?)?,
            None => rows,
        };
        in_kind(&rows.f_to_device(first.device())?, kind)
    };
    Ok(Rows {
        teacher: of_teacher.iter().map(rows).collect::<Result<_>>()?,
        student: of_student.iter().map(rows).collect::<Result<_>>()?,
        count: match &kept {
            Some(kept) => kept.numel() as i64,
            None => count,
        },
    })
}

/// The layers of a model with what errors call them.
fn layers(output: &AdaptorOutput, side: Side) -> Result<Vec<(String, Tensor)>> {
    let Some(feature) = output.features.get(FEATURE) else {
        return Err(Error::missing(side, FEATURE, PLACE));
    };
    if feature.layers.len() < 2 {
        return Err(Error::shape(
            format!("{PLACE}, `{FEATURE}` of the {side}"),
            "the embeddings and one layer or more",
            format!("{} tensor(s)", feature.layers.len()),
        ));
    }
    let layer = |(index, layer): (usize, &Tensor)| {
        if !layer.defined() {
            return Err(Error::LayerNotKept {
                side,
                feature: FEATURE.to_owned(),
                index: index as i64,
                needed_by: PLACE.to_owned(),
            });
        }
        Ok((name(side, index), at_least_float32(layer)?))
    };
    feature.layers.iter().enumerate().map(layer).collect()
}

/// What errors call a layer.
pub(super) fn name(side: Side, index: usize) -> String {
    format!("{PLACE}, {side} layer {index} of `{FEATURE}`")
}

/// The shape without the last dimension.
fn before_last(layer: &Tensor) -> Vec<i64> {
    let mut size = layer.size();
    size.pop();
    size
}

/// `before_size` is what stands before the size of the first layer of the student.
fn check(name: &str, layer: &Tensor, before_size: &[i64]) -> Result<()> {
    if !is_floating(layer.f_kind()?) {
        let got = format!("{:?}", layer.f_kind()?);
        return Err(Error::shape(name, "floating-point numbers", got));
    }
    if !matches!(layer.dim(), 2 | 3) {
        let got = format!("{:?}", layer.size());
        return Err(Error::shape(
            name,
            "[batch, length, size] or [batch, size]",
            got,
        ));
    }
    if before_last(layer) != before_size {
        let numbers = before_size.iter().map(|number| format!("{number}, "));
        let wanted = format!(
            "[{}size], the examples of {}",
            numbers.collect::<String>(),
            self::name(Side::Student, 0)
        );
        return Err(Error::shape(name, wanted, format!("{:?}", layer.size())));
    }
    Ok(())
}
