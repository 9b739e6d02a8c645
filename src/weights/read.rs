//! Reading safetensors files.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;

use super::WeightsFile;
use crate::error::Result;

/// Reads every tensor of a safetensors file, onto the CPU. [`WeightsFile`] reads some of them.
///
/// The header is not trusted: sizes are checked against the size of the file before memory is
/// allocated, so no more is allocated than the file holds.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be opened,
/// [`Error::WeightsFile`](crate::Error::WeightsFile) when it is cut short, is no safetensors
/// file, or has an element type that libtorch lacks.
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
    let mut file = WeightsFile::open(path.as_ref())?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        let tensor = file.tensor(&name)?;
        tensors.insert(name, tensor);
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
    Ok(WeightsFile::open(path.as_ref())?.metadata())
}
