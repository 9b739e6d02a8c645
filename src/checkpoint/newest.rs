//! The newest checkpoint in a folder.

use super::folder::CheckpointFolder;
use super::manifest::damaged;
use super::read::{self, Loaded};
use crate::error::{Error, Result, shortened};

/// The newest intact checkpoint, and what is wrong with newer ones.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) loaded: Loaded,
    pub(crate) damaged: Vec<Error>,
    /// The steps of the damaged ones.
    pub(crate) damaged_steps: Vec<u64>,
}

impl CheckpointFolder {
    /// Loads the checkpoint of this step.
    pub(crate) fn load(&self, step: u64) -> Result<Loaded> {
        read::load(&self.state(step), step)
    }

    /// Loads the newest intact checkpoint of any run; `None` if there is no checkpoint at all.
    ///
    /// # Errors
    /// If all are damaged, and if one was written by a later version: passing over it would lose
    /// work.
    pub(crate) fn newest(&self) -> Result<Option<Newest>> {
        let mut damaged = Vec::new();
        let mut damaged_steps = Vec::new();
        let mut readable = Vec::new();
        for step in self.steps()? {
            match read::manifest(&self.state(step), step) {
                Ok(manifest) => readable.push((manifest.sequence, step)),
                Err(error @ Error::CheckpointVersion { .. }) => return Err(error),
                Err(error) => {
                    damaged.push(error);
                    damaged_steps.push(step);
                }
            }
        }
        readable.sort_unstable();
        for (_, step) in readable.into_iter().rev() {
            match self.load(step) {
                Ok(loaded) => {
                    return Ok(Some(Newest {
                        loaded,
                        damaged,
                        damaged_steps,
                    }));
                }
                Err(error) => {
                    damaged.push(error);
                    damaged_steps.push(step);
                }
            }
        }
        let mut all: Vec<_> = damaged_steps.into_iter().zip(damaged).collect();
        all.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        match all.len() {
            0 | 1 => all.pop().map_or(Ok(None), |(_, error)| Err(error)),
            _ => Err(self.all_damaged(&all)),
        }
    }

    /// What is wrong with each, largest steps first; of many with the first few and the last.
    fn all_damaged(&self, all: &[(u64, Error)]) -> Error {
        const FIRST: usize = 4;
        let states = self.states();
        let shown_reason = |error: &Error| {
            let text = match error {
                Error::Checkpoint { path, reason } => {
                    let path = path.strip_prefix(&states).unwrap_or(path);
                    format!("{}: {reason}", path.display())
                }
                other => other.to_string(),
            };
            shortened(text.lines().next().unwrap_or_default(), 300).into_owned()
        };
        let first = all.iter().take(FIRST).map(|(_, error)| shown_reason(error));
        let mut reasons: Vec<String> = first.collect();
        if let [.., (_, last)] = all.get(FIRST..).unwrap_or_default() {
            if all.len() > FIRST + 1 {
                reasons.push(format!("{} more", all.len() - FIRST - 1));
            }
            reasons.push(shown_reason(last));
        }
        let reason = format!(
            "all {} checkpoints are damaged: {}",
            all.len(),
            reasons.join("; ")
        );
        damaged(&states, reason)
    }
}
