//! Which records of a file are learned from, measured with and answered.
//!
//! Published data has lines that are broken, and records whose label nobody agreed on. One such
//! line is no reason to refuse the file; each kind is told of once, with a count.

use std::path::Path;

use crate::task::{Fault, Task};
use crate::{Error, Result};

/// The records to learn from, with `labels` only those that have the truth, and the positions of
/// the others.
///
/// # Errors
/// When none is left.
pub(crate) fn to_learn<T: Task>(
    task: &T,
    file: &Path,
    mut records: Vec<T::Record>,
    labels: bool,
) -> Result<(Vec<T::Record>, Vec<usize>)> {
    warn_of_faults(task, file, &records, "and are left out")?;
    let all = records.len();
    let mut left_out = Vec::new();
    let mut without_truth = 0;
    let mut position = 0;
    records.retain(|record| {
        let is_kept = is_learnt(task, record, labels);
        without_truth += usize::from(task.fault(record).is_none() && !is_kept);
        if !is_kept {
            left_out.push(position);
        }
        position += 1;
        is_kept
    });
    if records.is_empty() && without_truth > 0 {
        let truth = task.truth();
        let reason = format!("no truth in it to train on: expected {truth}");
        return Err(Error::file(file, reason));
    }
    if without_truth > 0 {
        let (file, truth) = (file.display(), task.truth());
        log::warn!(
            "{file}: {without_truth} of {all} records have no truth ({truth}) and are left out"
        );
    }
    Ok((records, left_out))
}

/// Whether a record is learned from.
pub(crate) fn is_learnt<T: Task>(task: &T, record: &T::Record, labels: bool) -> bool {
    task.fault(record).is_none() && (!labels || task.has_truth(record))
}

/// Checks that there are records to measure with, and returns their number.
///
/// # Errors
/// When there are none, or some have no truth in a task that measures all.
pub(crate) fn to_measure<T: Task>(task: &T, file: &Path, records: &[T::Record]) -> Result<usize> {
    warn_of_faults(task, file, records, "and are not measured")?;
    let sound = || records.iter().filter(|record| task.fault(record).is_none());
    let truths = sound().filter(|record| task.has_truth(record)).count();
    let all = sound().count();
    if truths < all && (truths == 0 || !task.measures_part()) {
        let truth = task.truth();
        let reason = format!(
            "{truths} of its {all} records have the truth ({truth}){}",
            match truths {
                0 => "; nothing can be evaluated",
                _ => ", and all are evaluated",
            }
        );
        return Err(Error::file(file, reason));
    }
    if truths < all {
        let (file, truth, without) = (file.display(), task.truth(), all - truths);
        log::warn!(
            "{file}: {without} of {all} records have no truth ({truth}) and are not measured"
        );
    }
    Ok(truths)
}

/// Checks that all records can be answered: answers are in step with the lines of the file.
///
/// # Errors
/// The first that cannot.
pub(crate) fn to_answer<T: Task>(task: &T, file: &Path, records: &[T::Record]) -> Result<()> {
    let mut faults = records.iter().filter_map(|record| task.fault(record));
    if let Some(fault) = faults.find(|fault| !fault.can_be_answered) {
        return Err(refused(file, fault));
    }
    warn_of_faults(task, file, records, "and are answered all the same").or(Ok(()))
}

/// One warning for all broken lines.
///
/// # Errors
/// When no other line is there.
fn warn_of_faults<T: Task>(
    task: &T,
    file: &Path,
    records: &[T::Record],
    outcome: &str,
) -> Result<()> {
    let mut faults = records.iter().filter_map(|record| task.fault(record));
    let Some(first) = faults.next() else {
        return Ok(());
    };
    let (count, all) = (1 + faults.count(), records.len());
    if count == all {
        return Err(refused(file, first));
    }
    let Fault { line, reason, .. } = first;
    let file = file.display();
    log::warn!(
        "{file}: {count} of {all} lines are broken {outcome}; the first is line {line}: {reason}"
    );
    Ok(())
}

fn refused(file: &Path, fault: &Fault) -> Error {
    Error::data(file, fault.line, fault.reason.clone())
}
