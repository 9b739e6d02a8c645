//! Loaders of files and streams, and batches converted in several threads.

#[path = "loader_cases/ids.rs"]
mod ids;
#[path = "loader_cases/line_errors.rs"]
mod line_errors;
#[path = "loader_cases/lines.rs"]
mod lines;
#[path = "loader_cases/streams.rs"]
mod streams;
#[path = "loader_cases/threads.rs"]
mod threads;

use textbrewer::{DataLoader, Result};

/// The batches of an epoch.
fn epoch_of<L: DataLoader>(loader: &mut L, epoch: u64) -> Vec<L::Batch> {
    let batches = loader.epoch(epoch).unwrap();
    batches.collect::<Result<_>>().unwrap()
}

/// What is left of an epoch, errors included.
fn rest<L: DataLoader>(loader: &mut L) -> Vec<std::result::Result<L::Batch, String>> {
    let mut all = Vec::new();
    while let Some(batch) = loader.next_batch().transpose() {
        all.push(batch.map_err(|error| error.to_string()));
        assert!(all.len() < 10_000, "an epoch without an end");
    }
    all
}

/// Compares a loader that goes on with one that begins at every place of an epoch, in one step
/// and in several.
fn comes_back<L: DataLoader<Batch: PartialEq + std::fmt::Debug>>(make: impl Fn() -> L) {
    let mut whole = make();
    for epoch in 1..=3 {
        whole.start_epoch(epoch).unwrap();
        let expected = rest(&mut whole);
        let batches = expected.len() as u64;
        for first in 0..=batches {
            for second in 0..=(batches - first + 1) {
                let mut fresh = make();
                fresh.start_epoch(epoch).unwrap();
                assert_eq!(fresh.skip(first).unwrap(), first);
                let taken = usize::from(fresh.next_batch().unwrap().is_some());
                let left = batches - first - taken as u64;
                assert_eq!(fresh.skip(second).unwrap(), second.min(left), "{first}");
                let at = first as usize + taken + second as usize;
                let expected = expected.get(at..).unwrap_or_default();
                assert_eq!(rest(&mut fresh), expected, "{epoch}: {first}, {second}");
                assert_eq!(fresh.skip(1).unwrap(), 0);
            }
        }
    }
}
