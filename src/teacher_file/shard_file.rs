//! A shard that was written: safetensors, of which single examples are read.

use std::fs::File;
use std::path::{Path, PathBuf};

use tch::Kind;

use super::column::{Column, Form, bits};
use super::content::Content;
use super::read_at::read_at;
use super::shard::{Description, KEY, VERSION, checksum, shape};
use super::wrong;
use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::weights::WeightsFile;

/// What to do about a shard that is not as it was written.
pub(super) const REMEDY: &str =
    "remove this file and start the same recording again, which records what it had";

/// A shard whose index is in memory: a few bytes for each example, however long it is.
#[derive(Debug)]
pub(super) struct ShardFile {
    pub(super) path: PathBuf,
    pub(super) plan: u32,
    pub(super) columns: Vec<Column>,
    pub(super) ids: Vec<u64>,
    /// `[examples × columns]`
    checksums: Vec<u32>,
    places: Vec<Place>,
}

/// Where the bytes of a column are.
#[derive(Debug)]
struct Place {
    start: u64,
    /// How many positions each example has, where they differ.
    positions: Option<Vec<u32>>,
    /// Where the bytes of each example end, where they are not equally many.
    ends: Option<Vec<u64>>,
    /// The bytes of an example otherwise.
    of_each: u64,
}

impl ShardFile {
    /// Reads and checks the index.
    ///
    /// # Errors
    /// When the file is damaged or cut short, or its parts do not fit together.
    pub(super) fn open(path: &Path) -> Result<Self> {
        ShardFile::read_index(path).map_err(|error| match error {
            Error::WeightsFile { path, reason } | Error::TeacherFile { path, reason } => {
                wrong(&path, format!("{reason}; {REMEDY}"))
            }
            other => other,
        })
    }

    fn read_index(path: &Path) -> Result<Self> {
        let damaged = |reason: String| wrong(path, reason);
        let mut file = WeightsFile::open(path)?;
        let description = file.metadata().remove(KEY).ok_or_else(|| {
            damaged("is a safetensors file, but no part of a teacher file".to_owned())
        })?;
        let description: Description = serde_json::from_str(&description)
            .map_err(|error| damaged(format!("has a damaged description: {error}")))?;
        if description.version != VERSION {
            return Err(damaged(other_version(description.version)));
        }
        let columns = description.columns;
        for column in &columns {
            column
                .check()
                .map_err(|reason| damaged(format!("`{}` {reason}", column.name)))?;
        }
        let ids: Vec<u64> = integers(&mut file, "ids", Kind::Int64)?;
        let count = ids.len();
        let checksums: Vec<u64> = integers(&mut file, "checksums", Kind::Int)?;
        if Some(checksums.len()) != count.checked_mul(columns.len()) {
            let reason = format!(
                "has {} checksums for {count} examples in {} columns",
                checksums.len(),
                columns.len()
            );
            return Err(damaged(reason));
        }
        let places = columns
            .iter()
            .map(|column| Place::read(&mut file, column, count));
        Ok(ShardFile {
            places: places.collect::<Result<_>>()?,
            path: path.to_path_buf(),
            plan: description.plan,
            columns,
            ids,
            checksums: checksums.into_iter().map(|number| number as u32).collect(),
        })
    }

    pub(super) fn file(&self) -> Result<File> {
        open_regular(&self.path).map_err(|source| Error::io(&self.path, source))
    }

    /// Adds what it has of an example, counted from 0, in a column.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn read(
        &self,
        file: &File,
        (example, column): (usize, usize),
        into: &mut Content,
    ) -> Result<()> {
        let id = self.ids.get(example).copied().unwrap_or_default();
        let name = || self.columns.get(column).map_or("", |column| &column.name);
        let no_such = || wrong(&self.path, format!("has no example {example}"));
        let place = self.places.get(column).ok_or_else(no_such)?;
        let (start, end) = place.range(example).ok_or_else(no_such)?;
        let positions = place.positions_of(example).ok_or_else(no_such)?;
        // The index was checked: this is no more than the file has. `resize` alone would abort the
        // process when there is not enough memory.
        let length = (end - start) as usize;
        let before = into.bytes.len();
        into.bytes.try_reserve(length).map_err(|_| {
            let reason = format!("no memory for the {length} bytes of example {id}");
            wrong(&self.path, reason)
        })?;
        into.bytes.resize(before + length, 0);
        let bytes = into.bytes.get_mut(before..).unwrap_or_default();
        read_at(file, bytes, place.start + start)
            .map_err(|source| Error::io(&self.path, source))?;
        let written = self.checksums.get(example * self.columns.len() + column);
        if written != Some(&checksum(id, positions, bytes)) {
            let reason = format!(
                "example {id} is damaged: the checksum of `{}` is another; {REMEDY}",
                name()
            );
            return Err(wrong(&self.path, reason));
        }
        into.positions.push(positions);
        into.ends.push(into.bytes.len());
        Ok(())
    }

    /// Compares the checksums of all examples.
    pub(super) fn verify(&self) -> Result<()> {
        let file = self.file()?;
        for example in 0..self.ids.len() {
            for column in 0..self.columns.len() {
                self.read(&file, (example, column), &mut Content::default())?;
            }
        }
        Ok(())
    }

    /// 32 bits of the index, which has a checksum of each example: a manifest knows its shards by it.
    pub(super) fn index_checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let ids = self.ids.iter();
        ids.for_each(|id| hasher.update(&id.to_le_bytes()));
        let checksums = self.checksums.iter();
        checksums.for_each(|checksum| hasher.update(&checksum.to_le_bytes()));
        for place in &self.places {
            let positions = place.positions.iter().flatten();
            positions.for_each(|count| hasher.update(&count.to_le_bytes()));
            let ends = place.ends.iter().flatten();
            ends.for_each(|end| hasher.update(&end.to_le_bytes()));
        }
        hasher.finalize()
    }

    /// How many positions an example has in a column.
    pub(super) fn positions(&self, example: usize, column: usize) -> u64 {
        let place = self.places.get(column);
        place
            .and_then(|place| place.positions_of(example))
            .unwrap_or(0)
    }

    /// The error of an example whose bytes make no sense.
    pub(super) fn damaged(&self, example: usize, error: &Error) -> Error {
        let id = self.ids.get(example).copied().unwrap_or_default();
        wrong(&self.path, format!("example {id} is damaged: {error}"))
    }
}

impl Place {
    fn read(file: &mut WeightsFile, column: &Column, count: usize) -> Result<Self> {
        let path = file.path().to_path_buf();
        let name = &column.name;
        let damaged = |reason: String| wrong(&path, format!("`{name}` {reason}"));
        let of_each = |suffix: &str, file: &mut WeightsFile| -> Result<Vec<u64>> {
            let numbers: Vec<u64> = integers(file, &format!("{name}.{suffix}"), Kind::Int)?;
            match numbers.len() == count {
                true => Ok(numbers),
                false => Err(damaged(format!(
                    "has {suffix} of {} examples, not of {count}",
                    numbers.len()
                ))),
            }
        };
        let range = file
            .bytes_of(name)
            .ok_or_else(|| damaged("is missing".to_owned()))?;
        let there = range.end - range.start;
        let positions = match column.has_positions() {
            true => Some(of_each("positions", file)?),
            false => None,
        };
        let lengths: Option<Vec<u64>> = match (column.example_bytes(1), &positions) {
            (None, _) => Some(of_each("bytes", file)?),
            (Some(_), Some(positions)) => {
                let lengths = positions.iter().map(|&of_one| column.example_bytes(of_one));
                let lengths: Option<Vec<u64>> = lengths.collect();
                Some(lengths.ok_or_else(|| damaged("has impossible positions".to_owned()))?)
            }
            (Some(_), None) => None,
        };
        if let (Form::Sample { draws, .. }, Some(positions), Some(lengths)) =
            (&column.form, &positions, &lengths)
        {
            // Before as many positions take memory.
            let of_position = u64::from(bits(*draws));
            let mut pairs = positions.iter().zip(lengths);
            if !pairs.all(|(count, length)| count * of_position <= 8 * length) {
                return Err(damaged("has more positions than bytes for them".to_owned()));
            }
        }
        let of_each = column.example_bytes(1).unwrap_or(0);
        let mut end = 0u64;
        let ends = lengths.map(|lengths| {
            let sums = lengths.into_iter().map(|length| {
                end = end.checked_add(length)?;
                Some(end)
            });
            sums.collect::<Option<Vec<u64>>>()
        });
        let needed = match &ends {
            Some(ends) => ends.as_ref().map(|ends| ends.last().copied().unwrap_or(0)),
            None => of_each.checked_mul(count as u64),
        };
        if needed != Some(there) {
            return Err(damaged(format!(
                "has {there} bytes, and its examples need {}",
                needed.map_or("more than there can be".to_owned(), |needed| needed
                    .to_string())
            )));
        }
        let described = file.description_of(name)?;
        if described != shape(column, there as usize) {
            return Err(damaged(format!("has another shape than a {column}")));
        }
        let narrow = |numbers: Vec<u64>| numbers.into_iter().map(|number| number as u32).collect();
        Ok(Place {
            start: range.start,
            positions: positions.map(narrow),
            ends: ends.flatten(),
            of_each,
        })
    }

    fn range(&self, example: usize) -> Option<(u64, u64)> {
        match &self.ends {
            Some(ends) => {
                let before = example
                    .checked_sub(1)
                    .map_or(Some(0), |place| ends.get(place).copied());
                Some((before?, *ends.get(example)?))
            }
            None => {
                let start = self.of_each.checked_mul(example as u64)?;
                Some((start, start.checked_add(self.of_each)?))
            }
        }
    }

    fn positions_of(&self, example: usize) -> Option<u64> {
        match &self.positions {
            Some(positions) => positions.get(example).map(|&count| u64::from(count)),
            None => Some(1),
        }
    }
}

pub(super) fn other_version(version: u64) -> String {
    format!(
        "has version {version} of the format, and this program reads version {VERSION}; record it \
         again, or use the program's version that wrote it"
    )
}

/// Whole numbers of a tensor, without a sign.
fn integers(file: &mut WeightsFile, name: &str, kind: Kind) -> Result<Vec<u64>> {
    let path = file.path().to_path_buf();
    let tensor = file.tensor(name)?;
    if tensor.f_kind()? != kind {
        let reason = format!("`{name}` has numbers of another kind than {kind:?}");
        return Err(wrong(&path, reason));
    }
    let tensor = tensor.f_reshape([-1i64])?;
    Ok(match kind {
        Kind::Int64 => {
            let numbers = Vec::<i64>::try_from(&tensor)?;
            numbers.into_iter().map(|number| number as u64).collect()
        }
        _ => {
            let numbers = Vec::<i32>::try_from(&tensor)?;
            numbers
                .into_iter()
                .map(|number| u64::from(number as u32))
                .collect()
        }
    })
}
