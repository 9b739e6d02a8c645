//! Hashes of what a teacher's outputs were made from.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::Device;
use tch::nn::VarStore;

use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::weights::state_dict;

/// A hash of all variables: names, shapes, kinds and numbers (SHA-256). Two models of one have the
/// same weights.
///
/// ```
/// use tch::{Device, nn};
/// use textbrewer::teacher_file::hash_of_variables;
///
/// let variables = nn::VarStore::new(Device::Cpu);
/// let before = hash_of_variables(&variables)?;
/// variables.root().zeros("bias", &[2]);
/// assert_ne!(hash_of_variables(&variables)?, before);
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// When a variable cannot be copied to main memory.
pub fn hash_of_variables(variables: &VarStore) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in state_dict(variables) {
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_contiguous()?;
        let kind = tensor.f_kind()?;
        hash.update(format!("{name:?} {kind:?} {:?}\n", tensor.size()));
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hash.update(&bytes);
    }
    Ok(shown(hash))
}

/// A hash of a file's bytes (SHA-256), as `sha256sum` prints it.
///
/// ```
/// use textbrewer::teacher_file::hash_of_file;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("vocab.txt");
/// std::fs::write(&path, "abc")?;
/// assert!(hash_of_file(&path)?.starts_with("ba7816bf"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When it cannot be read.
pub fn hash_of_file(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let failed = |source| Error::io(path, source);
    let mut file = open_regular(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(shown(hash)),
            count => hash.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

fn shown(hash: Sha256) -> String {
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
