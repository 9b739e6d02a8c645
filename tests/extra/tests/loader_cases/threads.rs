//! Batches converted in several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use proptest::prelude::*;
use textbrewer::data::{DataLoader, FnLoader};
use textbrewer::{Error, Result};

use super::{comes_back, rest};

/// The numbers from 0; those that 7 divides are errors of the loader.
fn numbers(len: u64) -> impl DataLoader<Batch = u64> + Send {
    FnLoader::new(move |epoch| {
        Ok((1..=len).map(move |number| match number % 7 {
            0 => Err(Error::other(format!("no number {number}"))),
            _ => Ok(1000 * epoch + number),
        }))
    })
}

/// The digits of a number; 5 divides some of them.
fn digits(number: u64) -> Result<String> {
    match number % 5 {
        0 => Err(Error::other(format!("5 divides {number}"))),
        // Some take longer than others.
        1 => Ok((0..5000)
            .fold(number, |sum, _| std::hint::black_box(sum))
            .to_string()),
        _ => Ok(number.to_string()),
    }
}

proptest! {
    #[test]
    fn batches_and_errors_are_those_of_map(len in 0u64..40, threads in 0usize..6) {
        let mut plain = numbers(len).map(digits);
        let mut threaded = numbers(len).map_in_threads(threads, digits);
        for epoch in 1..=2 {
            plain.start_epoch(epoch).unwrap();
            threaded.start_epoch(epoch).unwrap();
            prop_assert_eq!(rest(&mut threaded), rest(&mut plain));
            prop_assert!(threaded.next_batch().unwrap().is_none());
        }
    }
}

#[test]
fn every_place_is_come_back_to() {
    let loader = || FnLoader::new(|epoch| Ok((0..9).map(move |number| Ok(100 * epoch + number))));
    let text = |number: u64| Ok(number.to_string());
    comes_back(|| loader().map_in_threads(1, text));
    comes_back(|| loader().map_in_threads(3, text));
    comes_back(|| loader().prefetch(2).map_in_threads(2, text).prefetch(1));
}

/// Says when a conversion begins, and lets it end.
struct Gate {
    begun: Receiver<u64>,
    go: Sender<()>,
}

impl Gate {
    fn new() -> (Self, impl Fn(u64) -> Result<u64> + Send + Sync) {
        let (begins, begun) = channel();
        let (go, goes) = channel();
        let goes = Mutex::new(goes);
        let convert = move |number| {
            begins.send(number).map_err(Error::other)?;
            // After the test it goes on in any case.
            let _ = goes.lock().unwrap().recv();
            Ok(number)
        };
        (Gate { begun, go }, convert)
    }
}

#[test]
fn all_threads_work_at_the_same_time() {
    let (gate, convert) = Gate::new();
    let mut loader = FnLoader::new(|_| Ok((0..100u64).map(Ok))).map_in_threads(3, convert);
    loader.start_epoch(1).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            assert_eq!(loader.next_batch().unwrap(), Some(0));
            loader
        });
        // Three are begun although none has come to its end.
        let mut begun: Vec<_> = gate.begun.iter().take(3).collect();
        begun.sort_unstable();
        assert_eq!(begun, [0, 1, 2]);
        drop(gate.go);
        drop(first.join().unwrap());
    });
    // The first, and no more than were under way.
    assert!(gate.begun.iter().count() + 3 <= 6);
}

#[test]
fn no_more_is_taken_than_the_threads_can_use() {
    for (threads, taken) in [(1, 1), (1, 5), (4, 1), (4, 9)] {
        let read = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&read);
        let loader = FnLoader::new(move |_| {
            let counter = Arc::clone(&counter);
            Ok((0u64..).map(move |number| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(number)
            }))
        });
        let mut loader = loader.map_in_threads(threads, Ok);
        loader.start_epoch(1).unwrap();
        assert_eq!(read.load(Ordering::SeqCst), 0);
        for number in 0..taken {
            assert_eq!(loader.next_batch().unwrap(), Some(number));
        }
        let expected = taken as usize - 1 + 2 * threads;
        assert_eq!(read.load(Ordering::SeqCst), expected);
    }
}

#[test]
fn a_loader_that_fails_is_asked_again_when_that_was_told() {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let loader = FnLoader::new(move |_| {
        let counter = Arc::clone(&counter);
        Ok((0..6u64).map(move |number| {
            counter.fetch_add(1, Ordering::SeqCst);
            match number {
                3 => Err(Error::other("no such row")),
                number => Ok(number),
            }
        }))
    });
    let mut loader = loader.map_in_threads(2, Ok);
    for _ in 0..2 {
        asked.store(0, Ordering::SeqCst);
        loader.start_epoch(1).unwrap();
        for number in 0..3 {
            assert_eq!(loader.next_batch().unwrap(), Some(number));
            assert_eq!(asked.load(Ordering::SeqCst), 4);
        }
        let error = loader.next_batch().unwrap_err().to_string();
        assert_eq!(
            (error.as_str(), asked.load(Ordering::SeqCst)),
            ("no such row", 4)
        );
        assert_eq!(rest(&mut loader), [Ok(4), Ok(5)]);
    }
    // Passing over the error counts as telling it.
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.next_batch().unwrap(), Some(0));
    assert_eq!(loader.skip(3).unwrap(), 3);
    assert_eq!(rest(&mut loader), [Ok(4), Ok(5)]);
    // So does another epoch.
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.next_batch().unwrap(), Some(0));
    loader.start_epoch(2).unwrap();
    assert_eq!(rest(&mut loader).len(), 6);
}

#[test]
fn what_is_passed_over_is_not_converted() {
    let converted = Arc::<Mutex<Vec<u64>>>::default();
    let told = Arc::clone(&converted);
    let mut loader = FnLoader::new(|_| Ok((0..50u64).map(Ok))).map_in_threads(2, move |number| {
        told.lock().unwrap().push(number);
        Ok(number)
    });
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.skip(48).unwrap(), 48);
    assert_eq!(rest(&mut loader), [Ok(48), Ok(49)]);
    drop(loader);
    let mut converted = converted.lock().unwrap().clone();
    converted.sort_unstable();
    assert_eq!(converted, [48, 49]);
}

#[test]
fn a_panic_is_an_error_of_its_batch() {
    let convert = |number: u64| match number {
        2 => panic!("no token {number}"),
        number => Ok(number),
    };
    for threads in [1, 3] {
        let mut loader = FnLoader::new(|_| Ok((0..5).map(Ok))).map_in_threads(threads, convert);
        for epoch in 1..=2 {
            loader.start_epoch(epoch).unwrap();
            let panicked = Err("converting a batch panicked: no token 2".to_owned());
            let expected = [Ok(0), Ok(1), panicked, Ok(3), Ok(4)];
            assert_eq!(rest(&mut loader), expected);
        }
    }
}

#[test]
fn a_new_epoch_drops_what_was_not_begun() {
    let (gate, convert) = Gate::new();
    let numbers = FnLoader::new(|epoch| Ok((0..20).map(move |number| Ok(100 * epoch + number))));
    let mut loader = numbers.map_in_threads(2, convert);
    loader.start_epoch(1).unwrap();
    for _ in 0..2 {
        gate.go.send(()).unwrap();
    }
    for number in [100, 101] {
        assert_eq!(loader.next_batch().unwrap(), Some(number));
    }
    // Both threads are busy with 102 and 103, and 104 waits for one of them.
    let mut begun: Vec<_> = gate.begun.iter().take(4).collect();
    begun.sort_unstable();
    assert_eq!(begun, [100, 101, 102, 103]);
    loader.start_epoch(2).unwrap();
    drop(gate.go);
    assert_eq!(loader.next_batch().unwrap(), Some(200));
    drop(loader);
    // The threads are gone, and their end of the channel with them.
    assert!(gate.begun.iter().all(|number| number >= 200));
}

#[test]
fn an_epoch_that_cannot_begin_is_told() {
    let loader = FnLoader::new(|epoch| match epoch {
        2 => Err(Error::other("no such epoch")),
        _ => Ok((0..2u64).map(Ok)),
    });
    let mut loader = loader.map_in_threads(2, Ok);
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(
        error.starts_with("data loader: `next_batch` was called"),
        "{error}"
    );
    assert!(loader.start_epoch(2).is_err());
    loader.start_epoch(1).unwrap();
    assert_eq!(rest(&mut loader), [Ok(0), Ok(1)]);
}
