//! The divergences of rows of logits, with their gradients, in one pass over a row on the CPU.

use std::ffi::{c_char, c_int};
use std::ptr;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::{checked, owned};
use crate::error::{Context, Error, Result};
use crate::losses::Divergence;

unsafe extern "C" {
    fn textbrewer_divergence(
        student: *const C_tensor,
        teacher: *const C_tensor,
        temperatures: *const C_tensor,
        factors: *const C_tensor,
        labels: *const C_tensor,
        label_factors: *const C_tensor,
        divergence: c_int,
        parameter: f64,
        cap: f64,
        wants_gradient: bool,
        may_use_avx2: bool,
        losses: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Rows of logits.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// `[rows, classes]`, for the gradients to take their place.
    pub(crate) student: &'a Tensor,
    pub(crate) teacher: &'a Tensor,
    /// What both are multiplied by, `[rows]`.
    pub(crate) inverse_temperatures: &'a Tensor,
    /// What the gradients are multiplied by, `[rows]`.
    pub(crate) factors: &'a Tensor,
    /// The logits are `cap · tanh(z / cap)`, and the gradient is that of `z`.
    pub(crate) soft_cap: Option<f64>,
    pub(crate) wants_gradient: bool,
    /// Classes `[rows]` whose cross entropy is learned as well, where they are not negative, and what
    /// its gradients are multiplied by.
    pub(crate) labels: Option<(&'a Tensor, &'a Tensor)>,
}

/// The number of a divergence in `divergence.h`, and its argument. `AdaptiveKl`, which sorts, has none,
/// and neither has a mixture of which single precision leaves one side nothing.
fn number(divergence: Divergence) -> Option<(c_int, f64)> {
    let numbered = match divergence {
        Divergence::CrossEntropy => (0, None),
        Divergence::Kl
        | Divergence::ForwardKl
        | Divergence::GeneralizedJsd(0.0)
        | Divergence::SkewKl(0.0) => (1, None),
        Divergence::ReverseKl
        | Divergence::GeneralizedJsd(1.0)
        | Divergence::SkewReverseKl(0.0) => (2, None),
        Divergence::GeneralizedJsd(beta) => (3, Some(beta)),
        Divergence::SkewKl(alpha) => (4, Some(alpha)),
        Divergence::SkewReverseKl(alpha) => (5, Some(alpha)),
        Divergence::TotalVariation => (6, None),
        Divergence::AdaptiveKl(_) => return None,
    };
    let (number, share) = numbered;
    let has_both = |share: f64| (share as f32) > 0.0 && 1.0 - (share as f32) > 0.0;
    share
        .is_none_or(has_both)
        .then_some((number, share.unwrap_or(0.0)))
}

/// Whether [`divergence`] computes this: single precision on the CPU.
pub(crate) fn supports(divergence: Divergence, rows: &[&Tensor]) -> bool {
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cpu
            && matches!(tensor.f_kind(), Ok(Kind::Float))
            && tensor.dim() == 2
            && tensor.is_contiguous()
    };
    let [first, ..] = rows else {
        return false;
    };
    let size = first.size();
    number(divergence).is_some()
        && rows
            .iter()
            .all(|tensor| fits(tensor) && tensor.size() == size)
}

/// The divergences of rows that it [`supports`], without τ², and the cross entropies, which are 0
/// without a label. Nothing is recorded.
pub(crate) fn divergence(divergence: Divergence, rows: &Rows<'_>) -> Result<[Tensor; 2]> {
    by_the_form(true, divergence, rows)
}

/// By the form for processors with AVX2, if that may be used and this is one, or by the other.
fn by_the_form(may_use_avx2: bool, divergence: Divergence, rows: &Rows<'_>) -> Result<[Tensor; 2]> {
    let both = [rows.student, rows.teacher];
    let count = rows.student.size().first().copied().unwrap_or(0);
    let of_each = |tensor: &Tensor, kind: Kind| {
        tensor.size() == [count]
            && tensor.f_kind().is_ok_and(|own| own == kind)
            && tensor.device() == Device::Cpu
            && tensor.is_contiguous()
    };
    let fit = of_each(rows.inverse_temperatures, Kind::Float)
        && of_each(rows.factors, Kind::Float)
        && rows.labels.is_none_or(|(labels, factors)| {
            of_each(labels, Kind::Int64) && of_each(factors, Kind::Float)
        });
    let (Some((number, parameter)), true) =
        (number(divergence), fit && supports(divergence, &both))
    else {
        return Err(Error::other("rows that the kernel does not compute"));
    };
    let mut losses = ptr::null_mut();
    // SAFETY: the tensors live through the call, and their shapes, kinds and layouts were checked; the
    // tensor that is given is ours.
    let losses = unsafe {
        checked(textbrewer_divergence(
            rows.student.as_ptr(),
            rows.teacher.as_ptr(),
            rows.inverse_temperatures.as_ptr(),
            rows.factors.as_ptr(),
            rows.labels
                .map_or(ptr::null(), |(labels, _)| labels.as_ptr()),
            rows.labels
                .map_or(ptr::null(), |(_, factors)| factors.as_ptr()),
            number,
            parameter,
            rows.soft_cap.unwrap_or(0.0),
            rows.wants_gradient,
            may_use_avx2,
            &mut losses,
        ))
        .context(|| "a divergence of logits".into())?;
        owned(losses)
    };
    let losses = losses.ok_or_else(|| Error::other("a divergence of logits: no result"))?;
    Ok([losses.f_select(0, 0)?, losses.f_select(0, 1)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form without AVX2, which a processor with it never takes.
    #[test]
    fn both_forms_come_to_the_same() {
        const CLASSES: i64 = 5000;
        let waves = |seed: f64| {
            let numbers = Tensor::arange(3 * CLASSES, (Kind::Double, Device::Cpu)) * 1.7 + seed;
            (numbers * 2.3)
                .sin()
                .to_kind(Kind::Float)
                .view([3, CLASSES])
                * 6.0
        };
        let teacher = waves(0.4);
        let inverse_temperatures = Tensor::from_slice(&[1f32, 0.5, 1.0]);
        let factors = Tensor::from_slice(&[1f32, 2.0, 0.5]);
        let labels = Tensor::from_slice(&[-1i64, 7, 4999]);
        for divergence in [
            Divergence::CrossEntropy,
            Divergence::ForwardKl,
            Divergence::ReverseKl,
            Divergence::GeneralizedJsd(0.3),
            Divergence::SkewKl(0.1),
            Divergence::SkewReverseKl(0.1),
            Divergence::TotalVariation,
        ] {
            let run = |may_use_avx2| {
                let student = waves(0.1);
                let rows = Rows {
                    student: &student,
                    teacher: &teacher,
                    inverse_temperatures: &inverse_temperatures,
                    factors: &factors,
                    soft_cap: Some(9.0),
                    wants_gradient: true,
                    labels: Some((&labels, &factors)),
                };
                let [losses, of_labels] = by_the_form(may_use_avx2, divergence, &rows).unwrap();
                [losses, of_labels, student]
            };
            for (one, other) in run(true).iter().zip(run(false)) {
                let largest = other.abs().max().double_value(&[]);
                let far = (one - other).abs().max().double_value(&[]);
                assert!(
                    largest > 0.0 && far <= 2e-6 * largest,
                    "{divergence:?}: {far} of {largest}"
                );
            }
        }
    }
}
