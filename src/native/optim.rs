//! Optimizer steps over many parameters at once, and operations on their gradients.

use std::ffi::c_char;
use std::ptr;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::{Context, Error, Result};

use super::{checked, owned};

/// How a step changes a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Algorithm {
    /// Adam with decoupled weight decay.
    AdamW = 0,
    /// Adam with weight decay added to the gradient.
    Adam = 1,
    /// Gradient descent, with momentum when the slots have a first buffer.
    Descent = 2,
}

/// The numbers of a step.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Rule {
    pub(crate) algorithm: Algorithm,
    pub(crate) learning_rate: f64,
    pub(crate) weight_decay: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    pub(crate) momentum: f64,
}

/// A parameter that has a gradient, with the optimizer's state of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) parameter: &'a Tensor,
    /// The number of steps so far, as one float on the parameter's device.
    pub(crate) steps: Option<&'a Tensor>,
    /// The buffers of the algorithm, tensors like the parameter.
    pub(crate) buffers: &'a [Tensor],
}

/// Whether a step can be taken on a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    NoGradient,
    Ready,
    SparseGradient,
    UnsupportedKind,
    SharedMemory,
}

#[repr(C)]
struct RawSlot {
    parameter: *const C_tensor,
    steps: *const C_tensor,
    first: *const C_tensor,
    second: *const C_tensor,
}

unsafe extern "C" {
    fn textbrewer_inspect(
        parameters: *const *const C_tensor,
        count: usize,
        results: *mut u8,
    ) -> *mut c_char;
    fn textbrewer_step(
        rule: *const Rule,
        slots: *const RawSlot,
        count: usize,
        found: *const C_tensor,
        culprit: *mut i64,
    ) -> *mut c_char;
    fn textbrewer_zero_grad(parameters: *const *const C_tensor, count: usize) -> *mut c_char;
    fn textbrewer_clip(
        parameters: *const *const C_tensor,
        count: usize,
        max_norm: f64,
        norm: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn textbrewer_unscale(
        parameters: *const *const C_tensor,
        count: usize,
        scale: *const C_tensor,
        found: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn textbrewer_update_scale(
        scale: *mut C_tensor,
        growth_tracker: *mut C_tensor,
        found: *const C_tensor,
        growth: f64,
        backoff: f64,
        interval: i64,
    ) -> *mut c_char;
}

fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*const C_tensor> {
    tensors.into_iter().map(Tensor::as_ptr).collect()
}

/// Whether a step can be taken on each of these variables, in their order.
pub(crate) fn inspect<'a>(
    parameters: impl IntoIterator<Item = &'a Tensor>,
) -> Result<Vec<Readiness>> {
    let parameters = pointers(parameters);
    let mut results = vec![0; parameters.len()];
    // SAFETY: the tensors live as long as the borrow, and both arrays have that length.
    unsafe {
        checked(textbrewer_inspect(
            parameters.as_ptr(),
            parameters.len(),
            results.as_mut_ptr(),
        ))?;
    }
    let results = results.into_iter().map(|result| match result {
        0 => Readiness::NoGradient,
        1 => Readiness::Ready,
        2 => Readiness::SparseGradient,
        3 => Readiness::UnsupportedKind,
        _ => Readiness::SharedMemory,
    });
    Ok(results.collect())
}

/// Takes a step, unless `found_infinity` is given and not 0. All slots are [`Ready`](Readiness).
///
/// # Errors
/// With the index of the slot that failed, if it was a slot; then nothing is changed.
pub(crate) fn step(
    rule: &Rule,
    slots: &[Slot],
    found_infinity: Option<&Tensor>,
) -> std::result::Result<(), (Option<usize>, TchError)> {
    let pointer = |tensor: Option<&Tensor>| tensor.map_or(ptr::null(), Tensor::as_ptr);
    let raw: Vec<_> = slots
        .iter()
        .map(|slot| RawSlot {
            parameter: slot.parameter.as_ptr(),
            steps: pointer(slot.steps),
            first: pointer(slot.buffers.first()),
            second: pointer(slot.buffers.get(1)),
        })
        .collect();
    let mut culprit = -1;
    // SAFETY: all tensors are borrowed for the call, and RawSlot has the layout that
    // optim.cpp declares. The kernels get only what was found to be alike there.
    let result = unsafe {
        checked(textbrewer_step(
            rule,
            raw.as_ptr(),
            raw.len(),
            pointer(found_infinity),
            &mut culprit,
        ))
    };
    result.map_err(|error| (usize::try_from(culprit).ok(), error))
}

/// Removes the gradients.
pub(crate) fn zero_grad<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
    let parameters = pointers(parameters);
    // SAFETY: the tensors live as long as the borrow.
    unsafe { checked(textbrewer_zero_grad(parameters.as_ptr(), parameters.len())) }
        .context(|| "removing gradients".into())
}

/// Scales all gradients to a total norm of at most `max_norm` and returns the norm before that;
/// `None` when there are no gradients.
pub(crate) fn clip<'a>(
    parameters: impl IntoIterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<Option<Tensor>> {
    let parameters = pointers(parameters);
    let mut norm = ptr::null_mut();
    // SAFETY: the tensors live as long as the borrow; a norm that is given is ours.
    unsafe {
        checked(textbrewer_clip(
            parameters.as_ptr(),
            parameters.len(),
            max_norm,
            &mut norm,
        ))
        .context(|| "gradient clipping".into())?;
        Ok(owned(norm))
    }
}

/// Divides all gradients by `scale`; the result is 1 when one of them is not finite.
pub(crate) fn unscale<'a>(
    parameters: impl IntoIterator<Item = &'a Tensor>,
    scale: &Tensor,
) -> Result<Tensor> {
    let parameters = pointers(parameters);
    let mut found = ptr::null_mut();
    // SAFETY: as in `clip`.
    let found = unsafe {
        checked(textbrewer_unscale(
            parameters.as_ptr(),
            parameters.len(),
            scale.as_ptr(),
            &mut found,
        ))
        .context(|| "loss scaling".into())?;
        owned(found)
    };
    found.ok_or_else(|| Error::other("loss scaling: no result"))
}

/// Updates the scale after a step that was taken or skipped.
pub(crate) fn update_scale(
    scale: &mut Tensor,
    growth_tracker: &mut Tensor,
    found_infinity: &Tensor,
    growth: f64,
    backoff: f64,
    interval: i64,
) -> Result<()> {
    // SAFETY: the tensors are borrowed for the call.
    unsafe {
        checked(textbrewer_update_scale(
            scale.as_mut_ptr(),
            growth_tracker.as_mut_ptr(),
            found_infinity.as_ptr(),
            growth,
            backoff,
            interval,
        ))
    }
    .context(|| "loss scaling".into())
}
