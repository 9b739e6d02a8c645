//! A loader that begins an epoch anew and passes over n batches gives what one that took n
//! batches would have given, whatever epochs it has seen before.

use std::cell::Cell;

use tch::Tensor;
use textbrewer::data::{DataLoader, ExampleLoader, FnLoader, TaskLoader, TensorLoader, VecLoader};
use textbrewer::{Batch, Result};

fn numbers(count: i64) -> Vec<Tensor> {
    (0..count).map(Tensor::from).collect()
}

/// Batches as text, with their numbers.
type Seen = Vec<(String, Option<u64>)>;

fn take<L: DataLoader>(loader: &mut L, count: usize) -> Seen
where
    L::Batch: std::fmt::Debug,
{
    let mut seen = Vec::new();
    while seen.len() < count {
        let Some(batch) = loader.next_batch().unwrap() else {
            break;
        };
        seen.push((format!("{batch:?}"), loader.batch_id()));
    }
    seen
}

/// Compares a loader that goes on with one that begins at every position of its first three
/// epochs, of which at most `most` batches are looked at.
fn check<L: DataLoader>(what: &str, make: impl Fn() -> L, most: usize)
where
    L::Batch: std::fmt::Debug,
{
    let mut whole = make();
    let mut different = 0;
    for epoch in 1..=3 {
        whole.start_epoch(epoch).unwrap();
        let expected = take(&mut whole, most);
        for skipped in 0..=expected.len() {
            let mut fresh = make();
            fresh.start_epoch(epoch).unwrap();
            assert_eq!(
                fresh.skip(skipped as u64).unwrap(),
                skipped as u64,
                "{what}"
            );
            let rest = take(&mut fresh, expected.len() - skipped);
            assert_eq!(
                rest,
                expected[skipped..],
                "{what}, epoch {epoch}, {skipped}"
            );
            different += usize::from(rest != expected);
            // In two parts, the second after a batch.
            if skipped > 2 {
                fresh.start_epoch(epoch).unwrap();
                fresh.skip(1).unwrap();
                take(&mut fresh, 1);
                fresh.skip(skipped as u64 - 2).unwrap();
                let rest = take(&mut fresh, expected.len() - skipped);
                assert_eq!(
                    rest,
                    expected[skipped..],
                    "{what}, epoch {epoch}, {skipped}"
                );
            }
        }
    }
    assert!(different > 0, "{what}: nothing was passed over");
}

fn tensors() -> TensorLoader {
    let rows = Tensor::arange(13, (tch::Kind::Int64, tch::Device::Cpu));
    TensorLoader::new(vec![rows], 3).unwrap().shuffle(5)
}

/// A batch that shows its numbers.
#[derive(Debug, Clone)]
struct Numbers(#[allow(dead_code)] Vec<i64>);

impl Batch for Numbers {
    fn to_device(&self, _device: tch::Device) -> Result<Self> {
        Ok(self.clone())
    }
}

fn shown(tensors: Vec<Tensor>) -> Result<Numbers> {
    Ok(Numbers(Vec::try_from(&tensors[0]).unwrap()))
}

fn one(tensor: Tensor) -> Result<Numbers> {
    Ok(Numbers(vec![tensor.int64_value(&[])]))
}

#[test]
fn every_loader_comes_back_to_its_position() {
    check(
        "VecLoader",
        || VecLoader::new(numbers(7)).unwrap().shuffle(3).map(one),
        100,
    );
    check("TensorLoader", || tensors().map(shown), 100);
    check("drop_last", || tensors().drop_last().map(shown), 100);
    check(
        "ExampleLoader",
        || {
            let collate = |examples: &[&i64]| Ok(examples.iter().map(|n| **n).collect::<Vec<_>>());
            ExampleLoader::new((0..11).collect(), 2, collate)
                .unwrap()
                .shuffle(1)
        },
        100,
    );
    check(
        "FnLoader",
        || FnLoader::new(|epoch| Ok((0..6).map(move |n| Ok(10 * epoch + n)))),
        100,
    );
    check("Fixed", || tensors().map(shown).fixed().shuffle(9), 100);
    check("Fixed, in order", || tensors().map(shown).fixed(), 100);
    check("Prefetch", || tensors().prefetch(2).map(shown), 100);
    check(
        "Prefetch of Fixed",
        || tensors().fixed().shuffle(2).prefetch(1).map(shown),
        100,
    );
    check("boxed", || Box::new(tensors()).map(shown), 100);
}

#[test]
fn tasks_come_back_to_their_positions() {
    let tasks = || {
        TaskLoader::new()
            .task("a", tensors().map(shown))
            .task("b", VecLoader::new(numbers(2)).unwrap().shuffle(1).map(one))
            .task("c", tensors().map(shown).fixed().shuffle(4))
            .tau(0.5)
            .seed(8)
    };
    check("TaskLoader", tasks, 40);
    check(
        "TaskLoader with an order",
        || tasks().order(["b", "a", "b", "c"]),
        40,
    );
}

#[test]
fn past_the_end_there_is_nothing() {
    let mut loader = tensors();
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.skip(u64::MAX).unwrap(), 5);
    assert!(loader.next_batch().unwrap().is_none());
    assert_eq!(loader.skip(1).unwrap(), 0);
    let mut stream = FnLoader::new(|_| Ok((0..3).map(Ok)));
    stream.start_epoch(1).unwrap();
    assert_eq!(stream.skip(10).unwrap(), 3);
    let mut ahead = tensors().prefetch(1);
    ahead.start_epoch(1).unwrap();
    assert_eq!(ahead.skip(10).unwrap(), 5);
    assert!(ahead.next_batch().unwrap().is_none());
}

#[test]
fn without_an_epoch_it_is_an_error() {
    assert!(tensors().skip(1).is_err());
    assert!(VecLoader::new(numbers(2)).unwrap().skip(1).is_err());
    assert!(VecLoader::new(numbers(2)).unwrap().fixed().skip(1).is_err());
    assert!(tensors().prefetch(1).skip(1).is_err());
}

#[test]
fn nothing_is_made_or_converted_where_it_need_not_be() {
    let made = Cell::new(0);
    let mut loader = ExampleLoader::new((0..10).collect(), 1, |examples: &[&i64]| {
        made.set(made.get() + 1);
        Ok(*examples[0])
    })
    .unwrap()
    .map(|number| {
        made.set(made.get() + 100);
        Ok(number)
    });
    loader.start_epoch(1).unwrap();
    loader.skip(8).unwrap();
    assert_eq!(made.get(), 0);
    assert_eq!(loader.next_batch().unwrap(), Some(8));
    assert_eq!(made.get(), 101);
}
