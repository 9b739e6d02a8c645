//! Whether two sets of tensors are the same.

use std::collections::BTreeMap;

use tch::Tensor;

use super::kind_and_shape;
use crate::error::{Result, shown};

/// The first tensor that is not the same in both, and in what; NaN is the same as NaN.
pub(crate) fn difference(
    saved: &BTreeMap<String, Tensor>,
    now: &BTreeMap<String, Tensor>,
) -> Result<Option<String>> {
    for (name, before) in saved {
        if let Some(difference) = difference_of(before, now.get(name))? {
            return Ok(Some(format!("`{}` {difference}", shown(name))));
        }
    }
    let added = now.keys().find(|name| !saved.contains_key(*name));
    Ok(added.map(|name| format!("`{}` is new", shown(name))))
}

fn difference_of(saved: &Tensor, now: Option<&Tensor>) -> Result<Option<String>> {
    let Some(now) = now else {
        return Ok(Some("is missing".to_owned()));
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
