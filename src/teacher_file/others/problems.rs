//! What is wrong with the lines of a file.

use std::path::Path;

use super::super::wrong;
use crate::error::Result;

/// Collects what is wrong, so that one message tells the first line in full and how many others there
/// are.
#[derive(Debug, Default)]
pub(super) struct Problems {
    first: Option<(u64, String)>,
    others: Vec<u64>,
    count: u64,
}

/// How many other lines a message names.
const NAMED: usize = 5;

impl Problems {
    pub(super) fn add(&mut self, line: u64, reason: String) {
        if self.first.is_none() {
            self.first = Some((line, reason));
            return;
        }
        self.count += 1;
        if self.others.len() < NAMED {
            self.others.push(line);
        }
    }

    /// # Errors
    /// When something was added.
    pub(super) fn check(self, path: &Path) -> Result<()> {
        let Some((line, reason)) = self.first else {
            return Ok(());
        };
        let mut reason = format!("line {line} {reason}");
        if self.count > 0 {
            let named: Vec<String> = self.others.iter().map(u64::to_string).collect();
            let more = match self.count > NAMED as u64 {
                true => ", …",
                false => "",
            };
            let lines = if self.count == 1 { "line" } else { "lines" };
            reason.push_str(&format!(
                " (and {} more {lines}, with this or something else: {}{more})",
                self.count,
                named.join(", ")
            ));
        }
        Err(wrong(path, reason))
    }
}
