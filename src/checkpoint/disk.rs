//! File operations, each of which a test can make fail.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use log::Level;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::logging;

/// An operation on a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateFolder,
    CreateFile,
    Write,
    SyncFile,
    Link,
    Rename,
    SyncFolder,
    Remove,
}

/// Makes an operation fail before it is carried out.
type Fault = Box<dyn Fn(Operation, &Path) -> io::Result<()>>;

/// The file operations of which writing a checkpoint consists.
///
/// Each is logged at level `trace` under the target `textbrewer::checkpoint` before it is carried
/// out, so that a test can stop a process at every one of them.
#[derive(Default)]
pub(crate) struct Disk {
    fault: Option<Fault>,
    /// Whether nothing is written, as another process writes it.
    is_idle: bool,
    /// What is written: its remedies are named where an operation fails.
    content: Content,
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Content {
    #[default]
    Checkpoints,
    Recordings,
}

/// Size and checksum of a written file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) crc32: u32,
}

/// The most that is written or read at once.
const PIECE: usize = 1 << 15;

impl Disk {
    /// A disk on which operations fail as `fault` says.
    #[cfg(test)]
    pub(crate) fn failing(fault: impl Fn(Operation, &Path) -> io::Result<()> + 'static) -> Self {
        Disk {
            fault: Some(Box::new(fault)),
            ..Disk::default()
        }
    }

    /// A disk on which every operation is done at once, by doing nothing.
    pub(crate) fn idle() -> Self {
        Disk {
            is_idle: true,
            ..Disk::default()
        }
    }

    /// A disk for what a teacher says.
    pub(crate) fn for_recordings() -> Self {
        Disk {
            content: Content::Recordings,
            ..Disk::default()
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle
    }

    fn at(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let target = "textbrewer::checkpoint";
        logging::log(
            Level::Trace,
            target,
            format_args!("{operation:?} {}", path.display()),
        );
        match &self.fault {
            Some(fault) => fault(operation, path),
            None => Ok(()),
        }
    }

    /// Creates a folder and those above it, unless they exist.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        self.at(Operation::CreateFolder, path)
            .and_then(|()| fs::create_dir_all(path))
            .map_err(|error| self.failed(path, error))
    }

    /// Writes a new file and flushes it to the disk. An existing file of that name is removed
    /// first, and no link is followed.
    pub(crate) fn write(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Written> {
        if self.is_idle {
            return Ok(Written { bytes: 0, crc32: 0 });
        }
        self.remove(path)?;
        let file = self
            .at(Operation::CreateFile, path)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(path))
            .map_err(|error| self.failed(path, error))?;
        let checked = Checked {
            disk: self,
            path,
            file: &file,
            bytes: 0,
            crc: crc32fast::Hasher::new(),
        };
        let mut writer = BufWriter::with_capacity(PIECE, checked);
        write(&mut writer).map_err(|error| match error {
            Error::Io { source, .. } => self.failed(path, source),
            other => other,
        })?;
        let checked = writer
            .into_inner()
            .map_err(|error| self.failed(path, error.into_error()))?;
        let written = Written {
            bytes: checked.bytes,
            crc32: checked.crc.finalize(),
        };
        // Renaming a file whose bytes are still in the cache can leave an empty one after a
        // power cut.
        self.at(Operation::SyncFile, path)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.failed(path, error))?;
        Ok(written)
    }

    /// Writes a file under a temporary name and renames it: `path` is the old or the new file.
    pub(crate) fn replace(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Written> {
        let temporary = temporary(path);
        let written = self.write(&temporary, write).map_err(|error| match error {
            Error::Io { source, .. } => Error::io(path, source),
            other => other,
        });
        let moved = written.and_then(|written| {
            self.rename(&temporary, path)?;
            Ok(written)
        });
        if moved.is_err() {
            // What is left of it takes up room that the next one may need.
            let _ = fs::remove_file(&temporary);
        }
        moved
    }

    /// Makes `to` a hard link to a file, or a copy where the file system has no links.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        self.remove(to)?;
        let copy = || {
            fs::copy(from, to)?;
            File::open(to)?.sync_all()
        };
        self.at(Operation::Link, to)
            .and_then(|()| fs::hard_link(from, to).or_else(|_| copy()))
            .map_err(|error| self.failed(to, error))
    }

    /// Replaces `path` by a hard link to a file, atomically.
    pub(crate) fn replace_by_link(&self, from: &Path, path: &Path) -> Result<()> {
        let temporary = temporary(path);
        self.link(from, &temporary)?;
        self.rename(&temporary, path)?;
        // Renaming a link over another link to the same file leaves both.
        self.remove(&temporary)
    }

    /// Renames a file or folder within its folder, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        self.at(Operation::Rename, to)
            .and_then(|()| fs::rename(from, to))
            .map_err(|error| self.failed(to, error))?;
        match to.parent() {
            Some(folder) => self.sync_folder(folder),
            None => Ok(()),
        }
    }

    /// Flushes the names in a folder to the disk.
    pub(crate) fn sync_folder(&self, path: &Path) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        self.at(Operation::SyncFolder, path)
            .and_then(|()| sync_folder(path))
            .map_err(|error| self.failed(path, error))
    }

    /// Removes a file, a link, or a folder and what is in it, if it exists.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        let Ok(about) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        let remove = || match about.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        self.at(Operation::Remove, path)
            .and_then(|()| remove())
            .map_err(|error| self.failed(path, error))
    }
}

impl Disk {
    /// The system's reason, and what to do about it.
    fn failed(&self, path: &Path, source: io::Error) -> Error {
        let is_full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let remedy = match (is_full, self.content) {
            (true, Content::Checkpoints) => {
                "make room; earlier checkpoints are whole, and the run can be resumed"
            }
            (false, Content::Checkpoints) => "choose a folder that can be written (`output_dir`)",
            (true, Content::Recordings) => {
                "make room; what was written before is whole, and the recording goes on from there"
            }
            (false, Content::Recordings) => "choose a folder that can be written",
        };
        let reason = format!("{source}; {remedy}");
        Error::io(path, io::Error::new(source.kind(), reason))
    }
}

/// The temporary name under which a file is written.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    // Not every file system lets a folder be opened or synchronised.
    let Ok(folder) = File::open(path) else {
        return Ok(());
    };
    match folder.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Counts and checks what goes into a file.
struct Checked<'a> {
    disk: &'a Disk,
    path: &'a Path,
    file: &'a File,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Write for Checked<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let piece = buffer.get(..PIECE).unwrap_or(buffer);
        if let Err(error) = self.disk.at(Operation::Write, self.path) {
            // Like a full disk, which writes what it has room for.
            let half = piece.get(..piece.len() / 2).unwrap_or_default();
            let _ = self.file.write(half);
            return Err(error);
        }
        let count = self.file.write(piece)?;
        self.crc.update(piece.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Size and checksum of a file, in a fixed amount of memory.
pub(crate) fn examine(path: &Path) -> io::Result<Written> {
    let mut file = File::open(path)?;
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = 0;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        crc.update(piece.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    Ok(Written {
        bytes,
        crc32: crc.finalize(),
    })
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("fails", &self.fault.is_some())
            .finish()
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
