//! Loaders: order, batch sizes, collation, and what they refuse.

use tch::{Device, Kind, Tensor};
use textbrewer::data::{
    DataLoader, ExampleLoader, FnLoader, TensorLoader, VecLoader, pad_to_longest,
};
use textbrewer::{Error, Result};

fn ints(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

fn arange(len: i64) -> Tensor {
    Tensor::arange(len, (Kind::Int64, Device::Cpu))
}

fn loader(len: i64, batch_size: usize) -> TensorLoader {
    let rows = arange(2 * len).reshape([len, 2]);
    TensorLoader::new(vec![rows, arange(len)], batch_size).unwrap()
}

/// The indices in the batches of one epoch.
fn indices(loader: &mut TensorLoader, epoch: u64) -> Vec<Vec<i64>> {
    let batches = loader.epoch(epoch).unwrap();
    batches.map(|batch| ints(&batch.unwrap()[1])).collect()
}

#[test]
fn tensors_come_in_batches_of_rows() {
    let mut loader = loader(5, 2);
    assert_eq!(loader.num_batches(), Some(3));
    let batches: Vec<_> = loader.epoch(1).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[1][0].size(), [2, 2]);
    assert_eq!(ints(&batches[1][0]), [4, 5, 6, 7]);
    assert_eq!(ints(&batches[2][0]), [8, 9]);
    assert_eq!(ints(&batches[2][1]), [4]);
}

#[test]
fn drop_last_leaves_out_what_is_not_full() {
    let mut cut = loader(5, 2).drop_last();
    assert_eq!(cut.num_batches(), Some(2));
    assert_eq!(indices(&mut cut, 1), [[0, 1], [2, 3]]);
    let mut even = loader(4, 2).drop_last();
    assert_eq!(indices(&mut even, 1), [[0, 1], [2, 3]]);
}

const RECORDED_EPOCH_1: [&[i64]; 3] = [&[8, 2, 7, 0], &[4, 6, 9, 3], &[1, 5]];
const RECORDED_EPOCH_2: [&[i64]; 3] = [&[8, 5, 7, 0], &[6, 3, 9, 1], &[2, 4]];

/// An order once given must stay: a seed written down in a paper means these numbers.
/// They come from an independent implementation in Python, `tests/reference/shuffle.py`.
#[test]
fn the_shuffled_order_depends_on_seed_and_epoch_alone() {
    let mut shuffled = loader(10, 4).shuffle(42);
    assert_eq!(indices(&mut shuffled, 1), RECORDED_EPOCH_1);
    assert_eq!(indices(&mut shuffled, 2), RECORDED_EPOCH_2);
    // The same whatever came before, and for every kind of loader.
    assert_eq!(indices(&mut shuffled, 1), RECORDED_EPOCH_1);
    let collate = |examples: &[&i64]| Ok(examples.iter().map(|&&i| i).collect::<Vec<_>>());
    let mut examples = ExampleLoader::new((0..10).collect(), 4, collate)
        .unwrap()
        .shuffle(42);
    let epoch: Vec<_> = examples.epoch(2).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(epoch, RECORDED_EPOCH_2);
    let batches = (0..10).map(Tensor::from).collect();
    let mut batches = VecLoader::new(batches).unwrap().shuffle(42);
    let epoch = batches
        .epoch(2)
        .unwrap()
        .map(|b| b.unwrap().int64_value(&[]));
    assert_eq!(epoch.collect::<Vec<_>>(), RECORDED_EPOCH_2.concat());
}

#[test]
fn rows_stay_together_when_shuffled() {
    let mut shuffled = loader(7, 3).shuffle(1);
    for batch in shuffled.epoch(1).unwrap() {
        let batch = batch.unwrap();
        let first = ints(&batch[0].select(1, 0));
        let doubled: Vec<_> = ints(&batch[1]).iter().map(|i| 2 * i).collect();
        assert_eq!(first, doubled);
    }
}

#[test]
fn a_vector_of_batches_is_shared_and_can_be_read_again() {
    let batches: Vec<_> = (0..3).map(|i| (arange(i + 1), arange(2))).collect();
    let address = batches[2].0.data_ptr();
    let mut loader = VecLoader::new(batches).unwrap();
    assert_eq!(loader.num_batches(), Some(3));
    for epoch in 1..3 {
        let batches: Vec<_> = loader.epoch(epoch).unwrap().collect::<Result<_>>().unwrap();
        let lengths: Vec<_> = batches.iter().map(|batch| batch.0.numel()).collect();
        assert_eq!(lengths, [1, 2, 3]);
        assert_eq!(batches[2].0.data_ptr(), address);
    }
}

#[test]
fn examples_are_padded_to_the_longest_of_their_batch() {
    let sentences = vec![vec![1, 2, 3], vec![4], vec![5, 6], vec![7; 9]];
    let mut loader = ExampleLoader::new(sentences, 2, |examples: &[&Vec<i64>]| {
        pad_to_longest(examples, -1, Some(5))
    })
    .unwrap();
    let batches: Vec<_> = loader.epoch(1).unwrap().collect::<Result<_>>().unwrap();
    let (ids, mask) = &batches[0];
    assert_eq!(ids.size(), [2, 3]);
    assert_eq!(ints(ids), [1, 2, 3, 4, -1, -1]);
    assert_eq!(ints(mask), [1, 1, 1, 1, 0, 0]);
    let (ids, mask) = &batches[1];
    assert_eq!(ids.size(), [2, 5]);
    assert_eq!(ints(ids), [5, 6, -1, -1, -1, 7, 7, 7, 7, 7]);
    assert_eq!(ints(mask), [1, 1, 0, 0, 0, 1, 1, 1, 1, 1]);
}

#[test]
fn ids_of_any_integers_are_padded() {
    fn check<T: Copy + TryInto<i64>>(ids: [T; 3], pad: T) {
        let sequences = [&ids[..2], &ids[2..]];
        let (ids, mask) = pad_to_longest(&sequences, pad, None).unwrap();
        assert_eq!((ids.kind(), mask.kind()), (Kind::Int64, Kind::Int64));
        assert_eq!(ints(&ids), [5, 6, 7, 9]);
        assert_eq!(ints(&mask), [1, 1, 1, 0]);
    }
    check([5u8, 6, 7], 9);
    check([5u16, 6, 7], 9);
    check([5u32, 6, 7], 9);
    check([5u64, 6, 7], 9);
    check([5usize, 6, 7], 9);
    check([5i8, 6, 7], 9);
    check([5i16, 6, 7], 9);
    check([5i32, 6, 7], 9);
    check([5i64, 6, 7], 9);
    check([5i128, 6, 7], 9);
    // Those of a tokenizer reach over the numbers with a sign.
    let (ids, _) = pad_to_longest(&[vec![u32::MAX]], 0, None).unwrap();
    assert_eq!(ints(&ids), [i64::from(u32::MAX)]);
    let (ids, _) = pad_to_longest(&[vec![-100i32], vec![1, 2]], -100, None).unwrap();
    assert_eq!(ints(&ids), [-100, -100, 1, 2]);
    let error = pad_to_longest(&[vec![1], vec![2, u64::MAX]], 0, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "padding to the longest sequence: expected numbers that fit into Int64, got a larger one: \
         id 1 of sequence 1"
    );
    // What is cut off is not looked at.
    assert!(pad_to_longest(&[vec![2, u64::MAX]], 0, Some(1)).is_ok());
    let error = pad_to_longest(&[[1u64]], u64::MAX, None)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("got a larger one: the padding"), "{error}");
}

#[test]
fn an_empty_sequence_among_others_is_all_padding() {
    let (ids, mask) = pad_to_longest(&[vec![], vec![3]], 9, None).unwrap();
    assert_eq!((ints(&ids), ints(&mask)), (vec![9, 3], vec![0, 1]));
}

#[test]
fn a_closure_can_give_batches_of_unknown_number() {
    let mut opened = Vec::new();
    let mut stream = FnLoader::new(|epoch| {
        opened.push(epoch);
        let broken = Err(Error::other("line 3 is no sentence"));
        Ok((0..2).map(move |i| Ok(10 * epoch + i)).chain([broken]))
    });
    assert_eq!(stream.num_batches(), None);
    let batches: Vec<_> = stream.epoch(4).unwrap().collect();
    assert_eq!(*batches[1].as_ref().unwrap(), 41);
    let error = batches[2].as_ref().unwrap_err();
    assert_eq!(error.to_string(), "line 3 is no sentence");
    let stream = stream.with_num_batches(3);
    assert_eq!(stream.num_batches(), Some(3));
    assert_eq!(opened, [4]);

    let mut closed = FnLoader::new(|_| -> Result<std::iter::Empty<Result<i64>>> {
        Err(Error::other("no such file"))
    });
    assert!(closed.epoch(1).is_err());
}

#[test]
fn loaders_can_be_lent_boxed_and_mapped() {
    fn count<L: DataLoader>(mut loader: L) -> usize {
        loader.epoch(1).unwrap().count()
    }
    let mut own = loader(6, 2);
    assert_eq!(count(&mut own), 3);
    let boxed: Box<dyn DataLoader<Batch = Vec<Tensor>>> = Box::new(own);
    assert_eq!(boxed.num_batches(), Some(3));
    let mut calls = 0;
    let mut mapped = boxed.map(|batch| {
        calls += 1;
        match batch[0].size()[0] {
            2 => Ok(batch[1].sum(Kind::Int64).int64_value(&[])),
            _ => Err(Error::other("not full")),
        }
    });
    assert_eq!(mapped.num_batches(), Some(3));
    let sums: Vec<_> = mapped.epoch(1).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(sums, [1, 5, 9]);
    assert_eq!(calls, 3);
}

#[test]
fn several_loaders_advance_side_by_side() {
    let (mut one, mut other) = (loader(6, 2), loader(3, 2));
    one.start_epoch(1).unwrap();
    other.start_epoch(1).unwrap();
    let mut next = |which: usize| {
        let loaders: [&mut dyn DataLoader<Batch = Vec<Tensor>>; 2] = [&mut one, &mut other];
        let batch = loaders.into_iter().nth(which).unwrap().next_batch();
        batch.unwrap().map(|batch| ints(&batch[1]))
    };
    assert_eq!(next(0), Some(vec![0, 1]));
    assert_eq!(next(1), Some(vec![0, 1]));
    assert_eq!(next(0), Some(vec![2, 3]));
    assert_eq!(next(1), Some(vec![2]));
    assert_eq!(next(1), None);
    assert_eq!(next(1), None);
    assert_eq!(next(0), Some(vec![4, 5]));
    assert_eq!(next(0), None);
}

#[test]
fn a_new_epoch_forgets_the_one_under_way() {
    fn check<L: DataLoader>(mut loader: L) {
        for taken in 0..=3 {
            loader.start_epoch(1).unwrap();
            for _ in 0..taken {
                assert!(loader.next_batch().unwrap().is_some());
            }
            loader.start_epoch(2).unwrap();
            let mut count = 0;
            while loader.next_batch().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, 3);
            assert!(loader.next_batch().unwrap().is_none());
        }
    }
    check(loader(6, 2));
    check(VecLoader::new(vec![arange(1), arange(2), arange(3)]).unwrap());
    check(ExampleLoader::new((0..5).collect(), 2, |_: &[&i64]| Ok(())).unwrap());
    check(FnLoader::new(|_| Ok((0..3).map(Ok))));
    check(loader(6, 2).map(Ok));
    check(Box::new(loader(6, 2)));
    check(&mut loader(6, 2));
}

#[test]
fn a_batch_needs_an_epoch() {
    fn check<L: DataLoader>(mut loader: L) {
        let error = loader.next_batch().err().unwrap();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "data loader: `next_batch` was called before an epoch was started; call `start_epoch` \
             first"
        );
    }
    check(loader(6, 2));
    check(VecLoader::new(vec![arange(1)]).unwrap());
    check(ExampleLoader::new(vec![1], 2, |_: &[&i64]| Ok(())).unwrap());
    check(FnLoader::new(|_| Ok((0..3).map(Ok))));
    // One that could not be begun is not under way either.
    let mut short = loader(3, 4).drop_last();
    assert!(short.start_epoch(1).is_err());
    check(short);
}

#[test]
fn an_error_ends_the_for_loop_and_not_the_epoch() {
    let fragile = |examples: &[&i64]| match examples {
        [2] => Err(Error::other("no 2")),
        _ => Ok(*examples[0]),
    };
    let mut loader = ExampleLoader::new((0..4).collect(), 1, fragile).unwrap();
    let mut epoch = loader.epoch(1).unwrap();
    assert_eq!(epoch.next().unwrap().unwrap(), 0);
    assert_eq!(epoch.next().unwrap().unwrap(), 1);
    assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), "no 2");
    assert!(epoch.next().is_none());
    drop(epoch);
    assert_eq!(loader.next_batch().unwrap(), Some(3));
    assert_eq!(loader.next_batch().unwrap(), None);
}

#[test]
fn an_epoch_can_be_taken_from_a_trait_object() {
    fn count(loader: &mut dyn DataLoader<Batch = Vec<Tensor>>) -> usize {
        let first = loader.epoch(1).unwrap().count();
        first + loader.epoch(2).unwrap().count()
    }
    assert_eq!(count(&mut loader(6, 2)), 6);
}

#[test]
fn what_cannot_work_is_refused() {
    let column = |len: i64| arange(len);
    let no_examples = ExampleLoader::new(Vec::<i64>::new(), 2, |_: &[&i64]| Ok(()));
    for (error, message) in [
        (
            VecLoader::<Tensor>::new(vec![]).unwrap_err(),
            "batches: is empty; give at least one",
        ),
        (
            no_examples.unwrap_err(),
            "data set: is empty; give at least one",
        ),
        (
            TensorLoader::new(vec![], 2).unwrap_err(),
            "data set: is empty; give at least one",
        ),
        (
            TensorLoader::new(vec![column(0)], 2).unwrap_err(),
            "data set: is empty; give at least one",
        ),
        (
            TensorLoader::new(vec![column(3)], 0).unwrap_err(),
            "batch_size: must be at least 1, got 0",
        ),
        (
            TensorLoader::new(vec![column(3), column(4)], 2).unwrap_err(),
            "data set, tensor 1: expected 3 rows, as tensor 0 has, got [4]",
        ),
        (
            TensorLoader::new(vec![Tensor::from(1i64)], 2).unwrap_err(),
            "data set, tensor 0: expected [examples, ...], got []",
        ),
        (
            loader(3, 4).drop_last().epoch(1).err().unwrap(),
            "drop_last: leaves no batch: 3 examples are fewer than batch_size = 4",
        ),
        (
            pad_to_longest(&[vec![], vec![]], 0, None).unwrap_err(),
            "padding to the longest sequence: expected at least one sequence with at least \
             one id, got 2 empty sequences",
        ),
        (
            pad_to_longest(&[[1]], 0, Some(0)).unwrap_err(),
            "max_length: must be at least 1, got 0",
        ),
    ] {
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(loader(3, 4).drop_last().num_batches(), Some(0));
}
