//! The TensorBoard log of a run, and what it says of the run in words.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::checkpoint::{Description, Newest};
use crate::distiller::Distiller;
use crate::error::{Error, Result};
use crate::logging::{LogSink, TensorBoardSink};

/// The log in `log_dir`.
pub(super) struct RunLog {
    /// None where the user has given one.
    pub(super) sink: Option<TensorBoardSink>,
    pub(super) path: PathBuf,
}

/// The log that a run has in `log_dir`: one of the user's sinks if it is there, that of the
/// checkpoint from which the run goes on, or a new one.
pub(super) fn of_run(
    log_dir: &Path,
    newest: Option<&Newest>,
    sinks: &[Box<dyn LogSink + '_>],
) -> Result<RunLog> {
    let is_here = |path: &&Path| match path.parent() {
        Some(parent) => parent == log_dir || same_folder(parent, log_dir),
        None => false,
    };
    let mut given = sinks.iter().filter_map(|sink| sink.run_folder());
    if let Some(path) = given.find(is_here) {
        let path = path.to_path_buf();
        return Ok(RunLog { sink: None, path });
    }
    let before = newest.and_then(|newest| newest.loaded.position.log.as_ref());
    let continued = match before {
        Some(log) => TensorBoardSink::continued(log_dir, log)?,
        None => None,
    };
    let sink = match continued {
        Some(sink) => sink,
        None => TensorBoardSink::create(log_dir)?,
    };
    let path = sink.path().to_path_buf();
    let sink = Some(sink);
    Ok(RunLog { sink, path })
}

fn same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The configurations of a run by name, as JSON.
pub(super) fn configuration<D: Distiller + ?Sized>(
    distiller: &D,
    description: &Description,
    total_steps: u64,
) -> Result<Vec<(String, String)>> {
    let core = distiller.core();
    let mut texts = vec![("training".to_owned(), pretty(core.config())?)];
    if let Some(config) = core.distill_config() {
        texts.push(("distillation".to_owned(), pretty(config)?));
    }
    let groups = description.groups.iter().map(|group| {
        let parameters = group.parameters.len();
        json!({"name": group.name, "options": group.options, "parameters": parameters})
    });
    let mut run = description.run.clone();
    run.insert("total_steps".to_owned(), json!(total_steps));
    run.insert("batches_of_an_epoch".to_owned(), json!(description.batches));
    run.insert("groups".to_owned(), Value::Array(groups.collect()));
    texts.push(("run".to_owned(), pretty(&run)?));
    Ok(texts)
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        place: "the configuration of the run".to_owned(),
        reason: source.to_string(),
        source,
    })
}
