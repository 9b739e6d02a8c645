//! Opening files that are not trusted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// The most that is read of a text file. No configuration is larger, and a stranger's file
/// may be endless.
const MAX_TEXT: u64 = 16 << 20;

/// Opens an ordinary file. Opening a pipe would wait for a writer for ever, and a
/// device never ends.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        let reason = "is a pipe or a device; give an ordinary file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    File::open(path)
}

/// Reads a configuration file of at most 16 MiB.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let failed = |source| Error::io(path, source);
    let mut text = String::new();
    let file = open_regular(path).map_err(failed)?;
    let read = file.take(MAX_TEXT + 1).read_to_string(&mut text);
    if read.map_err(failed)? as u64 > MAX_TEXT {
        let reason = format!("is larger than {MAX_TEXT} bytes, so it is no configuration");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_have_16_mib_and_no_byte_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, vec![b' '; MAX_TEXT as usize]).unwrap();
        assert_eq!(read_text(&path).unwrap().len() as u64, MAX_TEXT);
        std::fs::write(&path, vec![b' '; MAX_TEXT as usize + 1]).unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.contains("is larger than 16777216 bytes"), "{error}");
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
