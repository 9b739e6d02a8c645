//! What trainings came to, as files for `tests/same_bytes.sh`, which names a folder for them in
//! the variable `TEXTBREWER_RECORD`. Without it nothing is recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::Tensor;
use textbrewer::weights;

use super::tensorboard::read_scalars;

/// A folder for `name` in one for the test that asks.
fn place(name: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("TEXTBREWER_RECORD")?);
    // The test harness names a test's thread after the test.
    let thread = std::thread::current();
    let test = thread.name().expect("the name of a test");
    let place = folder.join(test.replace("::", "/")).join(name);
    fs::create_dir_all(&place).unwrap();
    Some(place)
}

/// What is logged besides losses: settings, and the time.
const UNRECORDED: [&str; 4] = [
    "scalar/learning_rate",
    "scalar/grad_norm",
    "scalar/metric",
    "scalar/steps_per_second",
];

/// Records losses as their bits, by tag and step: in which order the terms of a step were
/// logged is none of its numbers.
pub fn losses<T: std::fmt::LowerHex>(
    name: impl AsRef<Path>,
    values: impl Iterator<Item = (String, u64, T)>,
) {
    let Some(place) = place(name.as_ref()) else {
        return;
    };
    let mut values: Vec<_> = values
        .filter(|(tag, ..)| !UNRECORDED.iter().any(|name| tag.starts_with(name)))
        .map(|(tag, step, bits)| (tag, step, format!("{bits:x}")))
        .collect();
    values.sort();
    let line = |(tag, step, bits)| format!("{tag} {step} {bits}\n");
    let lines: String = values.into_iter().map(line).collect();
    fs::write(place.join("losses"), lines).unwrap();
}

/// Records tensors.
pub fn tensors(name: impl AsRef<Path>, tensors: &BTreeMap<String, Tensor>) {
    let Some(place) = place(name.as_ref()) else {
        return;
    };
    let tensors: Vec<_> = tensors.iter().collect();
    weights::save(
        place.join("weights.safetensors"),
        &tensors,
        &BTreeMap::new(),
    )
    .unwrap();
}

/// Records all weights of a folder, the states to resume from among them, and the scalars of its
/// event files, which themselves hold the time of day.
pub fn folder(name: impl AsRef<Path>, folder: &Path) {
    let name = name.as_ref();
    let Some(place) = place(name) else { return };
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            self::folder(name.join(file), &path);
        } else if file.ends_with(".safetensors") {
            fs::copy(&path, place.join(file)).unwrap();
        } else if file.contains("tfevents") {
            let scalars = read_scalars(&path).into_iter();
            let bits = scalars.map(|one| (one.tag, one.step as u64, one.value.to_bits()));
            losses(name, bits);
        }
    }
}
