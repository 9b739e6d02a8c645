//! Loaders that work ahead, or keep batches, do so for their own share only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;
use textbrewer::data::{DataLoader, FnLoader, Shard, Uneven};
use textbrewer::{Error, Result};

use crate::{UNEVEN, epoch, shard};

/// Twelve batches, with a counter of those that were converted.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new() -> Self {
        Counted(Arc::default())
    }

    fn convert(&self) -> impl Fn(i64) -> Result<Tensor> + Send + Sync + 'static {
        let counter = Arc::clone(&self.0);
        move |number| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Tensor::from(number))
        }
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn twelve() -> impl DataLoader<Batch = i64> + Send + 'static {
    FnLoader::new(|_| Ok((0..12).map(Ok)))
}

#[test]
fn only_the_batches_of_the_share_are_converted() {
    for (uneven, rank) in UNEVEN.into_iter().flat_map(|u| [(u, 0), (u, 1), (u, 2)]) {
        let share = shard(rank, 3, uneven);
        let counted = Counted::new();
        let numbers = |batches: Vec<Tensor>| -> Vec<i64> {
            batches.iter().map(|batch| batch.int64_value(&[])).collect()
        };
        let expected: Vec<_> = (0..4).map(|n| 3 * n + rank as i64).collect();

        let mut map = twelve().map(counted.convert()).shard(share);
        assert_eq!(numbers(epoch(&mut map, 1)), expected);
        assert_eq!(counted.take(), 4);

        let mut threads = twelve().map_in_threads(2, counted.convert()).shard(share);
        assert_eq!(numbers(epoch(&mut threads, 1)), expected);
        assert_eq!(counted.take(), 4);

        let mut ahead = twelve().map(counted.convert()).prefetch(2).shard(share);
        assert_eq!(numbers(epoch(&mut ahead, 1)), expected);
        assert_eq!(counted.take(), 4);

        let mut fixed = twelve().map(counted.convert()).fixed().shard(share);
        assert_eq!(numbers(epoch(&mut fixed, 1)), expected);
        assert_eq!(numbers(epoch(&mut fixed, 2)), expected);
        assert_eq!(counted.take(), 4);
        // The same share once more: nothing is collected anew.
        let mut fixed = fixed.shard(share);
        assert_eq!(numbers(epoch(&mut fixed, 3)), expected);
        assert_eq!(counted.take(), 0);
    }
}

#[test]
fn a_share_may_be_taken_while_batches_are_made() {
    let mut ahead = twelve().prefetch(2);
    ahead.start_epoch(1).unwrap();
    ahead.next_batch().unwrap();
    assert!(ahead.take_share(Shard::new(1, 4).unwrap()));
    assert_eq!(ahead.num_batches(), None);
    assert!(ahead.next_batch().is_err(), "no epoch was started");
    assert_eq!(epoch(&mut ahead, 1), [1, 5, 9]);

    let mut threads = twelve().map_in_threads(2, Ok);
    threads.start_epoch(1).unwrap();
    threads.next_batch().unwrap();
    assert!(threads.take_share(Shard::new(1, 4).unwrap()));
    assert!(threads.next_batch().is_err(), "no epoch was started");
    assert_eq!(epoch(&mut threads, 1), [1, 5, 9]);

    let counted = FnLoader::new(|_| Ok((0..5).map(Ok))).with_num_batches(5);
    let mut ahead = counted.prefetch(1);
    ahead.take_share(Shard::new(1, 2).unwrap().with_uneven(Uneven::Keep));
    assert_eq!(ahead.num_batches(), Some(2));
}

#[test]
fn a_loader_that_panicked_is_an_error_and_no_panic() {
    let broken = FnLoader::new(|_| Ok((0..3).map(|n| if n == 1 { panic!("no 1") } else { Ok(n) })));
    let mut ahead = broken.prefetch(1);
    ahead.start_epoch(1).unwrap();
    assert_eq!(ahead.next_batch().unwrap(), Some(0));
    assert!(ahead.take_share(Shard::new(0, 2).unwrap()));
    let error: Error = ahead.start_epoch(1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the prefetched loader was lost; make a new one"
    );
}
