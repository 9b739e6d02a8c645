//! What a program compares before it trains from a file.

use std::collections::BTreeSet;

use super::TeacherFile;
use super::column::Origin;
use super::shard_file::REMEDY;
use super::wrong;
use crate::checkpoint::examine;
use crate::error::{Error, Result, shown};

/// How many ids a message names.
const NAMED: usize = 5;

impl TeacherFile {
    /// Refuses a file that does not have all of these examples.
    ///
    /// # Errors
    /// How many are missing, and the first of them.
    pub fn check_ids(&self, ids: impl IntoIterator<Item = u64>) -> Result<()> {
        let (mut count, mut missing, mut first) = (0u64, 0u64, Vec::new());
        for id in ids {
            count += 1;
            if self.find(id).is_none() {
                missing += 1;
                if first.len() < NAMED {
                    first.push(id.to_string());
                }
            }
        }
        if missing == 0 {
            return Ok(());
        }
        let more = if missing > NAMED as u64 { ", …" } else { "" };
        Err(self.wrong(format!(
            "{missing} of {count} examples are not in it: {}{more} (it has {} examples, with ids from {} \
             to {}); record the teacher on these data",
            first.join(", "),
            self.len(),
            self.ids().next().unwrap_or(0),
            self.0.index.last().map_or(0, |entry| entry.id),
        )))
    }

    /// Refuses a file whose recording says something else, such as the hash of another tokenizer.
    ///
    /// # Errors
    /// When it says something else, or nothing.
    pub fn check_fact(&self, name: &str, value: &str) -> Result<()> {
        match self.0.facts.get(name) {
            Some(fact) if fact == value => Ok(()),
            Some(fact) => Err(self.wrong(format!(
                "was recorded with another `{}`: {}, not {}",
                shown(name),
                shown(fact),
                shown(value)
            ))),
            None => Err(self.wrong(format!(
                "does not say its `{}`; record it with `Recording::fact`",
                shown(name)
            ))),
        }
    }

    /// Refuses a file whose classes have other names, or another order.
    ///
    /// # Errors
    /// When they have, or the file does not say.
    pub fn check_labels<L: AsRef<str>>(&self, labels: &[L]) -> Result<()> {
        let Some(known) = &self.0.labels else {
            let reason =
                "does not say the names of its classes; record it with `Recording::labels`";
            return Err(self.wrong(reason.to_owned()));
        };
        let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        if known.iter().eq(labels.iter()) {
            return Ok(());
        }
        let of = |labels: &mut dyn Iterator<Item = &str>| {
            let labels: Vec<_> = labels
                .take(20)
                .map(|label| shown(label).into_owned())
                .collect();
            labels.join(", ")
        };
        let (theirs, ours): (BTreeSet<&str>, BTreeSet<&str>) = (
            known.iter().map(String::as_str).collect(),
            labels.iter().copied().collect(),
        );
        let what = match theirs == ours {
            true => "another order of the classes",
            false => "other classes",
        };
        Err(self.wrong(format!(
            "has {what}: {}; wanted are {}",
            of(&mut known.iter().map(String::as_str)),
            of(&mut labels.iter().copied())
        )))
    }

    /// Refuses a file of logits over another number of classes: another vocabulary.
    ///
    /// # Errors
    /// When the number is another, or there are no logits.
    pub fn check_classes(&self, classes: i64) -> Result<()> {
        let columns = self.columns().iter();
        let of_logits = columns.filter(|column| matches!(column.of, Origin::Logits { .. }));
        let mut widths = of_logits.map(|column| column.width).peekable();
        if widths.peek().is_none() {
            return Err(self.wrong("has no logits".to_owned()));
        }
        match widths.find(|width| *width != classes) {
            None => Ok(()),
            Some(width) => Err(self.wrong(format!(
                "has logits of {width} classes, wanted are {classes}: another vocabulary or task"
            ))),
        }
    }

    /// Reads everything and compares all checksums.
    ///
    /// # Errors
    /// The first thing that is not as it was written.
    pub fn verify(&self) -> Result<()> {
        for (shard, written) in self.0.shards.iter().zip(&self.0.written) {
            let found = examine(&shard.path).map_err(|source| Error::io(&shard.path, source))?;
            // Tells which example it is, if it is one.
            shard.verify()?;
            if (found.bytes, found.crc32) != (written.bytes, written.crc32) {
                let reason = "is damaged: its checksum is not the one that the manifest has";
                return Err(wrong(&shard.path, format!("{reason}; {REMEDY}")));
            }
        }
        Ok(())
    }
}
