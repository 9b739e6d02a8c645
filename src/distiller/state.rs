//! What a distiller has to keep when a run is interrupted, and what it is known by.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use crate::config::DistillationConfig;
use crate::error::{Context, Error, Result};
use crate::optim::ParamGroup;
use crate::weights::kind_and_shape;

/// The tensors of groups by name, which share memory with them.
pub(super) fn group_state(groups: &[ParamGroup]) -> BTreeMap<String, Tensor> {
    let parameters = groups.iter().flat_map(|group| &group.parameters);
    parameters
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect()
}

/// Copies what [`group_state`] gave into the tensors of groups.
///
/// # Errors
/// Those of [`check_group_state`]; then nothing is changed.
pub(super) fn load_group_state(
    groups: &[ParamGroup],
    state: &BTreeMap<String, Tensor>,
) -> Result<()> {
    check_group_state(groups, state)?;
    let _guard = tch::no_grad_guard();
    for (name, tensor) in groups.iter().flat_map(|group| &group.parameters) {
        if let Some(saved) = state.get(name) {
            let copied = tensor.shallow_clone().f_copy_(saved);
            copied.context(|| format!("loading `{name}`"))?;
        }
    }
    Ok(())
}

/// # Errors
/// [`Error::WeightsMismatch`] with every name, shape and kind that differs.
pub(super) fn check_group_state(
    groups: &[ParamGroup],
    state: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let mut unexpected: BTreeSet<&str> = state.keys().map(String::as_str).collect();
    let mut differences = Vec::new();
    for (name, tensor) in groups.iter().flat_map(|group| &group.parameters) {
        unexpected.remove(name.as_str());
        let Some(saved) = state.get(name) else {
            differences.push(format!("`{name}`: missing"));
            continue;
        };
        let (expected, found) = (kind_and_shape(tensor)?, kind_and_shape(saved)?);
        if expected != found {
            differences.push(format!("`{name}`: {found}, expected {expected}"));
        }
    }
    differences.extend(
        unexpected
            .iter()
            .map(|name| format!("`{name}`: unexpected")),
    );
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::WeightsMismatch {
        origin: "the state of the distiller".to_owned(),
        differences,
    })
}

/// A configuration by its keys.
pub(super) fn by_key(config: &DistillationConfig) -> Result<BTreeMap<String, String>> {
    let value = serde_json::to_value(config).map_err(|source| Error::Json {
        place: "the distillation configuration".to_owned(),
        reason: source.to_string(),
        source,
    })?;
    let keys = value.as_object().into_iter().flatten();
    Ok(keys
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let undefined = BTreeMap::from([("a".to_owned(), Tensor::new())]);
        let group = ParamGroup::new("g", vec![("a".to_owned(), Tensor::from(1f32))]);
        let error = load_group_state(&[group], &undefined).unwrap_err();
        assert!(error.to_string().contains("an undefined tensor"), "{error}");

        let tensors = ["a", "b"].map(|name| (name.to_owned(), Tensor::from_slice(&[1f32, 2.0])));
        let groups = [ParamGroup::new("both", tensors.into())];
        let state = BTreeMap::from([
            ("a".to_owned(), Tensor::from_slice(&[5f32, 6.0])),
            ("b".to_owned(), Tensor::from_slice(&[5f64])),
            ("c".to_owned(), Tensor::from(0)),
        ]);
        let text = load_group_state(&groups, &state).unwrap_err().to_string();
        assert!(
            text.contains("`b`: Double [1], expected Float [2]"),
            "{text}"
        );
        assert!(text.contains("`c`: unexpected"), "{text}");
        assert_eq!(group_state(&groups)["a"], Tensor::from_slice(&[1f32, 2.0]));
    }
}
