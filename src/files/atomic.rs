//! Replacing files atomically.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a temporary file in the same folder and renames it to `path`: after a crash or an
/// error at any moment the file is the complete old one or the complete new one.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".tmp");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file,
        // as far as the umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary = builder
        .tempfile_in(folder)
        .map_err(|source| Error::io(path, source))?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file());
    write(&mut writer)?;
    writer.flush().map_err(|source| Error::io(path, source))?;
    drop(writer);
    // Renaming a file whose bytes are still in the cache can leave an empty one after a
    // power cut.
    temporary
        .as_file()
        .sync_all()
        .map_err(|source| Error::io(path, source))?;
    temporary
        .persist(path)
        .map_err(|failed| Error::io(path, failed.error))?;
    // The rename itself is durable once the folder is on disk. Not every file system
    // lets a folder be synchronised, and the file is complete either way.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        write_atomically(&path, |file| {
            file.write_all(b"old")
                .map_err(|source| Error::io(&path, source))
        })
        .unwrap();
        let failed = write_atomically(&path, |file| {
            file.write_all(b"ne")
                .map_err(|source| Error::io(&path, source))?;
            Err(Error::other("half way"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "half way");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("model.safetensors");
        let error = write_atomically(&path, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
