//! Comparing the labels of models and tasks.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use tch::nn::VarStore;
use textbrewer::models::BertConfig;

use crate::{Error, Result};

pub(super) fn with_labels(config: BertConfig, labels: &[String], outputs: usize) -> BertConfig {
    match labels {
        [] => config.num_labels(outputs as i64),
        labels => config.labels(labels),
    }
}

/// The outputs of a model that belong to the task's labels, one for each; `None` where they are in
/// the same order. Labels with other names may mean the same: they are taken in their order, with a
/// warning.
pub(super) fn order_of(
    folder: &Path,
    names: Option<&BTreeMap<i64, String>>,
    labels: &[String],
) -> Option<Vec<i64>> {
    let names = names.filter(|_| !labels.is_empty())?;
    let own: Vec<&String> = names.values().collect();
    let place = |label: &String| {
        let label = label.to_lowercase();
        let mut places = names
            .iter()
            .filter(|(_, name)| name.to_lowercase() == label);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Some(*place),
            _ => None,
        }
    };
    let order: Option<Vec<i64>> = labels.iter().map(place).collect();
    match order.filter(|order| order.len() == names.len()) {
        Some(order) if order.is_sorted() => None,
        Some(order) => {
            let folder = folder.display();
            log::info!("{folder}: its labels are {own:?}; its outputs are taken by their names");
            Some(order)
        }
        None if names.values().eq(labels) => None,
        None => {
            log::warn!(
                "{}: its labels are {own:?}; they are taken for the task's {labels:?}",
                folder.display()
            );
            None
        }
    }
}

/// Puts the outputs of a head into this order.
pub(super) fn reorder(variables: &VarStore, order: &[i64]) -> Result<()> {
    let variables = variables.variables();
    let last = ["classifier.out_proj", "classifier"];
    let last = last
        .into_iter()
        .find(|name| variables.contains_key(&format!("{name}.weight")));
    let last = last.ok_or_else(|| Error::invalid("the model has no layer `classifier`"))?;
    let _guard = tch::no_grad_guard();
    for part in ["weight", "bias"] {
        let Some(variable) = variables.get(&format!("{last}.{part}")) else {
            continue;
        };
        let rows = Tensor::f_from_slice(order)?.f_to_device(variable.device())?;
        let rows = variable.f_index_select(0, &rows)?;
        variable.shallow_clone().f_copy_(&rows)?;
    }
    Ok(())
}

pub(super) fn check_labels(folder: &Path, got: i64, outputs: usize) -> Result<()> {
    if got == outputs as i64 {
        return Ok(());
    }
    let reason = format!("it has {got} labels, the task {outputs}: a model of another task");
    Err(Error::file(folder, reason))
}
