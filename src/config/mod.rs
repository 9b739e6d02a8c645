//! Configurations, in TextBrewer's JSON.
//!
//! [`TrainingConfig`] describes how to train, [`DistillationConfig`] what to learn from the
//! teacher. Both are built by methods or read from JSON, and have every key of TextBrewer 0.2.1
//! with its default. Creating one has no side effects. Values are checked by `validate`, which a
//! distiller's `build` calls, so keys may be set in any order.

pub(crate) mod device;
mod distillation;
mod emd;
pub(crate) mod json;
mod layer_map;
mod layer_selection;
mod layers;
mod match_list;
mod match_sets;
mod matching;
mod needs;
mod precision;
mod preset_spec;
mod projection_spec;
mod training;

pub use device::parse_device;
pub use distillation::DistillationConfig;
pub use emd::{EmdConfig, LayerWeights};
pub use layer_map::LayerMap;
pub use layer_selection::LayerSelection;
pub use layers::Layers;
pub use match_sets::{match_set, match_set_names};
pub use matching::IntermediateMatch;
pub(crate) use needs::Layers as NeededLayers;
pub use needs::Needs;
pub use precision::Precision;
pub use preset_spec::{Arguments, PresetSpec};
pub use projection_spec::ProjectionSpec;
pub use training::TrainingConfig;

use std::fmt;

use crate::error::{Error, Result};

/// Writes `key : value` lines with aligned colons.
fn write_aligned(f: &mut fmt::Formatter<'_>, rows: &[(&str, String)]) -> fmt::Result {
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (i, (key, value)) in rows.iter().enumerate() {
        if i > 0 {
            writeln!(f)?;
        }
        write!(f, "{key:<width$} : {value}")?;
    }
    Ok(())
}

/// For leaving this crate's own keys out of JSON that TextBrewer reads.
fn is_false(on: &bool) -> bool {
    !*on
}

/// `null`, or the value.
fn or_null(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn check_finite(key: impl fmt::Display, value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::config(
        key.to_string(),
        format!("must be a finite number, is {value}"),
    ))
}

/// The longest name of a loss, a schedule, a projection or a feature. Names appear in every
/// message and in the tags of the logs.
const LONGEST_NAME: usize = 1000;

fn check_name(key: impl fmt::Display, value: &str, wanted: &str) -> Result<()> {
    let reason = match value.len() {
        0 => format!("must not be empty; give {wanted}"),
        1..=LONGEST_NAME => return Ok(()),
        length => format!("{length} bytes are too long for a name; give {wanted}"),
    };
    Err(Error::config(key.to_string(), reason))
}
