//! A shard in the making: what some examples have, in main memory until it is written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::column::{Column, Form, Layout, Stored};
use super::content::Content;
use crate::checkpoint::{Disk, Written};
use crate::error::{Error, Result};
use crate::weights;

/// The version of the format.
pub(super) const VERSION: u64 = 1;

/// The key of the description in the metadata of a shard.
pub(super) const KEY: &str = "teacher_file";

/// What a shard says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) version: u64,
    /// A checksum of the plan that it was recorded by.
    pub(super) plan: u32,
    pub(super) columns: Vec<Column>,
}

/// Examples that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Shard {
    ids: Vec<u64>,
    columns: Vec<Filled>,
}

#[derive(Debug, Default)]
struct Filled {
    bytes: Vec<u8>,
    positions: Vec<u32>,
    lengths: Vec<u32>,
    checksums: Vec<u32>,
}

impl Shard {
    pub(super) fn examples(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.bytes.len()).sum()
    }

    /// Adds the example at a place of a batch.
    pub(super) fn push(&mut self, id: u64, place: usize, contents: &[Content]) -> Result<()> {
        self.columns.resize_with(contents.len(), Filled::default);
        for (column, content) in self.columns.iter_mut().zip(contents) {
            let (positions, bytes) = content.of(place);
            let too_long = |_| Error::shape(format!("example {id}"), "less than 4 GiB", "more");
            column.checksums.push(checksum(id, positions, bytes));
            column
                .positions
                .push(u32::try_from(positions).map_err(too_long)?);
            column
                .lengths
                .push(u32::try_from(bytes.len()).map_err(too_long)?);
            column.bytes.extend_from_slice(bytes);
        }
        self.ids.push(id);
        Ok(())
    }

    /// Writes the shard: a safetensors file with a tensor for each column, `ids`, `checksums`
    /// `[examples, columns]`, and `NAME.positions` and `NAME.bytes` where these differ between examples.
    pub(super) fn write(
        &self,
        disk: &Disk,
        path: &Path,
        (columns, plan): (&[Column], u32),
    ) -> Result<Written> {
        let ids: Vec<i64> = self.ids.iter().map(|id| *id as i64).collect();
        let mut tensors = vec![("ids".to_owned(), Tensor::f_from_slice(&ids)?)];
        let count = self.ids.len() as i64;
        let mut checksums = Vec::new();
        for (column, filled) in columns.iter().zip(&self.columns) {
            let (kind, size) = shape(column, filled.bytes.len());
            let data = Tensor::f_from_data_size(&filled.bytes, &size, kind)?;
            tensors.push((column.name.clone(), data));
            if column.has_positions() {
                tensors.push((
                    format!("{}.positions", column.name),
                    integers(&filled.positions)?,
                ));
            }
            if column.example_bytes(0).is_none() {
                tensors.push((format!("{}.bytes", column.name), integers(&filled.lengths)?));
            }
            checksums.push(integers(&filled.checksums)?);
        }
        let checksums = Tensor::f_stack(&checksums, 1)?.f_reshape([count, -1])?;
        tensors.push(("checksums".to_owned(), checksums.f_contiguous()?));
        let description = Description {
            version: VERSION,
            plan,
            columns: columns.to_vec(),
        };
        let description = serde_json::to_string(&description);
        let description = description.map_err(|error| Error::other(error.to_string()))?;
        let metadata = BTreeMap::from([(KEY.to_owned(), description)]);
        let write =
            |file: &mut dyn std::io::Write| weights::write_to(path, file, &tensors, &metadata);
        disk.replace(path, write)
    }
}

/// 32 bits of an example's id, number of positions and bytes.
pub(super) fn checksum(id: u64, positions: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&positions.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The kind and shape of a column's tensor, so that others can read what is no code of this crate.
pub(super) fn shape(column: &Column, bytes: usize) -> (Kind, Vec<i64>) {
    let of_numbers = match column.form {
        Form::Numbers { stored } | Form::Probabilities { stored } => match stored {
            Stored::Float32 => Some((Kind::Float, 4)),
            Stored::BFloat16 => Some((Kind::BFloat16, 2)),
            Stored::Float16 => Some((Kind::Half, 2)),
            Stored::Int8 => None,
        },
        _ => None,
    };
    let (kind, size) = of_numbers.unwrap_or((Kind::Uint8, 1));
    let numbers = (bytes / size) as i64;
    let of_row = column
        .row_bytes()
        .filter(|_| !matches!(column.layout, Layout::Attention { .. }));
    match of_row {
        Some(of_row) => {
            let width = (of_row as i64 / size as i64).max(1);
            (kind, vec![numbers / width, width])
        }
        None => (kind, vec![numbers]),
    }
}

fn integers(numbers: &[u32]) -> Result<Tensor> {
    let numbers: Vec<i32> = numbers.iter().map(|number| *number as i32).collect();
    Ok(Tensor::f_from_slice(&numbers)?)
}
