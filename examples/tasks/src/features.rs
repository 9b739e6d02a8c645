//! Features of records, made once and cached on disk.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{self, hex};
use crate::pieces::Pieces;
use crate::task::Task;
use crate::terminal::bar;
use crate::{Error, Result};

/// To be increased whenever the same inputs would give other features.
const VERSION: u32 = 4;

/// The features of records, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Features<F> {
    /// The features of all records.
    pub features: Vec<F>,
    /// The record of each feature.
    pub records: Vec<usize>,
}

impl<F> Features<F> {
    /// The positions of each record's features.
    pub fn of_records(&self, records: usize) -> Vec<Vec<usize>> {
        let mut positions = vec![Vec::new(); records];
        for (position, record) in self.records.iter().enumerate() {
            if let Some(positions) = positions.get_mut(*record) {
                positions.push(position);
            }
        }
        positions
    }
}

/// A cache of the features of one data file.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Everything that the features depend on.
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Line<F> {
    record: usize,
    feature: F,
}

impl Cache {
    /// A cache in `folder` for the features of one data file with one tokenizer. `settings` is
    /// everything else that they depend on.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn new(folder: &Path, file: &Path, pieces: &Pieces, settings: &str) -> Result<Self> {
        let mut key = format!("features {VERSION}\n{settings}\n");
        for path in std::iter::once(file.to_path_buf()).chain(pieces.sources()) {
            if !path.exists() && path != file {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            key.push_str(&format!("{name} {}\n", disk::hash(&path)?));
        }
        Ok(Cache {
            folder: folder.to_path_buf(),
            key,
        })
    }

    /// The file of these features.
    pub fn file(&self) -> PathBuf {
        let name = hex(&Sha256::digest(&self.key));
        self.folder.join(format!("{}.jsonl", &name[..32]))
    }

    /// Reads the cached features; `None` when there are none. A damaged file is replaced, with a
    /// warning.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn load<F: serde::de::DeserializeOwned>(
        &self,
        records: usize,
    ) -> Result<Option<Features<F>>> {
        let path = self.file();
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
        };
        let mut features = Features {
            features: Vec::new(),
            records: Vec::new(),
        };
        let mut lines = BufReader::new(file).lines();
        let announced = lines.next().and_then(std::result::Result::ok);
        let mut sum = Sha256::new();
        for line in lines.map_while(std::result::Result::ok) {
            sum.update(&line);
            match serde_json::from_str::<Line<F>>(&line).ok() {
                Some(line) if line.record < records => {
                    features.records.push(line.record);
                    features.features.push(line.feature);
                }
                _ => break,
            }
        }
        if announced == Some(hex(&sum.finalize())) {
            return Ok(Some(features));
        }
        log::warn!(
            "{}: damaged; the features are computed again",
            path.display()
        );
        Ok(None)
    }

    /// Writes features to the cache. A failure is only a warning. Several processes may do so at once:
    /// the file is there as a whole or not at all, and what they write is the same.
    pub fn store<F: Serialize>(&self, features: &Features<F>) {
        let path = self.file();
        let write = || -> Result<()> {
            let (mut text, mut sum) = (String::new(), Sha256::new());
            for (record, feature) in features.records.iter().zip(&features.features) {
                let line = serde_json::to_string(&Line {
                    record: *record,
                    feature,
                });
                let line = line.map_err(|error| Error::file(&path, error.to_string()))?;
                sum.update(&line);
                text.push_str(&line);
                text.push('\n');
            }
            text.insert_str(0, &format!("{}\n", hex(&sum.finalize())));
            disk::write(&path, text.as_bytes())
        };
        if let Err(error) = write() {
            log::warn!("features are not kept: {error}");
        }
    }
}

/// Makes the features of records, or reads them from the cache.
///
/// # Errors
/// When the tokenizer fails.
pub fn features<T: Task>(
    task: &T,
    records: &[T::Record],
    pieces: &Pieces,
    cache: Option<&Cache>,
) -> Result<Features<T::Feature>> {
    if let Some(cache) = cache
        && let Some(features) = cache.load(records.len())?
    {
        return Ok(features);
    }
    let bar = bar(records.len());
    let mut features = Features {
        features: Vec::new(),
        records: Vec::new(),
    };
    for (index, record) in records.iter().enumerate() {
        let made = task.features(pieces, record)?;
        features.records.extend(made.iter().map(|_| index));
        features.features.extend(made);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(cache) = cache {
        cache.store(&features);
    }
    Ok(features)
}
