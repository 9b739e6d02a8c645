//! Automatic mixed precision.

use std::ffi::c_char;
use std::marker::PhantomData;

use tch::{Device, Kind};

use crate::error::{Context, Error, Result};
use crate::logging;

use super::{checked, device_code};

/// A guard: while it lives, operations on a kind of device run in a lower precision where that
/// is safe, as under `torch.amp.autocast`: matrix products in the lower precision, softmax and
/// losses in float32.
///
/// The state belongs to the thread, so the guard is not `Send`. Guards must be dropped in the
/// reverse order of their creation, as scopes do.
#[derive(Debug)]
#[must_use = "the region ends when the guard is dropped"]
pub(crate) struct Autocast {
    before: State,
    thread: PhantomData<*const ()>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct State {
    device: i32,
    kind: i32,
    enabled: bool,
    cache: bool,
}

unsafe extern "C" {
    fn textbrewer_autocast_enter(state: *mut State) -> *mut c_char;
    fn textbrewer_autocast_leave(before: *const State) -> *mut c_char;
}

impl Autocast {
    /// A region in `kind`: bfloat16 or half; float32 is [`off`](Self::off).
    pub(crate) fn enter(device: Device, kind: Kind) -> Result<Self> {
        // The numbers of c10::ScalarType.
        let kind = match kind {
            Kind::Float => return Self::off(device),
            Kind::Half => 5,
            Kind::BFloat16 => 15,
            other => {
                let reason = format!("must be Float, BFloat16 or Half, is {other:?}");
                return Err(Error::config("precision", reason));
            }
        };
        Self::switch(device, true, kind)
    }

    /// A region in which every operation runs in the precision of its inputs, also inside
    /// another region.
    pub(crate) fn off(device: Device) -> Result<Self> {
        Self::switch(device, false, 0)
    }

    fn switch(device: Device, enabled: bool, kind: i32) -> Result<Self> {
        let mut state = State {
            device: device_code(device)?,
            kind,
            enabled,
            cache: true,
        };
        // SAFETY: the pointer is to a live value of the layout that autocast.cpp declares.
        unsafe { checked(textbrewer_autocast_enter(&mut state)) }
            .context(|| format!("mixed precision on {device:?}"))?;
        Ok(Autocast {
            before: state,
            thread: PhantomData,
        })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: as on entering.
        if let Err(error) = unsafe { checked(textbrewer_autocast_leave(&self.before)) } {
            logging::warn(format_args!(
                "mixed precision could not be switched back: {error}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use tch::Tensor;

    fn product() -> Kind {
        let matrix = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        matrix.f_matmul(&matrix).unwrap().kind()
    }

    #[test]
    fn products_are_in_the_precision_of_the_innermost_region() {
        assert_eq!(product(), Kind::Float);
        {
            let _outer = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
            assert_eq!(product(), Kind::BFloat16);
            {
                let _inner = Autocast::enter(Device::Cpu, Kind::Half).unwrap();
                assert_eq!(product(), Kind::Half);
                {
                    let _off = Autocast::enter(Device::Cpu, Kind::Float).unwrap();
                    assert_eq!(product(), Kind::Float);
                }
                assert_eq!(product(), Kind::Half);
            }
            assert_eq!(product(), Kind::BFloat16);
            let _off = Autocast::off(Device::Cpu).unwrap();
            assert_eq!(product(), Kind::Float);
        }
        assert_eq!(product(), Kind::Float);
    }

    #[test]
    fn the_region_ends_after_an_error_and_after_a_panic() {
        fn fails() -> Result<()> {
            let _guard = Autocast::enter(Device::Cpu, Kind::BFloat16)?;
            assert_eq!(product(), Kind::BFloat16);
            let _ = Tensor::f_from_slice(&[1f32])?.f_reshape([7])?;
            Ok(())
        }
        assert!(fails().is_err());
        assert_eq!(product(), Kind::Float);
        let panicked = catch_unwind(|| {
            let _guard = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
            panic!("inside the region");
        });
        assert!(panicked.is_err());
        assert_eq!(product(), Kind::Float);
    }

    #[test]
    fn weights_changed_between_regions_are_cast_anew() {
        let mut weight = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let total = |weight: &Tensor| {
            let _guard = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
            weight.matmul(weight).sum(Kind::Float).double_value(&[])
        };
        assert_eq!(total(&weight), 8.0);
        tch::no_grad(|| {
            let _ = weight.fill_(2.0);
        });
        assert_eq!(total(&weight), 32.0);
    }

    #[test]
    fn other_devices_and_threads_are_left_alone() {
        let _guard = Autocast::enter(Device::Cuda(0), Kind::BFloat16).unwrap();
        assert_eq!(product(), Kind::Float);
        let _guard = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
        let there = std::thread::spawn(product).join().unwrap();
        assert_eq!(there, Kind::Float);
        assert_eq!(product(), Kind::BFloat16);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let error = Autocast::enter(Device::Cpu, Kind::Int64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "precision: must be Float, BFloat16 or Half, is Int64"
        );
        let error = Autocast::enter(Device::Cuda(500), Kind::Half).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mixed precision on Cuda(500): no device has the number 500"
        );
        assert_eq!(error.to_string().lines().count(), 1);
        assert_eq!(product(), Kind::Float);
    }
}
