//! Whole batches, dealt out in turn.

use std::cell::Cell;
use std::rc::Rc;

use tch::Tensor;
use textbrewer::data::{
    DataLoader, FnLoader, Shard, StreamLoader, TaskLoader, TensorLoader, Uneven, VecLoader,
};
use textbrewer::{Batch, Result};

use crate::{Boxed, UNEVEN, comes_back, epoch, rest, shard};

type Make<'a> = &'a dyn Fn(u64) -> Boxed<i64>;

fn vector(len: u64) -> VecLoader<Tensor> {
    VecLoader::new((0..len as i64).map(Tensor::from).collect()).unwrap()
}

fn number(tensor: Tensor) -> Result<i64> {
    Ok(tensor.int64_value(&[]))
}

/// A loader with none of the methods that need not be written.
struct Own {
    len: u64,
    next: u64,
}

impl DataLoader for Own {
    type Batch = i64;

    fn num_batches(&self) -> Option<usize> {
        Some(self.len as usize)
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.next = 100 * epoch;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<i64>> {
        self.next += 1;
        Ok((self.next % 100 <= self.len).then_some(self.next as i64))
    }
}

/// The share of a rank, written down once more.
fn expected<B: Clone>(all: &[B], rank: usize, ranks: usize, uneven: Uneven) -> Vec<B> {
    let mut share = Vec::new();
    for first in (0..all.len()).step_by(ranks) {
        let is_complete = first + ranks <= all.len();
        share.extend(match (all.get(first + rank), uneven) {
            (_, Uneven::Drop) if !is_complete => None,
            (None, Uneven::Pad) => all.iter().cycle().nth(first + rank).cloned(),
            (batch, _) => batch.cloned(),
        });
    }
    share
}

fn check(what: &str, make: Make<'_>, fewest: u64) {
    for ranks in 1..=4 {
        for len in fewest..=9 {
            for uneven in UNEVEN {
                for rank in 0..ranks {
                    let what = format!("{what}: {len} batches, {rank} of {ranks}, {uneven:?}");
                    let share = || make(len).shard(shard(rank, ranks, uneven));
                    if uneven == Uneven::Drop && share().start_epoch(1).is_err() {
                        assert!(len < ranks as u64, "{what}");
                        continue;
                    }
                    let mut loader = share();
                    for number in [1, 2] {
                        let all = epoch(&mut make(len), number);
                        let batches = epoch(&mut loader, number);
                        let expected = expected(&all, rank, ranks, uneven);
                        assert_eq!(batches, expected, "{what}");
                        if make(len).num_batches().is_some() {
                            assert_eq!(loader.num_batches(), Some(expected.len()), "{what}");
                        }
                    }
                    comes_back(&what, share, 1, 100);
                    comes_back(&what, share, 2, 100);
                }
            }
        }
    }
}

#[test]
fn batches_of_a_vector_are_dealt() {
    check(
        "vector",
        &|len| Box::new(vector(len).shuffle(3).map(number)),
        1,
    );
}

#[test]
fn what_knows_of_no_shares_is_dealt() {
    let numbers = |len| move |epoch| Ok((0..len).map(move |n| Ok((100 * epoch + n) as i64)));
    check("closure", &|len| Box::new(FnLoader::new(numbers(len))), 0);
    check(
        "closure that knows its length",
        &|len| Box::new(FnLoader::new(numbers(len)).with_num_batches(len as usize)),
        0,
    );
    check("own", &|len| Box::new(Own { len, next: 0 }), 0);
    check(
        "lent and mapped",
        &|len| Box::new(Box::new(Own { len, next: 0 }).map(|n| Ok(n * n))),
        0,
    );
}

#[test]
fn streams_are_dealt() {
    let numbers = |len: u64| move |epoch| Ok((0..2 * len).map(move |n| Ok(100 * epoch + n)));
    let sum = |numbers: Vec<u64>| Ok(numbers.iter().sum::<u64>() as i64);
    let stream = move |len| StreamLoader::new(2, numbers(len)).unwrap();
    check("stream", &|len| Box::new(stream(len).map(sum)), 0);
    check(
        "shuffled stream",
        &|len| Box::new(stream(len).shuffle(1, 5).drop_last().map(sum)),
        0,
    );
    let sought = move |len: u64| {
        let open =
            move |epoch, first| Ok((first as u64..2 * len).map(move |n| Ok(100 * epoch + n)));
        StreamLoader::seekable(2, open).unwrap().shuffle(1, 3)
    };
    check("sought stream", &|len| Box::new(sought(len).map(sum)), 0);
}

#[test]
fn loaders_that_work_ahead_are_dealt() {
    let numbers = |len| move |epoch| Ok((0..len).map(move |n| Ok((100 * epoch + n) as i64)));
    let closure = move |len| FnLoader::new(numbers(len));
    check("prefetch", &|len| Box::new(closure(len).prefetch(2)), 0);
    check(
        "threads",
        &|len| Box::new(closure(len).map_in_threads(2, |n| Ok(n + 1))),
        0,
    );
    check(
        "all of them",
        &|len| {
            let vector = vector(len).shuffle(2).map_in_threads(2, Ok).prefetch(1);
            Box::new(vector.map(number))
        },
        1,
    );
}

#[test]
fn tasks_are_dealt_without_an_end() {
    let tasks = || {
        TaskLoader::new()
            .task("a", vector(3).shuffle(1))
            .task("b", vector(2).fixed().shuffle(6))
            .seed(4)
    };
    let named = |mut batches: Vec<(textbrewer::TaskBatch<Tensor>, Option<u64>)>| {
        let shown = batches.drain(..).map(|(batch, id)| {
            let number = batch.batch.int64_value(&[]);
            (batch.task.to_string(), number, id)
        });
        shown.collect::<Vec<_>>()
    };
    let mut one = tasks();
    one.start_epoch(2).unwrap();
    let all = named(rest(&mut one, 24));
    assert!(all.iter().all(|(_, _, id)| id.is_some()));
    for uneven in UNEVEN {
        for rank in 0..3 {
            let mut loader = tasks().shard(shard(rank, 3, uneven));
            assert!(loader.keeps_batches() && loader.num_batches().is_none());
            for skipped in [0, 1, 5] {
                loader.start_epoch(2).unwrap();
                assert_eq!(loader.skip(skipped as u64).unwrap(), skipped as u64);
                let share = named(rest(&mut loader, 8 - skipped));
                assert_eq!(share, expected(&all, rank, 3, uneven)[skipped..]);
            }
        }
    }
}

/// A share must not read further than it has to: behind the step a stream may block for long.
#[test]
fn nothing_is_read_beyond_the_step() {
    for (uneven, rank) in UNEVEN.into_iter().flat_map(|u| [(u, 0), (u, 1), (u, 2)]) {
        let read = Rc::new(Cell::new(0));
        let counter = Rc::clone(&read);
        let endless = FnLoader::new(move |_| {
            let counter = Rc::clone(&counter);
            Ok((0..).map(move |n: u64| {
                counter.set(counter.get() + 1);
                Ok(n)
            }))
        });
        let mut share = endless.shard(shard(rank, 3, uneven));
        share.start_epoch(1).unwrap();
        for step in 0..5 {
            assert_eq!(share.next_batch().unwrap(), Some(3 * step + rank as u64));
            let ours = if uneven == Uneven::Drop {
                3
            } else {
                rank as u64 + 1
            };
            assert_eq!(read.get(), 3 * step + ours, "{uneven:?}, {rank}");
        }
        assert_eq!(share.skip(10).unwrap(), 10);
        assert_eq!(share.next_batch().unwrap(), Some(45 + rank as u64));
    }
}

#[test]
fn a_stream_is_read_once_in_an_epoch() {
    for rank in 0..2 {
        let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&read);
        let stream = StreamLoader::new(2, move |_| {
            let counter = std::sync::Arc::clone(&counter);
            Ok((0..1000u64).map(move |n| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(n)
            }))
        });
        let mut share = stream.unwrap().shard(Shard::new(rank, 2).unwrap());
        share.start_epoch(1).unwrap();
        assert_eq!(rest(&mut share, 1000).len(), 250);
        assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 1000);
    }
}

#[test]
fn batches_keep_their_numbers() {
    for uneven in UNEVEN {
        for rank in 0..3 {
            let mut share = vector(8).shuffle(1).shard(shard(rank, 3, uneven));
            assert!(share.keeps_batches());
            for number in 1..=3 {
                share.start_epoch(number).unwrap();
                for (batch, id) in rest(&mut share, 10) {
                    assert_eq!(id, Some(batch.int64_value(&[]) as u64));
                }
                assert_eq!(share.batch_id(), None);
            }
        }
    }
}

/// A batch that is a number.
#[derive(Debug, Clone, PartialEq)]
struct Number(i64);

impl Batch for Number {
    fn to_device(&self, _device: tch::Device) -> Result<Self> {
        Ok(self.clone())
    }
}

#[test]
fn fixed_batches_of_a_step_stay_together() {
    let closures = || FnLoader::new(|_| Ok((0..8).map(|n| Ok(Number(n)))));
    let rows = || {
        let rows = Tensor::arange(16, (tch::Kind::Int64, tch::Device::Cpu));
        let loader = TensorLoader::new(vec![rows], 2).unwrap();
        loader.map(|tensors| Ok(Number(tensors[0].int64_value(&[0]) / 2)))
    };
    let makes: [&dyn Fn() -> Boxed<Number>; 2] = [&|| Box::new(closures()), &|| Box::new(rows())];
    for (make, uneven) in makes.into_iter().flat_map(|m| UNEVEN.map(|u| (m, u))) {
        let share = |rank| make().fixed().shuffle(5).shard(shard(rank, 2, uneven));
        let mut loaders = [share(0), share(1)];
        let mut orders = Vec::new();
        for number in 1..=4 {
            let [even, odd] = loaders.each_mut().map(|loader| epoch(loader, number));
            assert_eq!(even.len(), 4);
            for (even, odd) in even.iter().zip(&odd) {
                assert_eq!(even.0 + 1, odd.0);
            }
            orders.push(even);
            assert!(loaders.iter().all(|loader| loader.num_batches() == Some(4)));
        }
        orders.dedup();
        assert!(orders.len() > 1, "never shuffled");
        comes_back("fixed", || share(1), 2, 100);
        // With a rank that has nothing, and then with another share.
        let mut last = make().fixed().shard(shard(16, 17, Uneven::Keep));
        assert_eq!(epoch(&mut last, 1), []);
        assert_eq!(last.num_batches(), Some(0));
        let mut other = last.shard(shard(16, 17, Uneven::Pad));
        assert_eq!(epoch(&mut other, 1), [Number(0)]);
        let mut alone = other.shard(Shard::new(0, 1).unwrap());
        assert_eq!(epoch(&mut alone, 1).len(), 8);
    }
}

#[test]
fn a_share_takes_the_place_of_another() {
    let closure = || FnLoader::new(|_| Ok((0..6).map(Ok)));
    let first = Shard::new(0, 2).unwrap();
    let mut twice = closure().shard(first).shard(first);
    assert_eq!(epoch(&mut twice, 1), [0, 2, 4]);
    let mut vector = vector(6);
    {
        let mut lent = (&mut vector).shard(Shard::new(1, 3).unwrap());
        assert_eq!(lent.num_batches(), Some(2));
        lent.start_epoch(1).unwrap();
    }
    // It was lent, and it is what was asked of it.
    assert_eq!(vector.num_batches(), Some(2));
    assert!(vector.next_batch().is_ok());
    let mut alone = vector.shard(Shard::new(0, 1).unwrap());
    assert_eq!(epoch(&mut alone, 1).len(), 6);
}
