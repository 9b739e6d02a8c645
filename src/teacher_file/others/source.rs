//! What a file of a teacher was made from.

use std::path::Path;

use super::super::hash::hash_of_file;
use super::texts::Texts;
use crate::error::Result;

/// Facts that tell a file, its ids and `how` it was read from others: a folder that was made from an
/// earlier version of the file is not taken for this one.
pub(super) fn facts(path: &Path, ids: &[u64], how: &str) -> Result<Vec<(&'static str, String)>> {
    let mut hasher = crc32fast::Hasher::new();
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    hasher.update(how.as_bytes());
    let ids = format!("{} examples, checksum {:08x}", ids.len(), hasher.finalize());
    Ok(vec![("source", hash_of_file(path)?), ("source ids", ids)])
}

/// A fact that tells texts from the same in another order, with which other examples have the rows.
pub(super) fn fact_of_texts(texts: &Texts) -> (&'static str, String) {
    let mut hasher = crc32fast::Hasher::new();
    for text in texts.of_each.iter().flatten().map(|text| text.trim()) {
        // Without their lengths "a", "bc" would be "ab", "c".
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let count = texts.of_each.len();
    let texts = format!("{count} examples, checksum {:08x}", hasher.finalize());
    ("source texts", texts)
}
