//! Reading, writing and removing files.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes a file atomically: readers see the old content or the new. Its folder is created if
/// needed.
///
/// # Errors
/// When the folder cannot be created or the file cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let failed = |error| Error::io(path, error);
    let mut file = temporary(folder).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Removes a file, if it is there.
///
/// # Errors
/// When it is there and stays.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
/// When it is there and stays.
pub fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// A hash of the content of a file.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let failed = |error| Error::io(path, error);
    let mut sum = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path).map_err(failed)?, &mut sum).map_err(failed)?;
    Ok(hex(&sum.finalize()))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Permissions of ordinary files, subject to the umask: temporary files are private.
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// The byte order mark, which some editors put before a text.
pub const MARK: char = '\u{feff}';

/// Reads a file as text, without a byte order mark.
///
/// # Errors
/// When it cannot be read, is what is often found in the place of another file, or is not UTF-8;
/// then the error names the line.
pub fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    if let Some(instead) = textbrewer::__instead(&bytes, "the file itself") {
        return Err(Error::file(path, format!("is {instead}")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes().iter().take(good);
        let line = 1 + bytes.filter(|byte| **byte == b'\n').count();
        Error::data(path, line, "not UTF-8; convert the file")
    })?;
    Ok(match text.strip_prefix(MARK) {
        Some(text) => text.to_owned(),
        None => text,
    })
}
