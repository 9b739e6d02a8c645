//! An open safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Kind, Tensor};

use super::dtype::to_kind;
use super::header;
use crate::error::{Context, Error, Result, shown};
use crate::files::{ENOUGH, instead_of_binary, open_regular};
use crate::scalar::ScalarOps;

/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// An open safetensors file. Its header was read and checked; a tensor is read when it is asked for,
/// so that a part of a large file takes little memory.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::weights::{self, WeightsFile};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let ones = |size: i64| Tensor::f_ones([size], (tch::Kind::Float, tch::Device::Cpu));
/// let tensors = [("bert.embeddings.weight", ones(4)?), ("bert.pooler.bias", ones(2)?), ("head", ones(3)?)];
/// weights::save(&path, &tensors, &Default::default())?;
///
/// let mut file = WeightsFile::open(&path)?;
/// assert_eq!(file.tensor("head")?.size(), [3]);
/// let of_bert = file.names().into_iter().filter(|name| name.starts_with("bert."));
/// let of_bert = of_bert.map(|name| file.tensor(&name)).collect::<textbrewer::Result<Vec<_>>>()?;
/// assert_eq!(of_bert.len(), 2);
/// // A name that the file has under a prefix is found out.
/// let error = file.tensor("pooler.bias").unwrap_err().to_string();
/// assert!(error.ends_with("has no tensor `pooler.bias`, but `bert.pooler.bias`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: BufReader<File>,
    header: Metadata,
    /// Where the bytes of the first tensor are.
    start: u64,
}

/// A tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) size: Vec<i64>,
    pub(super) kind: Kind,
}

impl WeightsFile {
    /// Reads the header, and checks that the file is exactly as long as it says.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened, [`Error::WeightsFile`] when it is cut short or is
    /// no safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let damaged = |reason: String| damaged(path, reason);
        let failed = |source| Error::io(path, source);
        if path.is_dir() {
            let reason = "is a folder; give the path of a safetensors file in it";
            return Err(damaged(reason.to_owned()));
        }
        let file = open_regular(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 16, file);
        if length < 8 {
            return Err(damaged(format!(
                "is not a safetensors file: {length} bytes are too few for a header"
            )));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(failed)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER {
            // Only looked at here: the length of a valid header may begin with the same bytes.
            let mut start = prefix.to_vec();
            let rest = Read::by_ref(&mut file).take(ENOUGH as u64);
            { rest }.read_to_end(&mut start).map_err(failed)?;
            if let Some(instead) = instead_of_binary(&start, "a safetensors file") {
                return Err(damaged(format!("is {instead}")));
            }
            return Err(damaged(format!(
                "is not a safetensors file: its header would be {header_length} bytes long, \
                 more than the {MAX_HEADER} allowed"
            )));
        }
        if header_length > length - 8 {
            return Err(damaged(format!(
                "is cut short: the header needs {header_length} bytes, {} are there",
                length - 8
            )));
        }
        let mut bytes = vec![0; header_length as usize];
        file.read_exact(&mut bytes).map_err(failed)?;
        let header = header::parse(&bytes)
            .map_err(|reason| damaged(format!("has a damaged header: {reason}")))?;
        let (needed, there) = (header.data_len() as u64, length - 8 - header_length);
        if needed > there {
            return Err(damaged(format!(
                "is cut short: its tensors need {needed} bytes, {there} are there"
            )));
        }
        if needed < there {
            return Err(damaged(format!(
                "is damaged: {} bytes follow the last tensor",
                there - needed
            )));
        }
        Ok(WeightsFile {
            path: path.to_path_buf(),
            file,
            header,
            start: 8 + header_length,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The header's free text, such as `{"format": "pt"}`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let text = self.header.metadata().clone().unwrap_or_default();
        text.into_iter().collect()
    }

    /// The kind and shape of a tensor.
    pub(crate) fn description_of(&self, name: &str) -> Result<(Kind, Vec<i64>)> {
        let info = self.header.info(name).ok_or_else(|| self.has_no(name))?;
        let Described { size, kind } = self.describe(name, info)?;
        Ok((kind, size))
    }

    /// Where in the file the bytes of a tensor begin and end, if there is one of this name.
    pub(crate) fn bytes_of(&self, name: &str) -> Option<std::ops::Range<u64>> {
        let (begin, end) = self.header.info(name)?.data_offsets;
        Some(self.start + begin as u64..self.start + end as u64)
    }

    /// How many elements all tensors have together.
    pub(crate) fn numbers(&self) -> u128 {
        let of = |info: &TensorInfo| -> u128 {
            // The header was checked: the product fits.
            info.shape.iter().map(|&size| size as u128).product()
        };
        self.header.tensors().into_values().map(of).sum()
    }

    /// Every tensor as the header describes it.
    pub(super) fn described(&self) -> Result<BTreeMap<String, Described>> {
        let described = self.header.tensors().into_iter().map(|(name, info)| {
            let described = self.describe(&name, info)?;
            Ok((name, described))
        });
        described.collect()
    }

    fn describe(&self, name: &str, info: &TensorInfo) -> Result<Described> {
        let refused = |reason: String| {
            let reason = format!("tensor `{}` has {reason}", shown(name));
            damaged(&self.path, reason)
        };
        let kind = to_kind(info.dtype).ok_or_else(|| {
            refused(format!(
                "dtype {}, which libtorch does not have here",
                info.dtype
            ))
        })?;
        let size = info.shape.iter().map(|&size| i64::try_from(size));
        let size = size.collect::<std::result::Result<_, _>>();
        let size = size.map_err(|_| refused("an impossible shape".to_owned()))?;
        Ok(Described { size, kind })
    }

    fn has_no(&self, name: &str) -> Error {
        let is_end = |long: &str, short: &str| {
            let prefix = long.strip_suffix(short);
            prefix.is_some_and(|prefix| prefix.ends_with('.'))
        };
        let names = self.names();
        let mut similar = names
            .iter()
            .filter(|other| is_end(other, name) || is_end(name, other));
        let instead = match similar.next() {
            Some(other) => format!(", but `{}`", shown(other)),
            None => format!("; `WeightsFile::names` lists its {} tensors", names.len()),
        };
        damaged(
            &self.path,
            format!("has no tensor `{}`{instead}", shown(name)),
        )
    }

    /// Reads one tensor, onto the CPU.
    ///
    /// # Errors
    /// [`Error::WeightsFile`] when there is no tensor of this name, libtorch lacks its element type, or
    /// the memory does not suffice; [`Error::Io`] when the file cannot be read.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor> {
        // The header was checked: the byte count fits the shape and lies inside the file.
        let info = self.header.info(name).ok_or_else(|| self.has_no(name))?;
        let (begin, end) = info.data_offsets;
        let Described { size, kind } = self.describe(name, info)?;
        let failed = |source| Error::io(&self.path, source);
        let mut bytes = Vec::new();
        let length = end.saturating_sub(begin);
        // `vec!` would abort the process when there is not enough memory.
        bytes.try_reserve_exact(length).map_err(|_| {
            let reason = format!("no memory for the {length} bytes of `{}`", shown(name));
            damaged(&self.path, reason)
        })?;
        let position = self.start.saturating_add(begin as u64);
        // Seeking discards the buffer; tensors read in the order of their bytes need none.
        if self.file.stream_position().map_err(failed)? != position {
            self.file.seek(SeekFrom::Start(position)).map_err(failed)?;
        }
        let mut part = Read::by_ref(&mut self.file).take(length as u64);
        if part.read_to_end(&mut bytes).map_err(failed)? < length {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let convert = || match kind {
            // Any byte but 0 is true; libtorch expects only 0 and 1 in memory.
            Kind::Bool => Tensor::f_from_data_size(&bytes, &size, Kind::Uint8)?.is_not(0i64),
            kind => Tensor::f_from_data_size(&bytes, &size, kind),
        };
        convert().context(|| format!("{}: tensor `{}`", self.path.display(), shown(name)))
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::WeightsFile {
        path: path.to_path_buf(),
        reason,
    }
}
