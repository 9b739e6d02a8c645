//! Logits or embeddings in an array of NumPy.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::super::column::{Form, Stored};
use super::super::keep::{Keep, Layers};
use super::super::{Recording, TeacherFile, wrong};
use super::class_scores::TOLERANCE;
use super::npy::Npy;
use super::source;
use crate::adaptor::AdaptorOutput;
use crate::error::{Error, Result, shown};
use crate::logging::warn;

/// A `.npy` file with one row of numbers for each example: logits `[examples, classes]` or embeddings
/// `[examples, size]`, in float16, float32 or float64. [`record`](Self::record) makes a teacher of it.
///
/// The rows are those of the examples 0, 1, 2 …, unless [`ids`](Self::ids) or another file
/// ([`ids_file`](Self::ids_file)) say otherwise.
///
/// ```no_run
/// use textbrewer::TeacherFile;
/// use textbrewer::teacher_file::{NpyRows, Recording, Stored};
///
/// let file = NpyRows::feature("embeddings.npy", "pooled")
///     .ids_file("ids.npy")
///     .record(Recording::new("teacher").feature("pooled", [0], Stored::BFloat16))?;
/// # textbrewer::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct NpyRows {
    path: PathBuf,
    /// None for logits.
    feature: Option<String>,
    ids: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Positions,
    Given(Vec<u64>),
    File(PathBuf),
}

/// About how many numbers are read at a time.
const AT_ONCE: u64 = 1 << 20;

impl NpyRows {
    /// A file of logits `[examples, classes]`. Of probabilities save the logarithms, `numpy.log(p)`: if
    /// all rows look like probabilities, there is a warning.
    pub fn logits(path: impl AsRef<Path>) -> Self {
        NpyRows {
            path: path.as_ref().to_path_buf(),
            feature: None,
            ids: Source::Positions,
        }
    }

    /// A file of embeddings `[examples, size]`, which become the only layer of the feature of this name.
    pub fn feature(path: impl AsRef<Path>, name: impl Into<String>) -> Self {
        NpyRows {
            feature: Some(name.into()),
            ..Self::logits(path)
        }
    }

    /// Says the ids of the rows' examples.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.ids = Source::Given(ids.into_iter().collect());
        self
    }

    /// Says that the ids of the rows' examples are in a `.npy` file of whole numbers `[examples]`.
    #[must_use]
    pub fn ids_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ids = Source::File(path.as_ref().to_path_buf());
        self
    }

    /// Reads the file and records it. Unless `recording` keeps something else, numbers are kept as
    /// exactly as they are, but float64 as float32. Of the file a few megabytes at a time are in memory.
    ///
    /// # Errors
    /// When a file cannot be read, is no such array or is cut short; when it has NaN or infinity, but
    /// for logits of −∞; when there are not as many ids as rows, or an id comes twice. Those of
    /// [`Recording::begin`].
    pub fn record(self, recording: Recording) -> Result<TeacherFile> {
        let mut npy = Npy::open(&self.path)?;
        let (kind, stored) = match npy.kind.as_str() {
            "<f2" => (Kind::Half, Stored::Float16),
            "<f4" => (Kind::Float, Stored::Float32),
            "<f8" => (Kind::Double, Stored::Float32),
            other => {
                let reason = format!(
                    "has numbers of the kind `{}`; save `array.astype('<f4')`",
                    shown(other)
                );
                return Err(wrong(&self.path, reason));
            }
        };
        let (rows, width) = match npy.shape[..] {
            [rows, width] if rows > 0 && width > 0 && i64::try_from(width).is_ok() => (rows, width),
            _ => {
                let reason = format!(
                    "has the shape {:?}, and [examples, size] is needed, with one row for each example",
                    npy.shape
                );
                return Err(wrong(&self.path, reason));
            }
        };
        let ids = self.ids_of(rows)?;
        let keep = match &self.feature {
            None => Keep::Logits {
                form: Form::Numbers { stored },
                seed: 0,
            },
            Some(name) => Keep::Feature(Layers {
                name: name.clone(),
                layers: vec![0],
                stored,
                is_attention: false,
            }),
        };
        let facts = source::facts(
            &self.path,
            &ids,
            self.feature.as_deref().unwrap_or_default(),
        )?;
        let mut recorder = recording.of_others(keep, facts).begin()?;
        let at_once = (AT_ONCE / width).max(1);
        let of_row = width as usize * kind.elt_size_in_bytes();
        let mut row = 0;
        let mut are_probabilities = self.feature.is_none() && width > 1;
        for ids in ids.chunks(at_once as usize) {
            let mut bytes = vec![0; ids.len() * of_row];
            npy.file
                .read_exact(&mut bytes)
                .map_err(|source| Error::io(&self.path, source))?;
            let size = [ids.len() as i64, width as i64];
            let numbers = Tensor::f_from_data_size(&bytes, &size, kind)?;
            self.check(&numbers, row)?;
            are_probabilities = are_probabilities && look_like_probabilities(&numbers)?;
            let said = AdaptorOutput::new();
            recorder.add(
                ids,
                &match &self.feature {
                    None => said.logits(numbers),
                    Some(name) => said.feature(name.clone(), &[numbers]),
                },
            )?;
            row += ids.len();
        }
        if are_probabilities {
            warn(format_args!(
                "`{}`: each row sums to 1, as probabilities do, and is read as logits; if these are \
                 probabilities, save `numpy.log(p)`",
                self.path.display()
            ));
        }
        recorder.finish()
    }

    /// Refuses numbers that teach nothing.
    fn check(&self, numbers: &Tensor, first: usize) -> Result<()> {
        let is_odd = match self.feature {
            None => numbers.f_isnan()?.f_logical_or(&numbers.f_isposinf()?)?,
            Some(_) => numbers.f_isfinite()?.f_logical_not()?,
        };
        let rows = is_odd.f_any_dim(1, false)?.f_to_kind(Kind::Int64)?;
        if i64::try_from(&rows.f_sum(Kind::Int64)?)? == 0 {
            return Ok(());
        }
        let row = first as i64 + i64::try_from(&rows.f_argmax(0, false)?)?;
        let reason =
            format!("has NaN or infinity in row {row}, counted from 0; take this example out");
        Err(wrong(&self.path, reason))
    }

    fn ids_of(&self, rows: u64) -> Result<Vec<u64>> {
        let (path, ids) = match &self.ids {
            Source::Positions => return Ok((0..rows).collect()),
            Source::Given(ids) => (&self.path, ids.clone()),
            Source::File(path) => (path, read_ids(path)?),
        };
        if ids.len() as u64 != rows {
            return Err(wrong(
                &self.path,
                format!("has {rows} rows, for {} ids", ids.len()),
            ));
        }
        let mut known = HashSet::with_capacity(ids.len());
        match ids.iter().position(|id| !known.insert(*id)) {
            None => Ok(ids),
            Some(row) => {
                let id = ids.get(row).copied().unwrap_or_default();
                let reason = format!("has the id {id} a second time for row {row}, counted from 0");
                Err(wrong(path, reason))
            }
        }
    }
}

fn look_like_probabilities(rows: &Tensor) -> Result<bool> {
    let rows = rows.f_to_kind(Kind::Double)?;
    let sums = rows.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
    let least = f64::try_from(&rows.f_min()?)?;
    let (low, high) = (
        f64::try_from(&sums.f_min()?)?,
        f64::try_from(&sums.f_max()?)?,
    );
    Ok(least >= 0.0 && low >= 1.0 - TOLERANCE && high <= 1.0 + TOLERANCE)
}

/// Whole numbers from 0.
fn read_ids(path: &Path) -> Result<Vec<u64>> {
    let mut npy = Npy::open(path)?;
    if !["<u8", "<i8"].contains(&npy.kind.as_str()) || npy.shape.len() != 1 {
        let reason = format!(
            "has an array {:?} of `{}` for ids; save `array.astype('<u8')`, with one number for each row",
            npy.shape,
            shown(&npy.kind)
        );
        return Err(wrong(path, reason));
    }
    let mut bytes = Vec::new();
    npy.file
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io(path, source))?;
    let (numbers, _) = bytes.as_chunks::<8>();
    let ids: Vec<u64> = numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    let is_signed = npy.kind == "<i8";
    match ids
        .iter()
        .position(|id| is_signed && i64::try_from(*id).is_err())
    {
        None => Ok(ids),
        Some(row) => {
            let reason = format!("has a negative id for row {row}; number the examples from 0");
            Err(wrong(path, reason))
        }
    }
}
