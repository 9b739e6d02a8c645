//! Gradients averaged over processes during the backward pass.

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr::{self, NonNull};

use tch::Tensor;
use torch_sys::C_tensor;

use super::checked;
use super::process_group::{Group, Outcome, RawGroup, c_string, pointers};

#[repr(C)]
struct RawReducer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn textbrewer_reducer_new(
        group: *const RawGroup,
        parameters: *const *mut C_tensor,
        names: *const *const c_char,
        count: usize,
        made: *mut *mut RawReducer,
    ) -> *mut c_char;
    fn textbrewer_reducer_before_forward(reducer: *mut RawReducer) -> *mut c_char;
    fn textbrewer_reducer_before_backward(
        reducer: *mut RawReducer,
        loss: *const C_tensor,
    ) -> *mut c_char;
    fn textbrewer_reducer_free(reducer: *mut RawReducer);
}

/// While it lives, a backward pass that was [announced](Self::before_backward) leaves in each
/// parameter the mean of all processes' gradients. Others leave the process's own.
pub(crate) struct Reducer {
    reducer: NonNull<RawReducer>,
    parameters: usize,
}

impl Reducer {
    /// For these parameters, in the order in which a forward pass uses them.
    pub(crate) fn new(group: &Group, parameters: &[(String, Tensor)]) -> Outcome<Self> {
        let tensors: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
        let tensors = pointers(&tensors);
        let names = parameters.iter().map(|(name, _)| c_string(name));
        let names = names.collect::<Outcome<Vec<CString>>>()?;
        let name_pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut made = ptr::null_mut();
        // SAFETY: group, tensors and names live through the call, and there is a name for each
        // tensor. The reducer keeps what it needs of them.
        unsafe {
            checked(textbrewer_reducer_new(
                group.raw(),
                tensors.as_ptr(),
                name_pointers.as_ptr(),
                tensors.len(),
                &mut made,
            ))?;
        }
        let reducer = NonNull::new(made)
            .ok_or_else(|| tch::TchError::Torch("no reducer was made".to_owned()))?;
        Ok(Reducer {
            reducer,
            parameters: parameters.len(),
        })
    }

    /// To be called before the forward pass whose gradients are averaged.
    pub(crate) fn before_forward(&mut self) -> Outcome<()> {
        // SAFETY: the reducer is alive.
        unsafe { checked(textbrewer_reducer_before_forward(self.reducer.as_ptr())) }
    }

    /// To be called before its backward pass. Parameters that the loss does not depend on are
    /// found by it; they have a gradient if another process has one.
    pub(crate) fn before_backward(&mut self, loss: &Tensor) -> Outcome<()> {
        // SAFETY: reducer and loss are alive.
        unsafe {
            checked(textbrewer_reducer_before_backward(
                self.reducer.as_ptr(),
                loss.as_ptr(),
            ))
        }
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { textbrewer_reducer_free(self.reducer.as_ptr()) }
    }
}

impl fmt::Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reducer")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
