//! Losses between the distances and angles of a batch's examples.

use tch::{Reduction, Tensor};

use super::check::{in_students_kind, mask_like, mismatch, sizes};
use super::support::at_least_float32;
use crate::error::Result;
use crate::native;
use crate::scalar::ScalarOps;

/// The least distance between two examples: the root of 1e-12.
const LEAST_DISTANCE: f64 = 1e-6;
/// The least length that is divided by.
const LEAST_LENGTH: f64 = 1e-12;
/// How many numbers of one kind the angles may take at a time: 64 MiB in float32.
const NUMBERS_AT_ONCE: i64 = 1 << 24;

/// Distances between the examples of a batch (RKD-D, [Park et al. 2019](https://arxiv.org/abs/1904.05068)):
/// `mean over all pairs of h(d_ij(S)/mean d(S) − d_ij(T)/mean d(T))`, h Huber's loss with δ = 1.
///
/// An example is all its numbers in a row. `d_ij = ‖x_i − x_j‖`, at least 1e-6 for two examples, and the mean of
/// the distances is that of two different examples. The mean of the losses is over all `batch²` pairs,
/// those of an example with itself included, as in the authors' code. The paper's weight is 25, beside
/// [`rkd_angle`]'s 50. Registered as `rkd_distance`.
///
/// It **mixes examples**: the mean over two halves of a batch is not the loss of the batch, so it is
/// not the same with gradient accumulation or several processes. A batch of fewer than two examples
/// has the loss 0.
///
/// With a mask, the numbers at masked positions count as 0 on both sides; the references have no masks.
///
/// # Shape
/// Each side: `[batch, …]`, the same batch and otherwise as each side likes; with a mask `[batch,
/// length]` both are `[batch, length, …]`.
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::rkd_distance;
///
/// // One triangle, at another place and twice as large.
/// let student = Tensor::from_slice2(&[[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]);
/// let teacher = Tensor::from_slice2(&[[1.0, 1.0, 0.0], [7.0, 1.0, 0.0], [1.0, 9.0, 0.0]]);
/// assert!(rkd_distance(&student, &teacher, None)?.double_value(&[]) < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn rkd_distance(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("rkd_distance", student, teacher, mask)?;
    let (student, teacher) = (relative_distances(&student)?, relative_distances(&teacher)?);
    let sum = student.f_smooth_l1_loss(&teacher, Reduction::Sum, 1.0)?;
    Ok(sum.over(student.numel().max(1) as f64)?)
}

/// The distances between rows, divided by their mean: `[batch, width]` to `[batch, batch]`.
fn relative_distances(rows: &Tensor) -> Result<Tensor> {
    // From differences: the way by products loses the small distances in float32.
    const FROM_DIFFERENCES: i64 = 2;
    let (batch, _) = rows.size2()?;
    let options = (rows.f_kind()?, rows.device());
    let others = Tensor::f_ones([batch, batch], options)?.f_sub(&Tensor::f_eye(batch, options)?)?;
    let distances = Tensor::f_cdist(rows, rows, 2.0, FROM_DIFFERENCES)?
        .at_least(LEAST_DISTANCE)?
        .f_mul(&others)?;
    let pairs = (batch * (batch - 1)).max(1) as f64;
    let mean = distances.f_sum(None)?.over(pairs)?;
    Ok(distances.f_div(&mean.at_least(LEAST_LENGTH)?)?)
}

/// Angles between the examples of a batch (RKD-A, [Park et al. 2019](https://arxiv.org/abs/1904.05068)):
/// `mean over all triples of h(cos∠_ijk(S) − cos∠_ijk(T))`, h Huber's loss with δ = 1.
///
/// An example is all its numbers in a row; `cos∠_ijk` is the cosine of the angle at example `i` between `j`
/// and `k`, and 0 where one of them is equal to `i`. The mean is over all `batch³` triples, as in the authors'
/// code. Two equal examples of the student have no direction and no gradient; in the references theirs is 10¹²
/// times as large as others. The paper's weight is 50, beside [`rkd_distance`]'s 25. Registered as
/// `rkd_angle`.
///
/// Angles of a large batch are computed at some examples at a time, with their gradients, so the memory
/// stays bounded. The teacher has no gradient.
///
/// It **mixes examples** as [`rkd_distance`] does, and treats a mask in the same way.
///
/// # Shape
/// As for [`rkd_distance`].
///
/// # Errors
/// When the shapes do not fit.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::losses::rkd_angle;
///
/// // The angles 90°, 45° and 45°, turned and three times as large.
/// let student = Tensor::from_slice2(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
/// let teacher = Tensor::from_slice2(&[[5.0, 5.0], [5.0, 8.0], [2.0, 5.0]]);
/// assert!(rkd_angle(&student, &teacher, None)?.double_value(&[]) < 1e-12);
/// # textbrewer::Result::Ok(())
/// ```
pub fn rkd_angle(student: &Tensor, teacher: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (student, teacher) = examples("rkd_angle", student, teacher, mask)?;
    let (batch, width) = student.size2()?;
    let wider = width.max(teacher.size2()?.1).max(batch);
    let at_once = NUMBERS_AT_ONCE / (batch * wider).max(1);
    angles(&student, &teacher.f_detach()?, at_once.max(1))
}

/// The loss, from the angles at `at_once` examples at a time.
fn angles(student: &Tensor, teacher: &Tensor, at_once: i64) -> Result<Tensor> {
    let (batch, _) = student.size2()?;
    let triples = (batch as f64).powi(3).max(1.0);
    let sum = |student: &Tensor, start: i64| -> Result<Tensor> {
        let count = at_once.min(batch - start);
        let [student, teacher] = [student, teacher].map(|rows| cosines_at(rows, start, count));
        let sum = student?.f_smooth_l1_loss(&teacher?, Reduction::Sum, 1.0)?;
        Ok(sum.over(triples)?)
    };
    if batch <= at_once {
        return sum(student, 0);
    }
    // A view asks for a gradient only where gradients are recorded.
    let has_gradient = student.f_alias()?.requires_grad();
    let leaf = student.f_detach()?.f_set_requires_grad(has_gradient)?;
    let mut total = Tensor::f_zeros([0i64; 0], (student.f_kind()?, student.device()))?;
    let mut start = 0;
    while start < batch {
        let part = sum(&leaf, start)?;
        let _ = total.f_add_(&part.f_detach()?)?;
        if has_gradient {
            part.f_backward()?;
        }
        start += at_once;
    }
    match has_gradient {
        true => native::with_gradients(&total, &[(student, leaf.f_grad()?)]),
        false => Ok(total),
    }
}

/// The cosines at `count` rows between all rows: `[batch, width]` to `[count, batch, batch]`.
fn cosines_at(rows: &Tensor, start: i64, count: i64) -> Result<Tensor> {
    let at = rows.f_narrow(0, start, count)?.f_unsqueeze(1)?;
    let differences = rows.f_unsqueeze(0)?.f_sub(&at)?;
    let lengths = differences.length()?;
    let directions = differences
        .f_div(&lengths.at_least(LEAST_LENGTH)?)?
        .f_mul(&lengths.is_above(LEAST_LENGTH)?)?;
    Ok(directions.f_bmm(&directions.f_transpose(1, 2)?)?)
}

/// Both sides' examples as rows, in float32 at least; what is masked is 0.
pub(super) fn examples(
    loss: &str,
    student: &Tensor,
    teacher: &Tensor,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let (size, teacher_size) = sizes(loss, student, teacher)?;
    let least = if mask.is_some() { 3 } else { 2 };
    let is_short = size.len() < least || teacher_size.len() < least;
    if is_short || size.first() != teacher_size.first() {
        let wanted = match mask {
            Some(_) => "with a mask, [batch, length, …] with one batch",
            None => "[batch, …] with one batch",
        };
        return Err(mismatch(loss, wanted, &size, &teacher_size));
    }
    let teacher = in_students_kind(loss, student, teacher)?;
    let rows = |state: &Tensor| -> Result<Tensor> {
        let state = at_least_float32(state)?;
        let size = state.size();
        let width = size.iter().skip(1).product::<i64>();
        let batch = size.first().copied().unwrap_or(0);
        let Some(mask) = mask else {
            return Ok(state.f_reshape([batch, width])?);
        };
        let positions = size.get(..2).unwrap_or_default();
        let kept = mask_like(loss, mask, positions, &state)?.is_not(0.0)?;
        let length = size.get(1).copied().unwrap_or(1);
        let at_each = size.iter().skip(2).product::<i64>();
        let masked = state
            .f_reshape([batch, length, at_each])?
            .f_mul(&kept.f_to_kind(state.f_kind()?)?.f_unsqueeze(2)?)?;
        Ok(masked.f_reshape([batch, width])?)
    };
    Ok((rows(student)?, rows(&teacher)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn some_angles_at_a_time_are_all_of_them() {
        let waves = |size: [i64; 2], from: f64| {
            let count = size[0] * size[1];
            let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7 + from;
            numbers.sin().view(size)
        };
        let teacher = waves([7, 5], 0.3);
        let run = |at_once| {
            let student = waves([7, 4], 0.8).set_requires_grad(true);
            let loss = angles(&student, &teacher, at_once).unwrap();
            (&loss * 3.0).backward();
            (loss.double_value(&[]), student.grad())
        };
        let (whole, gradient) = run(7);
        assert!(whole > 1e-3);
        for at_once in [1, 2, 3, 6] {
            let (got, of_parts) = run(at_once);
            assert!((got - whole).abs() < 1e-15, "{at_once}: {got} for {whole}");
            let apart = (&of_parts - &gradient).abs().max().double_value(&[]);
            assert!(apart < 1e-15, "{at_once}: {apart}");
        }
        let student = waves([7, 4], 0.8).set_requires_grad(true);
        let unrecorded = tch::no_grad(|| angles(&student, &teacher, 2)).unwrap();
        assert!(!unrecorded.requires_grad());
    }

    #[test]
    fn what_is_masked_does_not_count() {
        use super::super::{cka, cka_unbiased, pkt, sp};
        let state = |from: f64| {
            let numbers = Tensor::arange(24, (Kind::Double, Device::Cpu)) * 1.7 + from;
            numbers.sin().view([4, 3, 2])
        };
        let mask = Tensor::from_slice2(&[[1i64, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0]]);
        let unkept = mask.logical_not().unsqueeze(2);
        for loss in [rkd_distance, rkd_angle, pkt, sp, cka, cka_unbiased] {
            let (student, teacher) = (state(0.1), state(0.6));
            let of = |by: f64| {
                let moved = |state: &Tensor| state + &unkept * by;
                loss(&moved(&student), &moved(&teacher), Some(&mask))
                    .unwrap()
                    .double_value(&[])
            };
            assert_eq!(of(0.0), of(7.0));
            let whole = loss(&student, &teacher, None).unwrap();
            assert_ne!(of(0.0), whole.double_value(&[]));
        }
    }
}
