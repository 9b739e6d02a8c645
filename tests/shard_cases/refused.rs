//! What cannot be shared out, and errors in batches.

use tch::{Kind, Tensor};
use textbrewer::Error;
use textbrewer::data::{DataLoader, FnLoader, Shard, TensorLoader, Uneven, VecLoader};

use crate::{rest, shard};

fn rows(len: i64, batch_size: usize) -> TensorLoader {
    let rows = Tensor::arange(len, (Kind::Int64, tch::Device::Cpu));
    TensorLoader::new(vec![rows], batch_size).unwrap()
}

#[test]
fn ranks_count_from_0() {
    for (rank, world_size, message) in [
        (0, 0, "world_size: must be 1 to 2147483647, got 0"),
        (
            0,
            usize::MAX,
            "world_size: must be 1 to 2147483647, got 18446744073709551615",
        ),
        (
            2,
            2,
            "rank: must be below world_size = 2, for ranks count from 0; got 2",
        ),
    ] {
        let error = Shard::new(rank, world_size).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_share_of_nothing_is_told() {
    let drop = shard(0, 4, Uneven::Drop);
    let numbers = (0..3i64).map(Tensor::from).collect();
    for (error, message) in [
        (
            rows(7, 2).drop_last().shard(drop).start_epoch(1),
            "drop_last: leaves no batch: 7 examples are fewer than batch_size = 2 × 4 processes",
        ),
        (
            rows(3, 2).shard(drop).start_epoch(1),
            "shard: Uneven::Drop leaves no batch: 3 examples are fewer than 4 processes; use \
             fewer processes, or Uneven::Pad",
        ),
        (
            VecLoader::new(numbers).unwrap().shard(drop).start_epoch(1),
            "shard: Uneven::Drop leaves no batch: 3 batches are fewer than 4 processes; use \
             fewer processes, or Uneven::Pad",
        ),
    ] {
        assert_eq!(error.unwrap_err().to_string(), message);
    }
    // Other ranks have something.
    let mut last = rows(3, 2).shard(shard(3, 4, Uneven::Keep));
    last.start_epoch(1).unwrap();
    assert!(last.next_batch().unwrap().is_none());
}

#[test]
fn numbers_do_not_overflow() {
    for uneven in [Uneven::Pad, Uneven::Keep] {
        let share = shard(2_147_483_646, 2_147_483_647, uneven);
        let mut loader = rows(3, usize::MAX).shard(share);
        loader.start_epoch(1).unwrap();
        assert_eq!(
            loader.skip(u64::MAX).unwrap(),
            u64::from(uneven == Uneven::Pad)
        );
        let mut stream = FnLoader::new(|_| Ok((0..3).map(Ok))).shard(share);
        stream.start_epoch(1).unwrap();
        let padded = (uneven == Uneven::Pad).then_some(2_147_483_646 % 3);
        assert_eq!(stream.next_batch().unwrap(), padded);
        stream.start_epoch(1).unwrap();
        assert_eq!(
            stream.skip(u64::MAX).unwrap(),
            u64::from(uneven == Uneven::Pad)
        );
        assert!(stream.next_batch().unwrap().is_none());
    }
}

#[test]
fn an_error_is_that_of_its_rank_and_its_step() {
    let damaged = || {
        let read = |n| match n {
            2 => Err(Error::other("batch 2 is damaged")),
            n => Ok(n),
        };
        FnLoader::new(move |_| Ok((0..6).map(read)))
    };
    for uneven in [Uneven::Pad, Uneven::Drop, Uneven::Keep] {
        let mut ours = damaged().shard(shard(0, 2, uneven));
        ours.start_epoch(1).unwrap();
        assert_eq!(ours.next_batch().unwrap(), Some(0));
        let error = ours.next_batch().unwrap_err();
        assert_eq!(error.to_string(), "batch 2 is damaged");
        // As every loader of the crate, it goes on with the next batch.
        assert_eq!(rest(&mut ours, 9), [(4, None)]);

        let mut other = damaged().shard(shard(1, 2, uneven));
        other.start_epoch(1).unwrap();
        assert_eq!(other.next_batch().unwrap(), Some(1));
        let error = other.next_batch().unwrap_err();
        assert_eq!(error.to_string(), "batch 2 is damaged");
        // Where the loader is after that is not known.
        assert!(matches!(other.next_batch(), Err(Error::Protocol { .. })));
        other.start_epoch(1).unwrap();
        assert_eq!(other.next_batch().unwrap(), Some(1));
    }
}

#[test]
fn an_epoch_that_becomes_shorter_cannot_fill_up_another() {
    let mut opened = 0;
    let shrinking = FnLoader::new(move |_| {
        opened += 1;
        Ok((0..if opened == 1 { 3 } else { 0 }).map(Ok))
    });
    let mut share = shrinking.shard(Shard::new(1, 2).unwrap());
    share.start_epoch(1).unwrap();
    assert_eq!(share.next_batch().unwrap(), Some(1));
    assert_eq!(
        share.next_batch().unwrap_err().to_string(),
        "data loader: gave 3 batches, and fewer when the same epoch was started again to share \
         them out evenly; give every epoch the same batches each time, or choose Uneven::Drop"
    );
}

#[test]
fn without_an_epoch_there_is_no_batch() {
    let mut share = FnLoader::new(|_| Ok((0..3).map(Ok))).shard(Shard::new(1, 2).unwrap());
    assert!(share.next_batch().is_err() && share.skip(1).is_err());
    let mut share = rows(3, 1).shard(Shard::new(1, 2).unwrap());
    assert!(share.next_batch().is_err() && share.skip(1).is_err());
}
