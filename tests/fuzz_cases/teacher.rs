//! A teacher file that a stranger changed: checksums are no secret, so they are right.

use std::path::{Path, PathBuf};

use serde_json::Value;
use textbrewer::{Result, TeacherFile};

use crate::forge::{Forged, list, signed};
use crate::mixture::recorded;
use crate::mutate::Mutator;

const MANIFEST: &str = "manifest.json";
const SHARD: &str = "shard-00000.safetensors";

/// A recording of one shard, and its files as they were written.
pub struct Teacher {
    folder: PathBuf,
    manifest: String,
    shard: Vec<u8>,
}

impl Teacher {
    pub fn new(folder: &Path) -> Self {
        recorded(folder, 0.5, 4);
        Teacher {
            manifest: std::fs::read_to_string(folder.join(MANIFEST)).unwrap(),
            shard: std::fs::read(folder.join(SHARD)).unwrap(),
            folder: folder.to_path_buf(),
        }
    }

    /// The length of the manifest, the manifest, and the shard.
    pub fn mutate(&self, mutator: &mut Mutator) -> Vec<u8> {
        let mut manifest: Value = serde_json::from_str(&self.manifest).unwrap();
        let mut forged = Forged::of(&self.shard);
        let (manifest, shard) = match mutator.below(4) {
            0 => {
                let text = mutator.json(&[&self.manifest]);
                let manifest = match serde_json::from_slice(&text) {
                    Ok(Value::Object(manifest)) => signed(manifest.into()),
                    _ => text,
                };
                (manifest, self.shard.clone())
            }
            1 => {
                let shard = mutator.weights(std::slice::from_ref(&self.shard));
                manifest["shards"][0]["bytes"] = shard.len().into();
                manifest["shards"][0]["crc32"] = crc32fast::hash(&shard).into();
                (signed(manifest), shard)
            }
            // What all say of the columns.
            2 => {
                let columns = manifest["columns"].to_string();
                let columns = serde_json::from_slice(&mutator.json(&[&columns]));
                let columns: Value = columns.unwrap_or_default();
                forged.description["columns"] = columns.clone();
                manifest["columns"] = columns;
                forged.sign();
                list(&mut manifest, SHARD, &forged);
                (signed(manifest), forged.bytes())
            }
            // Numbers of a tensor.
            _ => {
                let place = mutator.below(forged.tensors.len());
                let bytes = &mut forged.tensors[place].bytes;
                for _ in 0..=mutator.below(4) {
                    let number = [0, 1, 255, 1 << 16, u32::MAX, u32::MAX / 2][mutator.below(6)];
                    let start = mutator.below(bytes.len()) / 4 * 4;
                    let number = number.to_le_bytes();
                    let end = bytes.len().min(start + number.len());
                    bytes[start..end].copy_from_slice(&number[..end - start]);
                }
                forged.sign();
                list(&mut manifest, SHARD, &forged);
                (signed(manifest), forged.bytes())
            }
        };
        let mut input = (manifest.len() as u64).to_le_bytes().to_vec();
        input.extend(manifest);
        input.extend(shard);
        input
    }

    /// Writes what [`mutate`](Self::mutate) made, and reads all of it.
    pub fn read(&self, input: &[u8]) -> Result<()> {
        let (length, rest) = input.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (manifest, shard) = rest.split_at(length);
        std::fs::write(self.folder.join(MANIFEST), manifest).unwrap();
        std::fs::write(self.folder.join(SHARD), shard).unwrap();
        let file = TeacherFile::open(&self.folder)?;
        let _ = format!("{file:?}");
        let ids: Vec<u64> = file.ids().collect();
        assert_eq!(ids.len(), file.len());
        file.check_ids(ids.iter().copied())?;
        for id in &ids {
            file.read(&[*id])?;
        }
        file.read(&ids)?;
        file.verify()
    }
}
