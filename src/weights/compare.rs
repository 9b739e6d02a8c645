//! Whether a state was put back.

use std::collections::BTreeMap;

use tch::Tensor;

use super::kind_and_shape;
use crate::error::{Error, Result, shown};

/// That a state after `load_state` is what was saved, on the devices where it was `before`. One
/// that is saved and not put back would be lost without a word.
///
/// # Errors
/// [`Error::Protocol`] with the first tensor that differs; NaN is the same as NaN.
pub(crate) fn check_restored(
    saved: &BTreeMap<String, Tensor>,
    before: &BTreeMap<String, Tensor>,
    now: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let elsewhere = now.iter().find_map(|(name, now)| {
        let (was, is) = (before.get(name)?.device(), now.device());
        (was != is).then(|| format!("`{}` is on {is:?}, not on {was:?}", shown(name)))
    });
    let difference = match difference(saved, now)? {
        Some(difference) => Some(difference),
        None => elsewhere,
    };
    let Some(difference) = difference else {
        return Ok(());
    };
    let reason = format!(
        "the state after it is not the saved one: {difference}; let it restore every tensor that \
         `state` returns"
    );
    Err(Error::protocol("load_state", reason))
}

fn difference(
    saved: &BTreeMap<String, Tensor>,
    now: &BTreeMap<String, Tensor>,
) -> Result<Option<String>> {
    for (name, before) in saved {
        if let Some(difference) = difference_of(before, now.get(name))? {
            return Ok(Some(format!("`{}` {difference}", shown(name))));
        }
    }
    let added = now.keys().find(|name| !saved.contains_key(*name));
    Ok(added.map(|name| format!("`{}` was not saved", shown(name))))
}

fn difference_of(saved: &Tensor, now: Option<&Tensor>) -> Result<Option<String>> {
    let Some(now) = now else {
        return Ok(Some("was saved, and `state` does not return it".to_owned()));
    };
    let (before, after) = (kind_and_shape(saved)?, kind_and_shape(now)?);
    if before != after {
        return Ok(Some(format!("is {after}, not {before}")));
    }
    let now = now.f_to_device(saved.device())?;
    Ok(match saved.f_allclose(&now, 0.0, 0.0, true)? {
        true => None,
        false => Some("has other values".to_owned()),
    })
}
