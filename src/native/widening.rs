//! Operations whose numbers of 16 bits are widened first.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use super::checked;
use crate::error::Result;

unsafe extern "C" {
    fn textbrewer_widening_enter(guard: *mut *mut c_void) -> *mut c_char;
    fn textbrewer_widening_leave(guard: *mut c_void);
}

/// A guard: while it lives, whatever this thread computes of numbers of 16 bits is computed of
/// the same numbers in `float32`, with gradients through the conversion. Views stay in 16 bits,
/// a tensor that nothing is computed of is not converted, and what writes into numbers of 16 bits
/// computes with them as they are.
///
/// The state belongs to the thread, so the guard is not `Send`.
#[derive(Debug)]
#[must_use = "it ends when the guard is dropped"]
pub(crate) struct Widening {
    guard: *mut c_void,
    thread: PhantomData<*const ()>,
}

impl Widening {
    pub(crate) fn enter() -> Result<Self> {
        let mut guard = ptr::null_mut();
        // SAFETY: the pointer is to a live variable; what is put there is freed once, in `drop`.
        unsafe { checked(textbrewer_widening_enter(&mut guard))? };
        Ok(Widening {
            guard,
            thread: PhantomData,
        })
    }
}

impl Drop for Widening {
    fn drop(&mut self) {
        // SAFETY: made by `enter` on this thread.
        unsafe { textbrewer_widening_leave(self.guard) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use tch::{Device, Kind, Reduction, Tensor};

    /// Numbers that `kind` holds exactly, and which gradients reach.
    fn numbers(kind: Kind) -> Tensor {
        let values = Tensor::from_slice(&[0.3f32, -1.7, 2.9, 0.1, 0.25, -3.3]);
        let values = values.view([2, 3]).to_kind(kind);
        values.set_requires_grad(true)
    }

    #[test]
    fn what_is_computed_is_what_float32_gives() {
        let labels = Tensor::from_slice(&[2i64, 0]);
        let losses = |logits: &Tensor| {
            let log = logits.log_softmax(-1, None);
            let picked = log.gather(1, &labels.unsqueeze(1), false);
            let none = None::<Tensor>;
            let built_in = logits.cross_entropy_loss(&labels, none, Reduction::Mean, -100, 0.0);
            let stacked = Tensor::stack(&[logits, logits], 0).exp().mean(None);
            let product = logits.matmul(&logits.transpose(0, 1)).sum(None);
            [-picked.mean(None), built_in, stacked, product]
        };
        for kind in [Kind::BFloat16, Kind::Half] {
            let narrow = numbers(kind);
            let wide = narrow.detach().to_kind(Kind::Float).set_requires_grad(true);
            let expected = losses(&wide);
            let got = {
                let _guard = Widening::enter().unwrap();
                losses(&narrow)
            };
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got.kind(), Kind::Float);
                assert_eq!(got, expected);
            }
            (&got[0] + &got[1]).backward();
            (&expected[0] + &expected[1]).backward();
            assert_eq!(narrow.grad(), wide.grad().to_kind(kind));
            // Without the guard the first is another number.
            assert_ne!(losses(&narrow)[0].to_kind(Kind::Float), expected[0]);
        }
    }

    #[test]
    fn views_and_what_is_written_into_stay_as_they_are() {
        let _guard = Widening::enter().unwrap();
        let narrow = numbers(Kind::BFloat16).detach();
        assert_eq!(narrow.kind(), Kind::BFloat16);
        let row = narrow.get(0);
        assert_eq!(row.data_ptr(), narrow.data_ptr());
        assert_eq!(narrow.to_kind(Kind::Double).kind(), Kind::Double);
        let zeros = || Tensor::zeros([2, 3], (Kind::BFloat16, Device::Cpu));
        let mut written = zeros();
        written.copy_(&narrow);
        let _ = written.g_add_(&narrow);
        assert_eq!(written.to_kind(Kind::Float), &narrow + &narrow);
        // These want both of one kind.
        let rows = Tensor::from_slice(&[1i64]);
        let mut written = zeros();
        let _ = written.index_put_(&[Some(&rows)], &narrow.get(0).unsqueeze(0), false);
        assert_eq!(written.get(1), narrow.get(0));
        let _ = written.scatter_(0, &rows.zeros_like().expand([1, 3], false), &narrow);
        assert_eq!(written.get(0), narrow.get(0));
        let _ = written.masked_scatter_(&narrow.gt(-10.0), &narrow);
        assert_eq!(written, narrow);
        let mut wide = narrow.zeros_like().to_kind(Kind::Float);
        let _ = wide.index_put_(&[Some(&rows)], &narrow.get(0).unsqueeze(0), false);
        assert_eq!(wide.get(1), narrow.get(0).to_kind(Kind::Float));
        let whole = Tensor::from_slice(&[1i64, 2]);
        assert_eq!((&whole + &whole).kind(), Kind::Int64);
        let double = Tensor::from_slice(&[0.1]);
        assert_eq!((&double * 3.0).double_value(&[0]), 0.1 * 3.0);
    }

    #[test]
    fn it_ends_with_the_guard_whatever_happens_and_is_the_threads_own() {
        let kind = || (&numbers(Kind::BFloat16) * 2.0).kind();
        {
            let _outer = Widening::enter().unwrap();
            drop(Widening::enter().unwrap());
            assert_eq!(kind(), Kind::Float);
            let there = std::thread::spawn(move || (&numbers(Kind::BFloat16) * 2.0).kind());
            assert_eq!(there.join().unwrap(), Kind::BFloat16);
        }
        assert_eq!(kind(), Kind::BFloat16);
        let panicked = catch_unwind(|| {
            let _guard = Widening::enter().unwrap();
            panic!("of the adaptor");
        });
        assert!(panicked.is_err());
        assert_eq!(kind(), Kind::BFloat16);
        let failed = {
            let _guard = Widening::enter().unwrap();
            numbers(Kind::BFloat16).f_reshape([7])
        };
        assert!(failed.is_err());
        assert_eq!(kind(), Kind::BFloat16);
    }

    #[test]
    fn it_works_where_no_gradients_are_recorded() {
        let _history = crate::native::NoHistory::enter().unwrap();
        let _guard = Widening::enter().unwrap();
        let sum = numbers(Kind::Half).sum(None);
        assert_eq!((sum.kind(), sum.requires_grad()), (Kind::Float, false));
        assert_eq!(sum.device(), Device::Cpu);
    }
}
