//! Streams of examples with a shuffle buffer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use textbrewer::data::{DataLoader, StreamLoader};
use textbrewer::{Error, Result};

use super::{comes_back, epoch_of, rest};

/// The numbers of an epoch from `first` on: 100 times the epoch and up.
fn numbers(epoch: u64, first: usize, len: usize) -> impl Iterator<Item = Result<u64>> + Send {
    (first.min(len)..len).map(move |number| Ok(100 * epoch + number as u64))
}

fn replayed(len: usize, batch_size: usize) -> StreamLoader<'static, u64> {
    StreamLoader::new(batch_size, move |epoch| Ok(numbers(epoch, 0, len))).unwrap()
}

fn sought(len: usize, batch_size: usize) -> StreamLoader<'static, u64> {
    let open = move |epoch, first| Ok(numbers(epoch, first, len));
    StreamLoader::seekable(batch_size, open).unwrap()
}

proptest! {
    #[test]
    fn every_place_is_come_back_to(
        len in 1usize..14,
        batch_size in 1usize..5,
        buffer in 0usize..9,
        shuffled: bool,
        drops: bool,
    ) {
        let with = |loader: StreamLoader<'static, u64>| {
            let loader = if shuffled { loader.shuffle(3, buffer) } else { loader };
            if drops { loader.drop_last() } else { loader }
        };
        comes_back(|| with(replayed(len, batch_size)));
        comes_back(|| with(sought(len, batch_size)));
        for epoch in 1..3 {
            let batches = epoch_of(&mut with(replayed(len, batch_size)), epoch);
            prop_assert_eq!(&epoch_of(&mut with(sought(len, batch_size)), epoch), &batches);
            let rest = if drops { 0 } else { len % batch_size };
            prop_assert_eq!(batches.len(), len / batch_size + usize::from(rest > 0));
            let mut all = batches.concat();
            if !shuffled || buffer < 2 {
                prop_assert!(all.is_sorted());
            }
            all.sort_unstable();
            all.dedup();
            let given = if drops { len / batch_size * batch_size } else { len };
            prop_assert_eq!(all.len(), given);
        }
    }
}

#[test]
fn a_buffer_is_shuffled_and_then_the_next() {
    let mut loader = replayed(100, 10).shuffle(5, 25);
    let [first, again, second]: [Vec<u64>; 3] =
        [1, 1, 2].map(|epoch| epoch_of(&mut loader, epoch).concat());
    assert_eq!(first, again);
    for (part, numbers) in first.chunks(25).enumerate() {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        let begin = 100 + 25 * part as u64;
        assert_eq!(sorted, (begin..begin + 25).collect::<Vec<_>>());
        assert_ne!(sorted, numbers);
    }
    // Every buffer and every epoch has an order of its own, and so has every seed.
    let order = |numbers: &[u64]| numbers.iter().map(|n| n % 25).collect::<Vec<_>>();
    assert_ne!(order(&first[..25]), order(&first[25..50]));
    assert_ne!(order(&first), order(&second));
    let other = epoch_of(&mut replayed(100, 10).shuffle(6, 25), 1).concat();
    assert_ne!(first, other);
}

#[test]
fn no_more_is_read_than_the_buffer_holds() {
    let read = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&read);
    let mut loader = StreamLoader::new(4, move |_| {
        let counter = Arc::clone(&counter);
        Ok((0u64..).map(move |number| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(number)
        }))
    })
    .unwrap()
    .shuffle(1, 10);
    loader.start_epoch(1).unwrap();
    for (taken, expected) in [(4, 10), (8, 10), (12, 20), (16, 20), (20, 20), (24, 30)] {
        loader.next_batch().unwrap();
        assert_eq!(read.load(Ordering::Relaxed), expected, "after {taken}");
    }
}

#[test]
fn a_stream_that_can_seek_is_not_read_again() {
    let read = Arc::<AtomicUsize>::default();
    let opened = Arc::<Mutex<Vec<usize>>>::default();
    let (counter, places) = (Arc::clone(&read), Arc::clone(&opened));
    let open = move |epoch, first| {
        places.lock().unwrap().push(first);
        let counter = Arc::clone(&counter);
        Ok(numbers(epoch, first, 1_000_000).inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }))
    };
    let mut loader = StreamLoader::seekable(8, open).unwrap().shuffle(1, 100);
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.skip(100_003).unwrap(), 100_003);
    // The buffer in which the last batch begins, and the one in which it ends.
    assert_eq!(*opened.lock().unwrap(), [0, 800_000]);
    assert!(read.load(Ordering::Relaxed) <= 200, "{read:?}");
    // One batch after the other, as a loader of several tasks does, opens nothing.
    for _ in 0..1000 {
        assert_eq!(loader.skip(1).unwrap(), 1);
    }
    assert_eq!(opened.lock().unwrap().len(), 2);
}

#[test]
fn converted_batches_are_passed_over_without_converting() {
    let converted = Rc::<RefCell<Vec<Vec<u64>>>>::default();
    let told = Rc::clone(&converted);
    let mut loader = replayed(100, 4).shuffle(2, 9).map(move |batch| {
        told.borrow_mut().push(batch);
        Ok(())
    });
    loader.start_epoch(1).unwrap();
    loader.skip(20).unwrap();
    assert!(converted.borrow().is_empty());
    loader.next_batch().unwrap();
    assert_eq!(converted.borrow().len(), 1);
}

#[test]
fn an_error_is_of_one_batch() {
    let stream = |_| {
        Ok((0..10u64).map(|number| match number {
            4 => Err(Error::other("record 4 is damaged")),
            number => Ok(number),
        }))
    };
    let mut loader = StreamLoader::new(2, stream).unwrap();
    loader.start_epoch(1).unwrap();
    let expected = [
        Ok(vec![0, 1]),
        Ok(vec![2, 3]),
        Err("record 4 is damaged".to_owned()),
        Ok(vec![6, 7]),
        Ok(vec![8, 9]),
    ];
    assert_eq!(rest(&mut loader), expected);
    let mut loader = StreamLoader::new(2, stream).unwrap().shuffle(1, 7);
    loader.start_epoch(1).unwrap();
    let batches = rest(&mut loader);
    let errors = batches.iter().filter(|batch| batch.is_err()).count();
    assert_eq!((batches.len(), errors), (5, 1));
}

#[test]
fn what_cannot_work_is_told() {
    let error = StreamLoader::new(0, |epoch| Ok(numbers(epoch, 0, 1))).unwrap_err();
    assert_eq!(error.to_string(), "batch_size: must be at least 1, got 0");
    let mut closed = StreamLoader::new(1, |_| -> Result<std::iter::Empty<Result<u64>>> {
        Err(Error::other("no such table"))
    })
    .unwrap();
    assert_eq!(
        closed.start_epoch(1).unwrap_err().to_string(),
        "no such table"
    );
    assert!(closed.next_batch().is_err() && closed.skip(1).is_err());
    let mut short = replayed(5, 2);
    short.start_epoch(1).unwrap();
    assert_eq!(short.skip(u64::MAX).unwrap(), 3);
    let mut short = sought(5, 2).shuffle(1, 10_000);
    short.start_epoch(1).unwrap();
    assert_eq!(short.skip(u64::MAX).unwrap(), 3);
    // A stream that does not end, and leaves nothing out.
    let open = |_epoch, _first| Ok(std::iter::repeat_with(|| Ok(7u64)));
    let mut endless = StreamLoader::seekable(1, open).unwrap();
    endless.start_epoch(1).unwrap();
    assert_eq!(endless.skip(u64::MAX).unwrap(), u64::MAX);
    assert_eq!(endless.next_batch().unwrap(), Some(vec![7]));
    assert_eq!(replayed(5, 2).num_batches(), None);
    assert_eq!(replayed(5, 2).with_num_batches(3).num_batches(), Some(3));
}
