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

/// A safetensors file whose header was read and checked, and whose tensors were not read.
#[derive(Debug)]
pub(crate) struct WeightsFile {
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
    pub(crate) fn open(path: &Path) -> Result<Self> {
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
    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The header's free text.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let text = self.header.metadata().clone().unwrap_or_default();
        text.into_iter().collect()
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

    /// Reads one tensor, onto the CPU. The header was checked: its byte count fits its shape
    /// and lies inside the file.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let info = self.header.info(name).ok_or_else(|| {
            let reason = format!("has no tensor `{}`", shown(name));
            damaged(&self.path, reason)
        })?;
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
