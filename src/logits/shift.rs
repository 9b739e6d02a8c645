//! The label gets the teacher's largest logit.

use tch::{Kind, Tensor};

use crate::error::{Context, Error, Result};
use crate::kind::defined;
use crate::scalar::ScalarOps;

/// Gives the label the teacher's largest logit, and the class that had it the label's.
///
/// Where the teacher is right, nothing changes. The teacher's tensor is left as it is:
/// the result is a copy.
///
/// A negative label leaves the position as it is. With logits `[batch, classes]` that
/// holds for labels below `−classes`, such as the usual −100; −1 to `−classes` count from
/// the last class there, as in TextBrewer.
///
/// # Shape
/// Logits: `[batch, classes]` or `[batch, length, classes]`; labels: the same without the
/// last dimension (flattened ones will do for a rank of 3).
///
/// # Errors
/// When the shapes do not fit, or a label names no class.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::probability_shift;
///
/// let teacher = Tensor::from_slice2(&[[0.1, 0.7, 0.2]]);
/// let shifted = probability_shift(&teacher, &Tensor::from_slice(&[0i64]))?;
/// assert_eq!(shifted, Tensor::from_slice2(&[[0.7, 0.1, 0.2]]));
/// # Ok::<(), textbrewer::Error>(())
/// ```
pub fn probability_shift(teacher_logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    defined("probability_shift, logits", teacher_logits)?;
    defined("probability_shift, labels", labels)?;
    let size = teacher_logits.size();
    let unfit = |what: &str, wanted: String, got: &[i64]| {
        Err(Error::shape(
            format!("probability_shift, {what}"),
            wanted,
            format!("{got:?}"),
        ))
    };
    let (positions, classes) = match size.split_last() {
        Some((&classes, positions)) if matches!(positions.len(), 1 | 2) => (positions, classes),
        _ => {
            let wanted = "[batch, classes] or [batch, length, classes]";
            return unfit("logits", wanted.to_owned(), &size);
        }
    };
    let given = labels.size();
    if given != positions && given != [positions.iter().product::<i64>()] {
        return unfit("labels", format!("{positions:?}"), &given);
    }
    let labels = labels
        .f_to_device(teacher_logits.device())?
        .f_to_kind(Kind::Int64)?
        .f_reshape(positions)?
        .f_unsqueeze(-1)?;
    let largest = teacher_logits.f_argmax(-1, true)?;
    let labels = match positions.len() {
        1 => {
            let from_the_end = labels.plus(classes)?;
            from_the_end.f_where_self(&labels.is_below(0)?, &labels)?
        }
        _ => labels,
    };
    // Where the label is the largest already, the swap below changes nothing.
    let labels = largest.f_where_self(&labels.is_below(0)?, &labels)?;

    let at_largest = teacher_logits.f_gather(-1, &largest, false)?;
    let at_label = teacher_logits
        .f_gather(-1, &labels, false)
        .context(|| format!("probability_shift, a label outside the {classes} classes"))?;
    Ok(teacher_logits
        .f_scatter(-1, &largest, &at_label)?
        .f_scatter(-1, &labels, &at_largest)?)
}
