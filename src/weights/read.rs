//! Tensors out of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Kind, Tensor};

use super::dtype::to_kind;
use crate::error::Context;
use crate::scalar::ScalarOps;
use crate::{Error, Result};

/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// More dimensions than libtorch's operations can handle.
const MAX_DIMENSIONS: usize = 64;

/// Reads every tensor of a safetensors file, onto the CPU.
///
/// The header is not trusted: sizes are checked against the file before memory is
/// asked for.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened, [`Error::WeightsFile`] when it is cut
/// short, is no safetensors file, or has an element type that libtorch lacks.
///
/// ```
/// use tch::Tensor;
/// use textbrewer::weights;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// weights::save(&path, &[("bias", Tensor::from_slice(&[1f32, 2.0]))], &Default::default())?;
/// let tensors = weights::read(&path)?;
/// assert_eq!(tensors["bias"].size(), [2]);
/// assert!(weights::read(folder.path()).unwrap_err().to_string().contains("is a folder"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let mut opened = Opened::new(path)?;
    let metadata = &opened.metadata;
    let mut tensors = BTreeMap::new();
    // The header was checked: the tensors lie one after the other, without gaps.
    for name in metadata.offset_keys() {
        if let Some(info) = metadata.info(&name) {
            let tensor = read_tensor(path, &mut opened.file, &name, info)?;
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// Reads only the free text in a safetensors file's header, such as `{"format": "pt"}`.
///
/// # Errors
/// As [`read`].
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use textbrewer::weights;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
/// weights::save(&path, &[("bias", Tensor::from_slice(&[1f32, 2.0]))], &metadata)?;
/// assert_eq!(weights::read_metadata(&path)?, metadata);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_metadata(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>> {
    let opened = Opened::new(path.as_ref())?;
    let metadata = opened.metadata.metadata().clone().unwrap_or_default();
    Ok(metadata.into_iter().collect())
}

struct Opened {
    file: BufReader<File>,
    metadata: Metadata,
}

impl Opened {
    /// Reads the header, and checks that the file is exactly as long as it says.
    fn new(path: &Path) -> Result<Self> {
        let damaged = |reason: String| damaged(path, reason);
        let failed = |source| Error::io(path, source);
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            let reason = "is a folder; give the path of a safetensors file in it";
            return Err(damaged(reason.to_owned()));
        }
        let length = about.len();
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
            // Only here: the length of a good header may begin with the same bytes.
            if prefix.starts_with(b"PK") || prefix.starts_with(&[0x80, 2]) {
                return Err(damaged(
                    "is a PyTorch pickle, not a safetensors file; convert it with Python's \
                     safetensors.torch.save_file"
                        .to_owned(),
                ));
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
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("has a damaged header: {error}")))?;
        let (needed, there) = (metadata.data_len() as u64, length - 8 - header_length);
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
        Ok(Opened { file, metadata })
    }
}

/// `info` was checked: its byte count fits its shape and lies inside the file.
fn read_tensor(
    path: &Path,
    file: &mut BufReader<File>,
    name: &str,
    info: &TensorInfo,
) -> Result<Tensor> {
    let kind = to_kind(info.dtype).ok_or_else(|| {
        let reason = format!(
            "tensor `{name}` has dtype {}, which libtorch does not have here",
            info.dtype
        );
        damaged(path, reason)
    })?;
    let impossible = || {
        let reason = format!("tensor `{name}` has an impossible shape");
        damaged(path, reason)
    };
    if info.shape.len() > MAX_DIMENSIONS {
        return Err(impossible());
    }
    let sizes: std::result::Result<Vec<i64>, _> =
        info.shape.iter().map(|&n| i64::try_from(n)).collect();
    let sizes = sizes.map_err(|_| impossible())?;
    let (begin, end) = info.data_offsets;
    let mut bytes = vec![0; end.saturating_sub(begin)];
    file.read_exact(&mut bytes)
        .map_err(|source| Error::io(path, source))?;
    let convert = || match kind {
        // Any byte but 0 is true; libtorch expects only 0 and 1 in memory.
        Kind::Bool => Tensor::f_from_data_size(&bytes, &sizes, Kind::Uint8)?.is_not(0i64),
        kind => Tensor::f_from_data_size(&bytes, &sizes, kind),
    };
    convert().context(|| format!("{}: tensor `{name}`", path.display()))
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::WeightsFile {
        path: path.to_path_buf(),
        reason,
    }
}
