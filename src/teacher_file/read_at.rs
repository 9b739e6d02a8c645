//! Reading some bytes of a file, wherever they are.

use std::fs::File;
use std::io;

/// Fills `bytes` with what is at this place.
#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

/// Fills `bytes` with what is at this place.
#[cfg(not(unix))]
pub(super) fn read_at(mut file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    // Whoever reads opened the file for itself, so nobody else moves its place.
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(bytes)
}
