//! Opening files that are not trusted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::instead;
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
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(failed)?;
    let read = file.take(MAX_TEXT + 1).read_to_end(&mut bytes);
    let refused = |reason: String| failed(io::Error::new(io::ErrorKind::InvalidData, reason));
    if read.map_err(failed)? as u64 > MAX_TEXT {
        let reason = format!("is larger than {MAX_TEXT} bytes, so it is no configuration");
        return Err(refused(reason));
    }
    if let Some(instead) = instead(&bytes, "a configuration") {
        return Err(refused(format!("is {instead}")));
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| refused("is not text in UTF-8, as JSON is".to_owned()))
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
    fn a_text_that_is_something_else_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for (content, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\n"[..],
                "is a pointer of Git LFS",
            ),
            (
                b"<!DOCTYPE html>",
                "is text (a web page) and not a configuration",
            ),
            (b"\x80\x02}q", "is a PyTorch pickle, not a configuration"),
            (b"\xff\xfe{\0}\0", "is not text in UTF-8, as JSON is"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_text(&path).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{}: {expected}", path.display())),
                "{error}"
            );
        }
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
