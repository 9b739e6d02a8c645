//! A training run against the recorded one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::Tensor;

use crate::common::{close, read_tensors};

#[derive(Deserialize)]
pub struct Expected {
    pub losses: Vec<BTreeMap<String, f64>>,
    pub learning_rates: Vec<Vec<f64>>,
    pub saved: Vec<String>,
    pub callback_steps: Vec<u64>,
}

/// What a run of the crate did, in the shape of `expected.json`.
pub struct Observed {
    pub losses: Vec<BTreeMap<String, f64>>,
    pub learning_rates: Vec<Vec<f64>>,
    pub saved: Vec<String>,
    pub callback_steps: Vec<u64>,
    pub finals: BTreeMap<String, Tensor>,
}

pub fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a file name");
    stem.to_string_lossy().into_owned()
}

pub fn compare(observed: &Observed, expected: &Expected) -> std::result::Result<(), String> {
    let (got, wanted) = (observed.losses.len(), expected.losses.len());
    for (index, (got, wanted)) in observed.losses.iter().zip(&expected.losses).enumerate() {
        let (names, known): (Vec<_>, Vec<_>) = (got.keys().collect(), wanted.keys().collect());
        if names != known {
            return Err(format!(
                "step {index}: logged {names:?}, expected {known:?}"
            ));
        }
        for (name, value) in wanted {
            if !close(got[name], *value) {
                let got = got[name];
                return Err(format!("step {index}: `{name}` is {got}, expected {value}"));
            }
        }
    }
    if got != wanted {
        return Err(format!("{got} steps were logged, expected {wanted}"));
    }
    let (got, wanted) = (&observed.learning_rates, &expected.learning_rates);
    let rate_close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs();
    for (step, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        if got.len() != wanted.len() || !got.iter().zip(wanted).all(rate_close) {
            return Err(format!("step {step}: rates {got:?}, expected {wanted:?}"));
        }
    }
    if got.len() != wanted.len() {
        return Err(format!(
            "{} optimizer steps, expected {}",
            got.len(),
            wanted.len()
        ));
    }
    let saved: Vec<_> = expected
        .saved
        .iter()
        .map(|name| stem(Path::new(name)))
        .collect();
    if observed.saved != saved {
        return Err(format!("saved {:?}, expected {saved:?}", observed.saved));
    }
    let (got, wanted) = (&observed.callback_steps, &expected.callback_steps);
    match got == wanted {
        true => Ok(()),
        false => Err(format!("called back at {got:?}, expected {wanted:?}")),
    }
}

pub fn compare_finals(
    observed: &BTreeMap<String, Tensor>,
    expected: &Path,
) -> std::result::Result<(), String> {
    for (name, wanted) in read_tensors(expected) {
        let Some(got) = observed.get(&name) else {
            return Err(format!("final weights lack `{name}`"));
        };
        let difference = (got.to_device(wanted.device()) - wanted)
            .abs()
            .max()
            .double_value(&[]);
        if difference.is_nan() || difference > 1e-3 {
            return Err(format!("final `{name}` differs by {difference}"));
        }
    }
    Ok(())
}
