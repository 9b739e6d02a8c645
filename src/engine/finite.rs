//! The check of variables before they are saved.

use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// Fails if a trainable variable is not finite. A finite loss can have a gradient that is not,
/// and the step with that gradient ruins the weights. All variables are checked together, so
/// that there is one transfer from the device.
pub(super) fn check_finite<'a>(
    state: impl Iterator<Item = &'a (String, Tensor)>,
    step: u64,
) -> Result<()> {
    let trained: Vec<_> = state.filter(|(_, t)| t.requires_grad()).collect();
    let Some((_, first)) = trained.first() else {
        return Ok(());
    };
    // A distiller's own parameters may be on another device than the student's.
    let device = first.device();
    let finite = trained
        .iter()
        .map(|(_, t)| Ok(t.f_isfinite()?.f_all()?.f_to_device(device)?));
    let finite = Tensor::f_stack(&finite.collect::<Result<Vec<_>>>()?, 0)?;
    let finite = Vec::<bool>::try_from(&finite.f_to_device(Device::Cpu)?)?;
    let bad = trained.iter().zip(finite).find(|(_, finite)| !finite);
    match bad {
        Some(((variable, _), _)) => Err(Error::NonFiniteVariable {
            variable: variable.clone(),
            step,
        }),
        None => Ok(()),
    }
}
