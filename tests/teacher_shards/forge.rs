//! Shards and manifests that a stranger wrote: checksums are no secret, so they are right.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use std::path::Path;

use serde_json::{Map, Value, json};

/// A shard, taken apart.
#[derive(Debug, Clone)]
pub struct Forged {
    pub description: Value,
    pub tensors: Vec<Part>,
}

#[derive(Debug, Clone)]
pub struct Part {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Forged {
    pub fn read(path: &Path) -> Self {
        Forged::of(&std::fs::read(path).unwrap())
    }

    pub fn of(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (header, data) = bytes[8..].split_at(length);
        let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
        let description = header["__metadata__"]["teacher_file"].as_str().unwrap();
        let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
        let tensors = tensors.map(|(name, about)| {
            let offset = |place: usize| about["data_offsets"][place].as_u64().unwrap() as usize;
            let shape = about["shape"].as_array().unwrap().iter();
            Part {
                name: name.clone(),
                dtype: about["dtype"].as_str().unwrap().to_owned(),
                shape: shape.map(|size| size.as_u64().unwrap()).collect(),
                bytes: data[offset(0)..offset(1)].to_vec(),
            }
        });
        Forged {
            description: serde_json::from_str(description).unwrap(),
            tensors: tensors.collect(),
        }
    }

    pub fn part(&mut self, name: &str) -> &mut Part {
        let mut tensors = self.tensors.iter_mut();
        tensors.find(|part| part.name == name).unwrap()
    }

    /// Whole numbers of 32 bits, if there are some of this name.
    pub fn integers(&self, name: &str) -> Option<Vec<u32>> {
        let part = self.tensors.iter().find(|part| part.name == name)?;
        let numbers = part.bytes.chunks(4);
        Some(
            numbers
                .map(|number| u32::from_le_bytes(number.try_into().unwrap()))
                .collect(),
        )
    }

    pub fn set_integers(&mut self, name: &str, numbers: &[u32]) {
        self.part(name).bytes = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
    }

    pub fn ids(&self) -> Vec<u64> {
        let part = self.tensors.iter().find(|part| part.name == "ids").unwrap();
        let numbers = part.bytes.chunks(8);
        numbers
            .map(|number| u64::from_le_bytes(number.try_into().unwrap()))
            .collect()
    }

    pub fn set_ids(&mut self, ids: &[u64]) {
        self.part("ids").bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    }

    fn columns(&self) -> Vec<Value> {
        self.description["columns"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// How many bytes each example has in a column, where its positions or bytes say so.
    fn lengths(&self, column: &Value) -> Vec<usize> {
        let name = column["name"].as_str().unwrap_or_default();
        let ids = self.ids().len();
        let part = self.tensors.iter().find(|part| part.name == name);
        let all = part.map_or(0, |part| part.bytes.len());
        if let Some(lengths) = self.integers(&format!("{name}.bytes")) {
            return lengths.into_iter().map(|length| length as usize).collect();
        }
        let positions = self.integers(&format!("{name}.positions"));
        let positions = positions.unwrap_or_else(|| vec![1; ids]);
        let is_square = column["layout"].get("attention").is_some();
        let weights: Vec<u128> = positions
            .iter()
            .map(|&count| u128::from(count).pow(if is_square { 2 } else { 1 }))
            .collect();
        let sum: u128 = weights.iter().sum::<u128>().max(1);
        weights
            .iter()
            .map(|weight| (all as u128 * weight / sum) as usize)
            .collect()
    }

    /// Makes the checksums of all examples right.
    pub fn sign(&mut self) {
        let ids = self.ids();
        let columns = self.columns();
        let mut checksums = vec![0; ids.len() * columns.len()];
        if self.integers("checksums").map(|known| known.len()) != Some(checksums.len()) {
            return;
        }
        for (place, column) in columns.iter().enumerate() {
            let name = column["name"].as_str().unwrap_or_default();
            let positions = self.integers(&format!("{name}.positions"));
            let mut rest = match self.tensors.iter().find(|part| part.name == name) {
                Some(part) => &part.bytes[..],
                None => continue,
            };
            for (example, length) in self.lengths(column).into_iter().enumerate().take(ids.len()) {
                let (bytes, others) = rest.split_at(length.min(rest.len()));
                rest = others;
                let count = positions
                    .as_ref()
                    .map_or(1, |all| all.get(example).copied().unwrap_or(0));
                let mut hasher = crc32fast::Hasher::new();
                hasher.update(&ids[example].to_le_bytes());
                hasher.update(&u64::from(count).to_le_bytes());
                hasher.update(bytes);
                checksums[example * columns.len() + place] = hasher.finalize();
            }
        }
        self.set_integers("checksums", &checksums);
    }

    /// The checksum of the index, as the manifest has it.
    pub fn index_checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        self.ids()
            .iter()
            .for_each(|id| hasher.update(&id.to_le_bytes()));
        let checksums = self.integers("checksums").unwrap_or_default();
        checksums
            .iter()
            .for_each(|checksum| hasher.update(&checksum.to_le_bytes()));
        for column in self.columns() {
            let name = column["name"].as_str().unwrap_or_default();
            let positions = self.integers(&format!("{name}.positions"));
            let bytes = self.integers(&format!("{name}.bytes"));
            let differ = positions.is_some() || bytes.is_some();
            for count in positions.into_iter().flatten() {
                hasher.update(&count.to_le_bytes());
            }
            let mut end = 0u64;
            for length in self.lengths(&column).into_iter().filter(|_| differ) {
                end += length as u64;
                hasher.update(&end.to_le_bytes());
            }
        }
        hasher.finalize()
    }

    /// The header, up to the first byte of the data.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        let description = self.description.to_string();
        header.insert(
            "__metadata__".to_owned(),
            json!({ "teacher_file": description }),
        );
        let mut start = 0;
        for part in &self.tensors {
            let end = start + part.bytes.len();
            let about =
                json!({ "dtype": part.dtype, "shape": part.shape, "data_offsets": [start, end] });
            header.insert(part.name.clone(), about);
            start = end;
        }
        let text = Value::from(header).to_string();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.into_bytes());
        bytes
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        self.tensors
            .iter()
            .for_each(|part| bytes.extend(&part.bytes));
        bytes
    }
}

/// Makes a manifest list a shard as it is.
pub fn list(manifest: &mut Value, shard: &str, forged: &Forged) {
    let bytes = forged.bytes();
    let shards = manifest["shards"].as_array_mut().unwrap();
    let listed = shards
        .iter_mut()
        .find(|listed| listed["name"] == shard)
        .unwrap();
    listed["examples"] = forged.ids().len().into();
    listed["bytes"] = bytes.len().into();
    listed["crc32"] = crc32fast::hash(&bytes).into();
    listed["index_crc32"] = forged.index_checksum().into();
    let examples: u64 = shards
        .iter()
        .map(|listed| listed["examples"].as_u64().unwrap())
        .sum();
    manifest["examples"] = examples.into();
}

/// A manifest with the right checksum.
pub fn signed(mut manifest: Value) -> Vec<u8> {
    manifest["crc32"] = 0.into();
    manifest["crc32"] = crc32fast::hash(manifest.to_string().as_bytes()).into();
    manifest.to_string().into_bytes()
}

/// Changes a shard, and makes all checksums of it and of the manifest right.
pub fn forge(folder: &Path, shard: &str, change: impl FnOnce(&mut Forged)) {
    let path = folder.join(shard);
    let mut forged = Forged::read(&path);
    change(&mut forged);
    forged.sign();
    // Not into a file that has other names.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, forged.bytes()).unwrap();
    change_manifest(folder, |manifest| list(manifest, shard, &forged));
}

/// Changes a manifest, and makes its checksum right.
pub fn change_manifest(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(path, signed(manifest)).unwrap();
}

/// Changes what a column is said to be, everywhere.
pub fn change_column(folder: &Path, name: &str, change: impl Fn(&mut Value)) {
    let change_in = |columns: &mut Value| {
        let mut columns = columns.as_array_mut().unwrap().iter_mut();
        change(columns.find(|column| column["name"] == name).unwrap());
    };
    change_manifest(folder, |manifest| change_in(&mut manifest["columns"]));
    let path = folder.join("manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for listed in manifest["shards"].as_array().unwrap() {
        let name = listed["name"].as_str().unwrap();
        forge(folder, name, |forged| {
            change_in(&mut forged.description["columns"])
        });
    }
}
