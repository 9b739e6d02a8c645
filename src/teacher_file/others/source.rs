//! What a file of a teacher was made from.

use std::path::Path;

use super::super::hash::hash_of_file;
use crate::error::Result;

/// Facts that tell a file, its ids and `how` it was read from others: a folder that was made from an
/// earlier version of the file is not taken for this one.
pub(super) fn facts(path: &Path, ids: &[u64], how: &str) -> Result<[(&'static str, String); 2]> {
    let mut hasher = crc32fast::Hasher::new();
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    hasher.update(how.as_bytes());
    let ids = format!("{} examples, checksum {:08x}", ids.len(), hasher.finalize());
    Ok([("source", hash_of_file(path)?), ("source ids", ids)])
}
