//! The shares of several processes in the batches of every loader.

#[path = "shard_cases/ahead.rs"]
mod ahead;
#[path = "shard_cases/dealt.rs"]
mod dealt;
#[path = "shard_cases/examples.rs"]
mod examples;
#[path = "shard_cases/refused.rs"]
mod refused;

use std::fmt::Debug;

use textbrewer::data::{DataLoader, Shard, Uneven};

const UNEVEN: [Uneven; 3] = [Uneven::Pad, Uneven::Drop, Uneven::Keep];

type Boxed<B> = Box<dyn DataLoader<Batch = B>>;

fn shard(rank: usize, world_size: usize, uneven: Uneven) -> Shard {
    Shard::new(rank, world_size).unwrap().with_uneven(uneven)
}

/// The batches that are left of an epoch, at most `most`, with their numbers.
fn rest<L: DataLoader>(loader: &mut L, most: usize) -> Vec<(L::Batch, Option<u64>)> {
    let mut batches = Vec::new();
    while batches.len() < most
        && let Some(batch) = loader.next_batch().unwrap()
    {
        batches.push((batch, loader.batch_id()));
    }
    batches
}

/// The batches of an epoch, at most 100.
fn epoch<L: DataLoader>(loader: &mut L, epoch: u64) -> Vec<L::Batch> {
    loader.start_epoch(epoch).unwrap();
    let batches = rest(loader, 100);
    batches.into_iter().map(|(batch, _)| batch).collect()
}

/// Begins at every place of an epoch, by skipping once and twice, as far as `most` batches.
fn comes_back<L>(what: &str, make: impl Fn() -> L, number: u64, most: usize)
where
    L: DataLoader<Batch: Debug + PartialEq>,
{
    let mut whole = make();
    whole.start_epoch(number).unwrap();
    let expected = rest(&mut whole, most);
    let ends = expected.len() < most;
    for first in 0..=expected.len() {
        let mut fresh = make();
        for second in 0..=(expected.len() - first) {
            let what = format!("{what}, epoch {number}, {first} and {second}");
            fresh.start_epoch(number).unwrap();
            assert_eq!(fresh.skip(first as u64).unwrap(), first as u64, "{what}");
            let taken = rest(&mut fresh, 1).len();
            let at = (first + taken + second).min(expected.len());
            let skipped = (at - first - taken) as u64;
            // One more than there are, where the epoch ends there.
            let wanted = if ends { second as u64 } else { skipped };
            assert_eq!(fresh.skip(wanted).unwrap(), skipped, "{what}");
            let left = rest(&mut fresh, expected.len() - at);
            assert_eq!(left, expected[at..], "{what}");
            if ends {
                assert!(fresh.next_batch().unwrap().is_none(), "{what}");
                assert_eq!(fresh.skip(3).unwrap(), 0, "{what}");
                assert!(fresh.next_batch().unwrap().is_none(), "{what}");
                assert_eq!(fresh.batch_id(), None, "{what}");
            }
        }
    }
}
