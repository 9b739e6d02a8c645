//! Reading state folders, without trust in whoever wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::disk::{Written, examine};
use super::manifest::{
    DISTILLER, HOOKS, MANIFEST, Manifest, OPTIMIZER, PROGRESS, RANDOM, STUDENT, damaged,
};
use super::saved_position::SavedPosition;
use super::states::StateTensors;
use crate::error::{Error, Result};
use crate::weights;

/// The largest text that is written or read, as for a configuration: the description of a large
/// BERT has 200 KB, and a list of a hundred thousand checkpoints 10 MB.
pub(super) const TEXT_LIMIT: u64 = 16 << 20;

/// Everything in a state folder.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) position: SavedPosition,
    pub(crate) student: BTreeMap<String, Tensor>,
    pub(crate) tensors: StateTensors,
}

/// Reads the manifest alone, without checking any other file.
pub(super) fn manifest(folder: &Path, step: u64) -> Result<Manifest> {
    let about = fs::symlink_metadata(folder).map_err(|error| Error::io(folder, error))?;
    if !about.is_dir() {
        return Err(damaged(folder, "is no folder"));
    }
    let path = folder.join(MANIFEST);
    let manifest = Manifest::parse(&path, &text(&path)?)?;
    if manifest.global_step != step {
        let reason = format!("is of step {}, its folder is not", manifest.global_step);
        return Err(damaged(&path, reason));
    }
    Ok(manifest)
}

/// Loads a state folder, after checking every size and checksum.
pub(super) fn load(folder: &Path, step: u64) -> Result<Loaded> {
    let manifest = manifest(folder, step)?;
    for name in manifest.names() {
        let path = folder.join(name);
        let length = regular_file(&path)?;
        let expected = manifest.files.get(name).copied();
        let expected = expected.unwrap_or(Written { bytes: 0, crc32: 0 });
        if length != expected.bytes {
            let reason = format!("has {length} bytes, {} were written", expected.bytes);
            return Err(damaged(&path, reason));
        }
        let found = examine(&path).map_err(|error| Error::io(&path, error))?;
        if found != expected {
            let reason = format!(
                "has the checksum {:08x}, written was {:08x}",
                found.crc32, expected.crc32
            );
            return Err(damaged(&path, reason));
        }
    }
    let path = folder.join(PROGRESS);
    let position: SavedPosition = serde_json::from_str(&text(&path)?)
        .map_err(|error| damaged(&path, format!("is damaged: {error}")))?;
    if let Some(reason) = position.contradiction() {
        return Err(damaged(&path, format!("contradicts itself: {reason}")));
    }
    if position.global_step != step {
        let reason = format!("is of step {}, its folder is not", position.global_step);
        return Err(damaged(&path, reason));
    }
    let tensors = |name: &str| weights::read(folder.join(name));
    let hooks = match manifest.description.has_hooks() {
        true => tensors(HOOKS)?,
        false => BTreeMap::new(),
    };
    Ok(Loaded {
        path: folder.to_path_buf(),
        manifest,
        position,
        student: tensors(STUDENT)?,
        tensors: StateTensors {
            optimizer: tensors(OPTIMIZER)?,
            distiller: tensors(DISTILLER)?,
            hooks,
            random: tensors(RANDOM)?,
        },
    })
}

/// The length of a regular file. Links, which could lead anywhere, and devices are refused.
fn regular_file(path: &Path) -> Result<u64> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => Ok(about.len()),
        Ok(about) if about.is_symlink() => Err(damaged(path, "is a link, which is not followed")),
        Ok(_) => Err(damaged(path, "is no file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(damaged(path, "is missing"))
        }
        Err(error) => Err(Error::io(path, error)),
    }
}

fn text(path: &Path) -> Result<String> {
    let length = regular_file(path)?;
    if length > TEXT_LIMIT {
        let reason = format!("has {length} bytes, more than the {TEXT_LIMIT} that it can need");
        return Err(damaged(path, reason));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    String::from_utf8(bytes).map_err(|_| damaged(path, "is no text"))
}
