//! Shared by the tests: the golden vectors, and what counts as equal.

// Each test crate uses its own part of this.
#![allow(dead_code)]

pub mod device;
pub mod example;
pub mod observing;
pub mod plain;
pub mod ranks;
pub mod record;
pub mod said;
pub mod stepped;
pub mod tensorboard;
pub mod tiny;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

/// Where the golden vectors are: `TEXTBREWER_GOLDEN_DIR`, or the copy in this project.
pub fn golden_dir() -> PathBuf {
    match std::env::var_os("TEXTBREWER_GOLDEN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
    }
}

/// A file or folder of the golden vectors. Another folder of vectors need not have them all:
/// what it lacks is told, and none at all is a failure.
pub fn golden(name: &str) -> Option<PathBuf> {
    const ALL: [&str; 4] = [
        "losses.json",
        "functions.json",
        "parameters.json",
        "trainings",
    ];
    let folder = golden_dir();
    let has = |name: &&str| folder.join(name).exists();
    assert!(ALL.iter().any(has), "{}: no case", folder.display());
    let is_copy = std::env::var_os("TEXTBREWER_GOLDEN_DIR").is_none();
    if is_copy || has(&name) {
        return Some(folder.join(name));
    }
    println!("no {name} in {}", folder.display());
    None
}

/// A JSON file of the golden vectors.
pub fn read_json(path: &Path) -> serde_json::Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cases of a JSON file; none at all is a failure.
pub fn read_cases(path: &Path) -> Vec<serde_json::Value> {
    match read_json(path) {
        serde_json::Value::Array(cases) if !cases.is_empty() => cases,
        _ => panic!("{}: no case", path.display()),
    }
}

/// Named tensors of a safetensors file.
pub fn read_tensors(path: &Path) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

/// The tolerance of losses and gradients: `|a − b| ≤ 2e-5·|b| + 1e-6`.
pub fn close(got: f64, expected: f64) -> bool {
    // Written so that NaN is close to nothing.
    (got - expected).abs() <= 2e-5 * expected.abs() + 1e-6
}

/// Panics, naming the case, at the first element that is not close.
pub fn assert_close(case: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.size(), expected.size(), "{case}: shapes differ");
    for (index, (got, expected)) in elements(got)
        .into_iter()
        .zip(elements(expected))
        .enumerate()
    {
        assert!(
            close(got, expected),
            "{case}, element {index}: {got}, expected {expected}"
        );
    }
}

/// Whether two lists of losses are the same: to the bit where that is promised, else within the
/// tolerance of losses.
pub fn same_losses(got: &[f64], expected: &[f64]) -> bool {
    let same = |(a, b): (&f64, &f64)| match device::keeps_bits() {
        true => a.to_bits() == b.to_bits(),
        false => close(*a, *b) || (a.is_nan() && b.is_nan()),
    };
    got.len() == expected.len() && got.iter().zip(expected).all(same)
}

/// The same of weights, whose tolerance is that of the final weights of golden trainings.
pub fn same_weights(got: &[f64], expected: &[f64]) -> bool {
    let same = |(a, b): (&f64, &f64)| match device::keeps_bits() {
        true => a.to_bits() == b.to_bits(),
        false => (a - b).abs() <= 1e-3,
    };
    got.len() == expected.len() && got.iter().zip(expected).all(same)
}

/// The same of the weights in two files.
pub fn same_files(got: &Path, expected: &Path) -> bool {
    let bytes = |path| std::fs::read(path).unwrap();
    if device::keeps_bits() {
        return bytes(got) == bytes(expected);
    }
    let (got, expected) = (read_tensors(got), read_tensors(expected));
    let same = |(name, tensor): (&String, &Tensor)| {
        let other = expected.get(name).map(elements);
        other.is_some_and(|other| same_weights(&elements(tensor), &other))
    };
    got.len() == expected.len() && got.iter().all(same)
}

/// All elements, in order.
pub fn elements(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor
        .detach()
        .to_kind(Kind::Double)
        .contiguous()
        .view([-1]);
    Vec::try_from(flat).expect("a flat tensor of doubles")
}

/// Numbers between −1 and 1 that look random and are the same everywhere: double
/// precision, no generator that tests running beside this one could disturb.
pub fn waves(shape: &[i64], seed: f64) -> Tensor {
    let count: i64 = shape.iter().product();
    let index = Tensor::arange(count, (Kind::Double, tch::Device::Cpu));
    ((index * 1.7 + seed) * 2.3 + seed).sin().reshape(shape)
}
