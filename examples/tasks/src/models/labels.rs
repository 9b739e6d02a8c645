//! Comparing the labels of models and tasks.

use std::collections::BTreeMap;
use std::path::Path;

use textbrewer::models::BertConfig;

use crate::{Error, Result};

pub(super) fn with_labels(config: BertConfig, labels: &[String], outputs: usize) -> BertConfig {
    match labels {
        [] => config.num_labels(outputs as i64),
        labels => config.labels(labels),
    }
}

/// The same labels in another order would silently give wrong predictions. Labels with other
/// names may mean the same.
pub(super) fn check_names(
    folder: &Path,
    names: Option<&BTreeMap<i64, String>>,
    labels: &[String],
) -> Result<()> {
    let Some(names) = names.filter(|_| !labels.is_empty()) else {
        return Ok(());
    };
    let own: Vec<&String> = names.values().collect();
    let task: Vec<&String> = labels.iter().collect();
    let lower = |names: &[&String]| -> Vec<String> {
        names.iter().map(|name| name.to_lowercase()).collect()
    };
    let (mut known, mut wanted) = (lower(&own), lower(&task));
    if known == wanted {
        return Ok(());
    }
    known.sort();
    wanted.sort();
    if known == wanted {
        let reason = format!(
            "its labels are {own:?}, in this order, the task's {task:?}; give the task's `labels` \
             in the model's order, in a recipe"
        );
        return Err(Error::file(folder, reason));
    }
    log::warn!(
        "{}: its labels are {own:?}; they are taken for the task's {task:?}",
        folder.display()
    );
    Ok(())
}

pub(super) fn check_labels(folder: &Path, got: i64, outputs: usize) -> Result<()> {
    if got == outputs as i64 {
        return Ok(());
    }
    let reason = format!("it has {got} labels, the task {outputs}: a model of another task");
    Err(Error::file(folder, reason))
}
