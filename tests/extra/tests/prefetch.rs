//! Batches made ahead in another thread: the same ones, in order, and no thread left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};

use proptest::prelude::*;
use tch::{Device, Kind, Tensor, nn, nn::Module};
use textbrewer::data::{DataLoader, ExampleLoader, FnLoader, Prefetch, TensorLoader, VecLoader};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, Distiller, Error, Result, TaskLoader, TrainingConfig,
    from_fn,
};

/// Counts without end, and tells of each number before it is given.
struct Counter {
    next: u64,
    made: Arc<AtomicUsize>,
    tell: Option<Sender<ThreadId>>,
    panics_at: Option<u64>,
}

impl Counter {
    fn new() -> Self {
        Counter {
            next: 0,
            made: Arc::default(),
            tell: None,
            panics_at: None,
        }
    }

    fn panicking_at(number: u64) -> Prefetch<Self> {
        let counter = Counter {
            panics_at: Some(number),
            ..Counter::new()
        };
        counter.prefetch(2)
    }
}

impl DataLoader for Counter {
    type Batch = u64;

    fn num_batches(&self) -> Option<usize> {
        None
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.next = 1000 * epoch;
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<u64>> {
        self.made.fetch_add(1, Ordering::SeqCst);
        if let Some(tell) = &self.tell {
            tell.send(thread::current().id()).map_err(Error::other)?;
        }
        if self.panics_at == Some(self.next) {
            panic!("no number {}", self.next);
        }
        self.next += 1;
        Ok(Some(self.next - 1))
    }
}

fn next<L: DataLoader<Batch = u64>>(loader: &mut L) -> u64 {
    loader.next_batch().unwrap().unwrap()
}

/// Sums of `batch_size` numbers; those that 5 divides are errors.
fn sums(len: u64, batch_size: usize) -> impl DataLoader<Batch = u64> + Send + 'static {
    let sum = |numbers: &[&u64]| match numbers.iter().copied().sum::<u64>() {
        sum if sum % 5 == 0 => Err(Error::other(format!("5 divides {sum}"))),
        sum => Ok(sum),
    };
    let examples = (1..=len).collect();
    ExampleLoader::new(examples, batch_size, sum)
        .unwrap()
        .shuffle(len)
}

/// Up to `limit` batches and errors of an epoch, and whether it ended.
fn epoch_of(
    loader: &mut impl DataLoader<Batch = u64>,
    epoch: u64,
    limit: usize,
) -> Vec<std::result::Result<Option<u64>, String>> {
    loader.start_epoch(epoch).unwrap();
    let mut all = Vec::new();
    while all.len() < limit && all.last() != Some(&Ok(None)) {
        all.push(loader.next_batch().map_err(|error| error.to_string()));
    }
    all
}

proptest! {
    #[test]
    fn batches_and_errors_are_those_of_the_loader(
        len in 1u64..40,
        batch_size in 1usize..6,
        depth in 0usize..8,
        limits in prop::collection::vec(0usize..50, 1..4),
    ) {
        let mut plain = sums(len, batch_size);
        let mut ahead = sums(len, batch_size).prefetch(depth);
        prop_assert_eq!(ahead.num_batches(), plain.num_batches());
        // Epochs that are left in the middle, or gone through to their end.
        for (epoch, limit) in (1..).zip(limits) {
            let expected = epoch_of(&mut plain, epoch, limit);
            prop_assert_eq!(epoch_of(&mut ahead, epoch, limit), expected);
            prop_assert_eq!(ahead.num_batches(), plain.num_batches());
        }
    }
}

#[test]
fn tensors_come_from_the_other_thread_unchanged() {
    let rows = Tensor::arange(14, (Kind::Float, Device::Cpu)).reshape([7, 2]);
    let loader = || {
        TensorLoader::new(vec![rows.shallow_clone()], 3)
            .unwrap()
            .shuffle(1)
    };
    let plain: Vec<_> = loader().epoch(1).unwrap().map(Result::unwrap).collect();
    let mut ahead = loader().prefetch(2);
    let ahead: Vec<_> = ahead.epoch(1).unwrap().map(Result::unwrap).collect();
    assert_eq!(ahead, plain);
}

#[test]
fn batches_are_made_elsewhere_before_they_are_wanted() {
    let (tell, made) = channel();
    let mut loader = Counter {
        tell: Some(tell),
        ..Counter::new()
    }
    .prefetch(3);
    loader.start_epoch(1).unwrap();
    // Three lie ready and a fourth waits in the thread, though nobody asked for one.
    for _ in 0..4 {
        assert_ne!(made.recv().unwrap(), thread::current().id());
    }
    assert_eq!(next(&mut loader), 1000);
    // Its place is free for a fifth.
    made.recv().unwrap();
}

#[test]
fn no_more_is_made_than_the_depth_allows() {
    for (depth, taken) in [(0, 0), (0, 3), (1, 0), (4, 0), (4, 6)] {
        let made = Arc::<AtomicUsize>::default();
        let mut loader = Counter {
            made: made.clone(),
            ..Counter::new()
        }
        .prefetch(depth);
        loader.start_epoch(1).unwrap();
        for expected in 0..taken {
            assert_eq!(next(&mut loader), 1000 + expected);
        }
        drop(loader);
        // The thread is gone, and its loader with it.
        assert_eq!(Arc::strong_count(&made), 1);
        let made = made.load(Ordering::SeqCst);
        assert!(
            made <= taken as usize + depth + 1,
            "{made} of depth {depth}"
        );
    }
}

#[test]
fn dropping_between_epochs_drops_the_loader() {
    let made = Arc::<AtomicUsize>::default();
    let counter = Counter {
        made: made.clone(),
        ..Counter::new()
    };
    drop(counter.prefetch(2));
    assert_eq!(Arc::strong_count(&made), 1);
}

#[test]
fn a_new_epoch_discards_what_was_made_ahead() {
    let mut loader = Counter::new().prefetch(5);
    for epoch in [1, 2, 1] {
        loader.start_epoch(epoch).unwrap();
        assert_eq!(next(&mut loader), 1000 * epoch);
        assert_eq!(next(&mut loader), 1000 * epoch + 1);
    }
}

#[test]
fn an_epoch_that_cannot_begin_is_told_at_once() {
    let loader = || TensorLoader::new(vec![Tensor::zeros([3], (Kind::Float, Device::Cpu))], 4);
    let mut ahead = loader().unwrap().drop_last().prefetch(2);
    let error = ahead.start_epoch(1).unwrap_err().to_string();
    assert!(error.starts_with("drop_last: leaves no batch"), "{error}");
    let error = ahead.next_batch().unwrap_err().to_string();
    assert!(
        error.starts_with("data loader: `next_batch` was called"),
        "{error}"
    );
}

#[test]
fn a_panic_is_an_error_after_the_batches_before_it() {
    let mut loader = Counter::panicking_at(1002);
    loader.start_epoch(1).unwrap();
    assert_eq!(next(&mut loader), 1000);
    assert_eq!(next(&mut loader), 1001);
    let error = loader.next_batch().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loader panicked while prefetching: no number 1002"
    );
    assert_eq!(loader.next_batch().unwrap(), None);
    let error = loader.start_epoch(2).unwrap_err().to_string();
    assert_eq!(error, "the prefetched loader was lost; make a new one");
    assert_eq!(loader.next_batch().unwrap(), None);
}

#[test]
fn a_panic_before_the_batches_were_taken_does_not_hang() {
    // At the next epoch it is told, when dropped it is not.
    let mut loader = Counter::panicking_at(1000);
    loader.start_epoch(1).unwrap();
    let error = loader.start_epoch(2).unwrap_err().to_string();
    assert!(error.ends_with("no number 1000"), "{error}");
    let mut loader = Counter::panicking_at(1000);
    loader.start_epoch(1).unwrap();
    drop(loader);
}

#[test]
fn any_depth_and_boxed_loaders_will_do() {
    let boxed: Box<dyn DataLoader<Batch = u64> + Send> = Box::new(Counter::new());
    let mut loader = boxed.prefetch(usize::MAX).prefetch(1);
    loader.start_epoch(1).unwrap();
    assert_eq!(next(&mut loader), 1000);
    assert_eq!(next(&mut loader), 1001);
}

/// Tells which epochs were begun and how many batches were passed over.
struct Told {
    inner: Counter,
    calls: Sender<(&'static str, u64)>,
}

impl DataLoader for Told {
    type Batch = u64;

    fn num_batches(&self) -> Option<usize> {
        None
    }

    fn start_epoch(&mut self, epoch: u64) -> Result<()> {
        self.calls.send(("epoch", epoch)).map_err(Error::other)?;
        self.inner.start_epoch(epoch)
    }

    fn next_batch(&mut self) -> Result<Option<u64>> {
        self.inner.next_batch()
    }

    fn skip(&mut self, batches: u64) -> Result<u64> {
        self.calls.send(("skip", batches)).map_err(Error::other)?;
        self.inner.skip(batches)
    }
}

/// As a run does that is resumed.
#[test]
fn a_prefetch_of_a_prefetch_begins_no_other_epoch_than_the_one_asked_for() {
    for skipped in [0, 5] {
        let (calls, told) = channel();
        let inner = Counter::new();
        let mut loader = Told { inner, calls }.prefetch(2).prefetch(3);
        loader.start_epoch(7).unwrap();
        assert_eq!(loader.skip(skipped).unwrap(), skipped);
        assert_eq!(next(&mut loader), 7000 + skipped);
        assert_eq!(loader.skip(2).unwrap(), 2);
        assert_eq!(next(&mut loader), 7003 + skipped);
        drop(loader);
        let told: Vec<_> = told.iter().collect();
        let epoch = ("epoch", 7);
        let expected = match skipped {
            // It is begun once, and what is made ahead is not thrown away.
            0 => vec![epoch, ("skip", 0)],
            _ => vec![epoch, ("skip", 0), epoch, ("skip", 0), epoch, ("skip", 5)],
        };
        assert_eq!(told, expected);
    }
}

#[test]
fn the_numbers_of_kept_batches_come_along() {
    let loader = || {
        let batches = (0..5).map(Tensor::from).collect();
        VecLoader::new(batches).unwrap().shuffle(1)
    };
    let (mut plain, mut ahead) = (loader(), loader().prefetch(2));
    assert!(ahead.keeps_batches());
    assert!(!sums(3, 1).prefetch(2).keeps_batches());
    plain.start_epoch(1).unwrap();
    ahead.start_epoch(1).unwrap();
    for _ in 0..6 {
        assert_eq!(ahead.batch_id(), plain.batch_id());
        assert_eq!(ahead.next_batch().unwrap(), plain.next_batch().unwrap());
    }
    assert_eq!(ahead.batch_id(), None);
}

#[test]
fn every_kind_of_loader_can_be_prefetched() {
    fn count<L>(loader: L) -> usize
    where
        L: DataLoader<Batch: Send> + Send + 'static,
    {
        loader.prefetch(1).epoch(1).unwrap().count()
    }
    let tensors = || -> Vec<Tensor> {
        let zeros = |_| Tensor::zeros([3], (Kind::Float, Device::Cpu));
        (0..3).map(zeros).collect()
    };
    assert_eq!(count(VecLoader::new(tensors()).unwrap()), 3);
    assert_eq!(count(TensorLoader::new(tensors(), 1).unwrap()), 3);
    assert_eq!(count(FnLoader::new(|_| Ok((0..3).map(Ok)))), 3);
    assert_eq!(count(sums(3, 1).map(Ok)), 3);
}

#[test]
fn every_task_can_be_prefetched() {
    let mut loader = TaskLoader::new()
        .task("endless", Counter::new().prefetch(2))
        .task("short", sums(2, 2).prefetch(2))
        .order(["endless", "short"]);
    let batches: Vec<_> = loader
        .epoch(1)
        .unwrap()
        .take(5)
        .map(Result::unwrap)
        .collect();
    let batches: Vec<_> = batches.into_iter().map(|batch| batch.batch).collect();
    assert_eq!(batches, [1000, 3, 1001, 3, 1002]);
}

#[test]
fn errors_and_panics_reach_the_training_loop() {
    let folder = tempfile::tempdir().unwrap();
    let variables = nn::VarStore::new(Device::Cpu);
    let student = nn::linear(variables.root(), 1, 1, Default::default());
    let config = TrainingConfig::default()
        .device(Device::Cpu)
        .output_dir(folder.path());
    let student = from_fn(|batch: &Tensor, _| Ok(student.forward(batch)));
    let mut distiller = BasicTrainer::builder(&student, &variables)
        .train_config(config)
        .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
        .build()
        .unwrap();
    let mut train = |bad: fn() -> Result<Tensor>| {
        let loader =
            ExampleLoader::new((0..4).collect(), 1, move |numbers: &[&i64]| match numbers {
                [2] => bad(),
                _ => Ok(Tensor::ones([1, 1], (Kind::Float, Device::Cpu))),
            });
        let mut loader = loader.unwrap().prefetch(2);
        let run = distiller.train(&mut loader).epochs(1);
        run.optimizer(AdamW::new(0.01)).progress(false).run()
    };
    let error = train(|| Err(Error::other("no such line"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "data loader, batch 3 of epoch 1: no such line"
    );
    let error = train(|| panic!("index out of range")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "data loader, batch 3 of epoch 1: the loader panicked while prefetching: index out of \
         range"
    );
    let summary = train(|| Ok(Tensor::ones([1, 1], (Kind::Float, Device::Cpu)))).unwrap();
    assert_eq!(summary.global_steps, 4);
}
