//! Ids of examples: always the same for the same example.

use tch::{Device, Kind, Tensor};
use textbrewer::data::{
    DataLoader, ExampleLoader, FnLoader, LineLoader, Shard, StreamLoader, TaskLoader, TensorLoader,
    Uneven, VecLoader,
};
use textbrewer::{Batch, Error, Ids, Result};

use super::lines::Files;

const EXAMPLES: u64 = 23;

/// A loader with the places of its examples as their contents tell them.
type Known = Box<dyn DataLoader<Batch = Vec<u64>>>;

/// Examples of very different lengths.
fn text(number: u64) -> String {
    format!("{}{number}", "x".repeat(number as usize * 7 % 11))
}

fn number(text: &str) -> u64 {
    text.trim_start_matches('x').parse().unwrap()
}

/// Two files with headers and empty lines.
fn files() -> Files {
    let files = Files::new();
    let of = |numbers: std::ops::Range<u64>| {
        let lines =
            numbers.map(|number| format!("{}\n{}", text(number), "\n".repeat(number as usize % 3)));
        format!("\nheader\n{}", lines.collect::<String>())
    };
    files.write("one", of(0..9));
    files.write("two", of(9..EXAMPLES));
    files
}

fn lines(files: &Files, batch_size: usize) -> LineLoader {
    let paths = ["one", "two"].map(|name| files.path().join(name));
    LineLoader::new(paths, batch_size)
        .unwrap()
        .skip_header()
        .unwrap()
}

fn lines_of<L: DataLoader<Batch = Vec<textbrewer::data::Line>> + 'static>(loader: L) -> Known {
    Box::new(loader.map(|lines| Ok(lines.iter().map(|line| number(line.text())).collect())))
}

fn examples(batch_size: usize) -> ExampleLoader<String, impl Fn(&[&String]) -> Result<Vec<u64>>> {
    let collate = |texts: &[&String]| Ok(texts.iter().map(|text| number(text)).collect());
    ExampleLoader::new((0..EXAMPLES).map(text).collect(), batch_size, collate).unwrap()
}

fn tensors(batch_size: usize) -> TensorLoader {
    let rows = Tensor::arange(EXAMPLES as i64, (Kind::Int64, Device::Cpu)).reshape([-1, 1]);
    TensorLoader::new(vec![rows], batch_size).unwrap()
}

fn rows(loader: TensorLoader) -> Known {
    Box::new(loader.map(|tensors| {
        let rows = Vec::<i64>::try_from(tensors[0].flatten(0, -1))?;
        Ok(rows.iter().map(|row| *row as u64).collect())
    }))
}

fn numbers(first: usize) -> impl Iterator<Item = Result<u64>> + Send {
    (first as u64..EXAMPLES).map(Ok)
}

fn stream(batch_size: usize) -> StreamLoader<'static, u64> {
    StreamLoader::new(batch_size, |_| Ok(numbers(0))).unwrap()
}

fn sought(batch_size: usize) -> StreamLoader<'static, u64> {
    StreamLoader::seekable(batch_size, |_, first| Ok(numbers(first))).unwrap()
}

/// Every loader that knows its examples, in every order it can have.
fn loaders(files: &Files, size: usize, seed: u64) -> Vec<(&'static str, Known)> {
    let length = |text: &String| text.len();
    vec![
        ("tensors", rows(tensors(size))),
        ("tensors, shuffled", rows(tensors(size).shuffle(seed))),
        ("examples", Box::new(examples(size))),
        ("examples, shuffled", Box::new(examples(size).shuffle(seed))),
        (
            "examples, grouped",
            Box::new(examples(size).group_by_length(2, length)),
        ),
        (
            "examples, shuffled and grouped",
            Box::new(examples(size).shuffle(seed).group_by_length(2, length)),
        ),
        ("lines", lines_of(lines(files, size))),
        (
            "lines, shuffled",
            lines_of(lines(files, size).shuffle(seed)),
        ),
        (
            "lines, shuffled and grouped",
            lines_of(lines(files, size).shuffle(seed).group_by_length(2)),
        ),
        ("stream", Box::new(stream(size))),
        ("stream, shuffled", Box::new(stream(size).shuffle(seed, 7))),
        ("stream that seeks", Box::new(sought(size))),
        (
            "stream that seeks, shuffled",
            Box::new(sought(size).shuffle(seed, 7)),
        ),
        (
            "stream, cut",
            Box::new(stream(size).shuffle(seed, 7).drop_last()),
        ),
    ]
}

/// Takes what is left of an epoch, and compares.
fn known_rest<L: DataLoader<Batch = (Ids, Vec<u64>)>>(loader: &mut L, what: &str) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some((ids, examples)) = loader.next_batch().unwrap() {
        assert_eq!(ids.to_vec(), examples, "{what}");
        assert_eq!(loader.example_ids(), Some(ids), "{what}");
        all.extend(examples);
    }
    assert_eq!(loader.example_ids(), None, "{what}, at the end");
    all
}

#[test]
fn an_example_has_its_id_in_every_order() {
    let files = files();
    for (size, seed) in [(1, 1), (2, 2), (5, 3), (40, 4)] {
        for (what, loader) in loaders(&files, size, seed) {
            let mut loader = loader.with_ids();
            assert_eq!(loader.example_ids(), None, "{what}");
            for epoch in 1..=2 {
                let what = format!("{what}, {size} at a time, epoch {epoch}");
                loader.start_epoch(epoch).unwrap();
                assert_eq!(loader.example_ids(), None, "{what}");
                let mut all = known_rest(&mut loader, &what);
                all.sort_unstable();
                let cut = what
                    .contains("cut")
                    .then_some(EXAMPLES / size as u64 * size as u64);
                let expected: Vec<_> = (0..cut.unwrap_or(EXAMPLES)).collect();
                match cut {
                    Some(_) => assert_eq!(all.len(), expected.len(), "{what}"),
                    None => assert_eq!(all, expected, "{what}"),
                }
            }
        }
    }
}

#[test]
fn an_example_has_its_id_where_an_epoch_is_resumed() {
    let files = files();
    for place in 0..loaders(&files, 3, 5).len() {
        for skipped in 0..8 {
            for taken in 0..3 {
                let (what, loader) = loaders(&files, 3, 5).swap_remove(place);
                let what = format!("{what}, {taken} taken and {skipped} skipped");
                let mut loader = loader.with_ids();
                loader.start_epoch(2).unwrap();
                for _ in 0..taken {
                    let (ids, examples) = loader.next_batch().unwrap().unwrap();
                    assert_eq!(ids.to_vec(), examples, "{what}");
                }
                loader.skip(skipped).unwrap();
                if skipped > 0 {
                    assert_eq!(loader.example_ids(), None, "{what}");
                }
                known_rest(&mut loader, &what);
            }
        }
    }
}

#[test]
fn an_example_has_its_id_in_every_share() {
    let files = files();
    for (ranks, size) in [(2, 3), (3, 2), (4, 7)] {
        for uneven in [Uneven::Pad, Uneven::Keep, Uneven::Drop] {
            for place in 0..loaders(&files, size, 5).len() {
                let mut all = Vec::new();
                for rank in 0..ranks {
                    let (what, loader) = loaders(&files, size, 5).swap_remove(place);
                    let what = format!("{what}: {rank} of {ranks}, {uneven:?}");
                    let shard = Shard::new(rank, ranks).unwrap().with_uneven(uneven);
                    // The ids behind the share, and before it.
                    let mut behind = loader.shard(shard).with_ids();
                    behind.start_epoch(1).unwrap();
                    let share = known_rest(&mut behind, &what);
                    let (_, loader) = loaders(&files, size, 5).swap_remove(place);
                    let mut before = loader.with_ids().shard(shard);
                    before.start_epoch(1).unwrap();
                    assert_eq!(known_rest(&mut before, &what), share, "{what}");
                    before.start_epoch(2).unwrap();
                    before.skip(1).unwrap();
                    known_rest(&mut before, &what);
                    all.extend(share);
                }
                all.sort_unstable();
                let (what, _) = loaders(&files, size, 5).swap_remove(place);
                if uneven == Uneven::Keep && !what.contains("cut") {
                    assert_eq!(all, (0..EXAMPLES).collect::<Vec<_>>(), "{what}");
                }
            }
        }
    }
}

#[test]
fn what_works_ahead_hands_on_the_ids_in_its_batches() {
    fn check<L: DataLoader<Batch = (Ids, Vec<u64>)>>(mut loader: L) {
        for epoch in 1..=2 {
            for skipped in [0, 2] {
                loader.start_epoch(epoch).unwrap();
                loader.skip(skipped).unwrap();
                while let Some(batch) = loader.next_batch().unwrap() {
                    assert_eq!(Batch::ids(&batch).unwrap().to_vec(), batch.1);
                }
            }
        }
    }
    check(examples(3).shuffle(1).with_ids().prefetch(2));
    check(examples(3).shuffle(1).with_ids().map_in_threads(2, Ok));
    check(examples(3).shuffle(1).with_ids().fixed().shuffle(2));
    check(stream(3).shuffle(1, 7).with_ids().fixed().shuffle(2));
    check(&mut examples(3).shuffle(1).with_ids());
    // A batch of a task has those of the loader of the task.
    let mut tasks = TaskLoader::new().task("a", examples(3).shuffle(1).with_ids());
    for batch in tasks.epoch(1).unwrap().take(9) {
        let batch = batch.unwrap();
        assert_eq!(batch.ids().unwrap().to_vec(), batch.batch.1);
    }
}

#[test]
fn a_loader_that_knows_no_ids_says_what_to_do() {
    fn check<L: DataLoader>(loader: L) {
        let mut loader = loader.with_ids();
        loader.start_epoch(1).unwrap();
        let error = loader.next_batch().map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }));
        let expected = "data loader, with_ids: the loader does not know which examples its batch \
                        has; call `with_ids` right behind the loader of the examples, before \
                        `prefetch`, `map_in_threads` and `fixed`, or put `Ids` into the batch \
                        yourself";
        assert_eq!(error.to_string(), expected);
        assert_eq!(loader.example_ids(), None);
    }
    check(VecLoader::new(vec![1u64, 2]).unwrap());
    check(FnLoader::new(|_| Ok((0..3u64).map(Ok))));
    check(TaskLoader::new().task("a", examples(3)));
    check(examples(3).prefetch(2));
    check(examples(3).map_in_threads(2, Ok));
    check(tensors(3).fixed());
    check(FnLoader::new(|_| Ok((0..3u64).map(Ok))).shard(Shard::new(1, 2).unwrap()));
}

/// Keeps its batches, of two examples each, and knows the ids.
struct Own {
    next: u64,
    share: Option<Shard>,
}

impl DataLoader for Own {
    type Batch = u64;

    fn num_batches(&self) -> Option<usize> {
        Some(4)
    }

    fn start_epoch(&mut self, _epoch: u64) -> Result<()> {
        self.next = 0;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<u64>> {
        self.next += 1;
        Ok((self.next <= 4).then_some(self.next))
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_id(&self) -> Option<u64> {
        Some(self.next)
    }

    fn example_ids(&self) -> Option<Ids> {
        Some(Ids::from(vec![self.next, self.next + 100]))
    }

    fn take_share(&mut self, shard: Shard) -> bool {
        self.share = Some(shard);
        false
    }
}

#[test]
fn everything_else_is_handed_on() {
    let own = || Own {
        next: 0,
        share: None,
    };
    let mut own_one = own();
    let mut loader = (&mut own_one).with_ids();
    assert!(loader.keeps_batches());
    assert_eq!(loader.num_batches(), Some(4));
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.skip(2).unwrap(), 2);
    let ids = Ids::from(vec![3, 103]);
    assert_eq!(loader.next_batch().unwrap(), Some((ids, 3)));
    assert_eq!(loader.batch_id(), Some(3));
    let shard = Shard::new(1, 2).unwrap();
    assert!(!loader.take_share(shard));
    assert_eq!(own_one.share, Some(shard));

    // Batches that are dealt out have their own number and ids, whatever is skipped behind them.
    for uneven in [Uneven::Pad, Uneven::Drop] {
        let shard = Shard::new(0, 2).unwrap().with_uneven(uneven);
        let mut loader = own().shard(shard).with_ids();
        loader.start_epoch(1).unwrap();
        for expected in [1, 3] {
            let (ids, batch) = loader.next_batch().unwrap().unwrap();
            assert_eq!(
                (ids.to_vec(), batch),
                (vec![expected, expected + 100], expected)
            );
            assert_eq!(loader.batch_id(), Some(expected));
        }
    }
}

#[test]
fn a_batch_that_failed_has_no_ids() {
    /// The second batch fails, and the third has the next examples.
    fn check<L: DataLoader>(mut loader: L) {
        loader.start_epoch(1).unwrap();
        let mut next = || {
            let failed = loader.next_batch().is_err();
            (failed, loader.example_ids().map(|ids| ids.to_vec()))
        };
        assert_eq!(next(), (false, Some(vec![0, 1])));
        assert_eq!(next(), (true, None));
        assert_eq!(next(), (false, Some(vec![4, 5])));
    }
    let damaged = |number: &u64| match number {
        3 => Err(Error::other("damaged")),
        number => Ok(*number),
    };
    let all = || (0..EXAMPLES).collect::<Vec<_>>();
    let collate = |some: &[&u64]| {
        some.iter()
            .map(|number| damaged(number))
            .collect::<Result<Vec<_>>>()
    };
    check(ExampleLoader::new(all(), 2, collate).unwrap());
    let open = move |_| Ok((0..EXAMPLES).map(move |number| damaged(&number)));
    check(StreamLoader::new(2, open).unwrap());
    let convert = move |some: Vec<u64>| some.iter().map(damaged).collect::<Result<Vec<_>>>();
    check(stream(2).map(convert));
    check(stream(2).map(convert).shard(Shard::new(0, 1).unwrap()));
    check(Box::new(stream(2).map(convert)).with_ids());

    let files = files();
    let mut loader = lines(&files, 2);
    loader.start_epoch(1).unwrap();
    loader.next_batch().unwrap();
    files.write("one", "another file");
    assert!(loader.next_batch().is_err());
    assert_eq!(loader.example_ids(), None);
    // Another epoch or share forgets the batch.
    let mut loader = examples(2);
    loader.start_epoch(1).unwrap();
    loader.next_batch().unwrap();
    loader.take_share(Shard::new(0, 2).unwrap());
    assert_eq!(loader.example_ids(), None);
}
