//! Losses that are exactly 0 in every batch.

use std::collections::BTreeMap;

use crate::distiller::TOTAL_LOSS;
use crate::logging;

/// The batches after which it is no accident.
const ENOUGH: u64 = 20;

/// Looks out for losses that are exactly 0 from the beginning, as they are where nothing counts.
#[derive(Debug, Default)]
pub(super) struct Zeros {
    /// For each loss the number of batches in which it was 0, or `None` where nothing is left to
    /// be told.
    so_far: BTreeMap<String, Option<u64>>,
}

impl Zeros {
    /// Counts the losses of a batch. Their total has nothing to add to the terms beside it.
    pub(super) fn count(&mut self, named: &[(String, f64)]) {
        let terms = named.iter();
        for (name, value) in terms.filter(|(name, _)| name != TOTAL_LOSS || named.len() == 1) {
            let is_zero = *value == 0.0;
            match self.so_far.get_mut(name) {
                Some(count) => *count = count.filter(|_| is_zero).map(|count| count + 1),
                None => {
                    self.so_far.insert(name.clone(), is_zero.then_some(1));
                }
            }
        }
    }

    /// Warns, once, of each loss that was always 0.
    pub(super) fn warn(&mut self) {
        for (name, count) in &mut self.so_far {
            if let Some(batches) = count.take_if(|count| *count >= ENOUGH) {
                logging::warn(format_args!(
                    "`{name}` was exactly 0 in all {batches} batches so far: is every label -100, \
                     or every position masked?"
                ));
            }
        }
    }
}
