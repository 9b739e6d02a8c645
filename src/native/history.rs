//! Operations without autograd.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use super::checked;
use crate::error::Result;

unsafe extern "C" {
    fn textbrewer_no_history_enter(guard: *mut *mut c_void) -> *mut c_char;
    fn textbrewer_no_history_leave(guard: *mut c_void);
}

/// A guard: while it lives, operations of this thread record no gradients, and skip the layers
/// of libtorch that would record them, as in PyTorch's inference mode. Unlike there, the results
/// are ordinary tensors, which losses may keep for their backward pass.
///
/// The state belongs to the thread, so the guard is not `Send`.
#[derive(Debug)]
#[must_use = "it ends when the guard is dropped"]
pub(crate) struct NoHistory {
    guard: *mut c_void,
    thread: PhantomData<*const ()>,
}

impl NoHistory {
    pub(crate) fn enter() -> Result<Self> {
        let mut guard = ptr::null_mut();
        // SAFETY: the pointer is to a live variable; what is put there is freed once, in `drop`.
        unsafe { checked(textbrewer_no_history_enter(&mut guard))? };
        Ok(NoHistory {
            guard,
            thread: PhantomData,
        })
    }
}

impl Drop for NoHistory {
    fn drop(&mut self) {
        // SAFETY: made by `enter` on this thread.
        unsafe { textbrewer_no_history_leave(self.guard) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use tch::{Device, Kind, Tensor};

    fn variable() -> Tensor {
        Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    #[test]
    fn results_have_no_gradient_and_can_be_kept_by_a_loss() {
        let (teacher, student) = (variable(), variable());
        let said = {
            let _guard = NoHistory::enter().unwrap();
            let said = &teacher * 3.0;
            // A view of a variable, too.
            assert!(!teacher.narrow(0, 0, 1).requires_grad());
            assert!(!said.requires_grad());
            said
        };
        (&student * &said).sum(Kind::Float).backward();
        assert_eq!(Vec::<f64>::try_from(student.grad()).unwrap(), [3.0, 3.0]);
        assert!(!teacher.grad().defined());
    }

    #[test]
    fn gradients_are_back_afterwards_whatever_happened() {
        {
            let _outer = NoHistory::enter().unwrap();
            drop(NoHistory::enter().unwrap());
            assert!(!(variable() * 2.0).requires_grad());
        }
        assert!((variable() * 2.0).requires_grad());
        let panicked = catch_unwind(|| {
            let _guard = NoHistory::enter().unwrap();
            panic!("of the model");
        });
        assert!(panicked.is_err());
        assert!((variable() * 2.0).requires_grad());
    }
}
