//! Loaders with an order of examples: N processes do what one does with N times the batch size.

use std::io::Write;

use tch::{Device, Kind, Tensor};
use tempfile::NamedTempFile;
use textbrewer::data::{DataLoader, ExampleLoader, LineLoader, Shard, TensorLoader, Uneven};

use crate::{Boxed, UNEVEN, comes_back, epoch, shard};

type Make<'a> = &'a dyn Fn(usize, usize) -> Boxed<Vec<i64>>;

fn tensors(len: usize, batch_size: usize) -> TensorLoader {
    let rows = Tensor::arange(len as i64, (Kind::Int64, Device::Cpu));
    TensorLoader::new(vec![rows], batch_size).unwrap()
}

fn numbers(tensors: TensorLoader) -> Boxed<Vec<i64>> {
    Box::new(tensors.map(|tensors| Ok(Vec::try_from(&tensors[0])?)))
}

type Collate = fn(&[&i64]) -> textbrewer::Result<Vec<i64>>;

fn examples(len: usize, batch_size: usize) -> ExampleLoader<i64, Collate> {
    let collate: Collate = |examples| Ok(examples.iter().map(|n| **n).collect());
    ExampleLoader::new((0..len as i64).collect(), batch_size, collate).unwrap()
}

/// Lines of very different lengths, which are numbers from 0.
fn lines(file: &NamedTempFile, batch_size: usize) -> LineLoader {
    LineLoader::new([file.path()], batch_size).unwrap()
}

fn file(len: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for number in 0..len {
        writeln!(file, "{}{number}", "0".repeat(number * 7 % 11)).unwrap();
    }
    file
}

fn parsed(lines: LineLoader) -> Boxed<Vec<i64>> {
    Box::new(lines.map(|lines| {
        let parsed = lines.iter().map(|line| line.parse_with(str::parse::<i64>));
        parsed.collect()
    }))
}

/// What the shares of the last, incomplete piece are together.
fn shared_out(tail: &[i64], order: &[i64], world_size: usize, uneven: Uneven) -> Vec<i64> {
    let mut tail = tail.to_vec();
    match uneven {
        Uneven::Pad => {
            let mut again = order.iter().cycle();
            while !tail.len().is_multiple_of(world_size) {
                tail.extend(again.next());
            }
        }
        Uneven::Drop => tail.truncate(tail.len() / world_size * world_size),
        _ => {}
    }
    tail
}

fn check(what: &str, make: Make<'_>, drops_last: bool) {
    const BATCH: usize = 3;
    for world_size in 1..=4 {
        let piece = world_size * BATCH;
        let fewest = if drops_last { piece } else { 1 };
        for len in fewest..=2 * piece + 1 {
            for uneven in UNEVEN {
                let what = format!("{what}: {len} examples, {world_size} ranks, {uneven:?}");
                if uneven == Uneven::Drop && len < world_size {
                    continue;
                }
                let ranks = (0..world_size).map(|rank| shard(rank, world_size, uneven));
                let mut loaders: Vec<_> = ranks.map(|s| make(len, BATCH).shard(s)).collect();
                for number in [1, 2] {
                    let one = epoch(&mut make(len, piece), number);
                    let shares: Vec<_> = loaders.iter_mut().map(|l| epoch(l, number)).collect();
                    for (loader, share) in loaders.iter().zip(&shares) {
                        assert_eq!(loader.num_batches(), Some(share.len()), "{what}");
                        assert!(share.iter().all(|batch| !batch.is_empty()), "{what}");
                    }
                    same_steps(&what, &one, &shares, piece, uneven);
                }
            }
        }
    }
}

/// Compares each step of all ranks with the batch of one process.
fn same_steps(
    what: &str,
    one: &[Vec<i64>],
    shares: &[Vec<Vec<i64>>],
    piece: usize,
    uneven: Uneven,
) {
    let order = one.concat();
    for (step, expected) in one.iter().enumerate() {
        let parts: Vec<&[i64]> = shares
            .iter()
            .filter_map(|share| share.get(step).map(Vec::as_slice))
            .collect();
        let expected = match expected.len() == piece {
            true => expected.clone(),
            false => shared_out(expected, &order, shares.len(), uneven),
        };
        assert_eq!(parts.concat(), expected, "{what}, step {step}");
        let sizes: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
            continue;
        };
        match uneven {
            Uneven::Keep => assert!(
                sizes.is_sorted_by(|a, b| a >= b) && first - last <= 1,
                "{what}: {sizes:?}"
            ),
            _ => assert!(
                sizes.len() == shares.len() && first == last,
                "{what}: {sizes:?}"
            ),
        }
    }
    let steps = one.len();
    assert!(shares.iter().all(|share| share.len() <= steps), "{what}");
    if uneven != Uneven::Keep {
        assert!(
            shares.iter().all(|share| share.len() == shares[0].len()),
            "{what}"
        );
    }
}

#[test]
fn ranks_have_what_one_process_has() {
    check("tensors", &|len, size| numbers(tensors(len, size)), false);
    check(
        "shuffled tensors",
        &|len, size| numbers(tensors(len, size).shuffle(5)),
        false,
    );
    check(
        "full batches",
        &|len, size| numbers(tensors(len, size).shuffle(5).drop_last()),
        true,
    );
    check(
        "examples",
        &|len, size| Box::new(examples(len, size).shuffle(1)),
        false,
    );
}

#[test]
fn ranks_have_the_lines_that_one_process_has() {
    check(
        "lines",
        &|len, size| parsed(lines(&file(len), size).shuffle(3)),
        false,
    );
    check(
        "lines by length",
        &|len, size| parsed(lines(&file(len), size).group_by_length(2)),
        false,
    );
}

#[test]
fn all_ranks_of_a_step_have_like_lengths() {
    let grouped = |len, size| examples(len, size).group_by_length(4, |n| (n * 7 % 11) as usize);
    check(
        "by length",
        &|len, size| Box::new(grouped(len, size)),
        false,
    );
    check(
        "by length, shuffled",
        &|len, size| Box::new(grouped(len, size).shuffle(9)),
        false,
    );
    // Two groups of lengths are not mixed in any step.
    let mut ranks = [0, 1].map(|rank| {
        let loader = examples(24, 3).shuffle(4);
        let loader = loader.group_by_length(4, |n| [1, 100][usize::from(n % 2 == 0)]);
        loader.shard(Shard::new(rank, 2).unwrap())
    });
    let [first, second] = ranks.each_mut().map(|loader| epoch(loader, 1));
    for step in 0..4 {
        let step = [&first[step][..], &second[step]].concat();
        assert!(step.iter().all(|n| n % 2 == step[0] % 2), "{step:?}");
    }
}

#[test]
fn every_place_of_a_share_is_come_back_to() {
    for uneven in UNEVEN {
        for (len, rank) in [(26, 0), (26, 1), (25, 2), (24, 1), (2, 0), (2, 2), (4, 1)] {
            if uneven == Uneven::Drop && len < 3 {
                continue;
            }
            let share = shard(rank, 3, uneven);
            let make = || numbers(tensors(len, 2).shuffle(7)).shard(share);
            comes_back("tensors", make, 1, 100);
            comes_back("tensors", make, 2, 100);
        }
    }
}

/// PyTorch's `DistributedSampler(range(len), N, rank, shuffle=False)`: its indices are
/// `padded[rank::N]`, which with a batch size of 1 are ours.
#[test]
fn padding_is_that_of_the_distributed_sampler() {
    let share = |len, rank, ranks| {
        let mut loader = numbers(tensors(len, 1)).shard(Shard::new(rank, ranks).unwrap());
        epoch(&mut loader, 1).concat()
    };
    let of = |len, ranks| -> Vec<_> { (0..ranks).map(|rank| share(len, rank, ranks)).collect() };
    let expected = [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 0]];
    assert_eq!(of(11, 4), expected);
    assert_eq!(of(2, 5), [[0], [1], [0], [1], [0]]);
    // `num_samples = ceil(len / N)` with every batch size.
    for (len, batch_size) in [(11, 2), (12, 5), (13, 4), (3, 8)] {
        for rank in 0..4 {
            let loader = numbers(tensors(len, batch_size).shuffle(2));
            let mut loader = loader.shard(Shard::new(rank, 4).unwrap());
            assert_eq!(epoch(&mut loader, 1).concat().len(), len.div_ceil(4));
        }
    }
}
