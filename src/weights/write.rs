//! Writing safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use tch::{Device, Tensor};

use super::dtype::to_dtype;
use super::header::METADATA;
use crate::error::{Context, Error, Result};
use crate::files::write_atomically;

/// Writes tensors to a safetensors file atomically.
///
/// The bytes are written to a temporary file in the same folder and flushed to the disk; then
/// it is renamed. An interrupted run leaves the earlier file as it was. Tensors may be on any
/// device and have any strides; they are copied to the CPU one at a time. The same tensors
/// always give the same bytes.
///
/// `metadata` is free text; `transformers` expects `{"format": "pt"}` in it.
///
/// ```
/// use std::collections::BTreeMap;
/// use tch::Tensor;
/// use textbrewer::weights;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let bias = Tensor::from_slice(&[1f32, 2.0]);
/// let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
/// weights::save(&path, &[("bias", &bias)], &metadata)?;
/// assert_eq!(weights::read(&path)?["bias"], bias);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; [`Error::WeightsFile`] when two tensors have
/// the same name, or an element type is not one of safetensors.
pub fn save<N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: &[(N, impl std::borrow::Borrow<Tensor>)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    write_atomically(path, |file| write_to(path, file, tensors, metadata))
}

/// Writes the bytes of a safetensors file; `path` is what errors name.
pub(crate) fn write_to<N: AsRef<str>>(
    path: &Path,
    file: &mut (impl Write + ?Sized),
    tensors: &[(N, impl std::borrow::Borrow<Tensor>)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        entries.push(Entry::new(path, name.as_ref(), tensor.borrow())?);
    }
    // Large elements first keeps every tensor aligned to its element's size.
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(b.name)));
    let header = header(path, &entries, metadata)?;
    let failed = |source| Error::io(path, source);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for entry in &entries {
        file.write_all(&entry.bytes()?).map_err(failed)?;
    }
    Ok(())
}

struct Entry<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Entry<'a> {
    fn new(path: &Path, name: &'a str, tensor: &'a Tensor) -> Result<Self> {
        if name == METADATA {
            return Err(refused(path, format!("no tensor can be named `{name}`")));
        }
        let kind = tensor.f_kind().context(|| format!("saving `{name}`"))?;
        let dtype = to_dtype(kind).ok_or_else(|| {
            let reason =
                format!("`{name}` has elements of {kind:?}, which safetensors cannot hold");
            refused(path, reason)
        })?;
        let sizes = tensor.size();
        Ok(Entry {
            name,
            tensor,
            dtype,
            shape: sizes.iter().map(|n| n.unsigned_abs() as usize).collect(),
        })
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn length(&self) -> usize {
        self.elements() * self.dtype.bitsize() / 8
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()];
        let mut copy = || {
            let tensor = self.tensor.f_detach()?.f_to_device(Device::Cpu)?;
            // Conjugation and negation may be pending flags of the tensor that its bytes do not
            // show.
            let tensor = tensor.f_resolve_conj()?.f_resolve_neg()?.f_contiguous()?;
            tensor.f_copy_data_u8(&mut bytes, self.elements())
        };
        copy().context(|| format!("saving `{}`", self.name))?;
        Ok(bytes)
    }
}

fn header(
    path: &Path,
    entries: &[Entry<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let unwritable =
        |source: serde_json::Error| refused(path, format!("header cannot be written: {source}"));
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let metadata = serde_json::to_value(metadata).map_err(unwritable)?;
        header.insert(METADATA.to_owned(), metadata);
    }
    let mut seen = BTreeSet::new();
    let mut offset = 0;
    for entry in entries {
        if !seen.insert(entry.name) {
            let reason = format!("two tensors are named `{}`", entry.name);
            return Err(refused(path, reason));
        }
        let end = offset + entry.length();
        let info = TensorInfo {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            data_offsets: (offset, end),
        };
        let info = serde_json::to_value(info).map_err(unwritable)?;
        header.insert(entry.name.to_owned(), info);
        offset = end;
    }
    let mut bytes = serde_json::to_vec(&header).map_err(unwritable)?;
    // The data begins at a multiple of eight bytes.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn refused(path: &Path, reason: String) -> Error {
    Error::WeightsFile {
        path: path.to_path_buf(),
        reason,
    }
}
