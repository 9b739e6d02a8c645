//! Several tasks in one stream: who comes how often, in which order, and what is refused.

use textbrewer::data::{DataLoader, ExampleLoader, FnLoader, TaskLoader};
use textbrewer::{Error, Result, TaskBatch, VecLoader};

/// A loader whose batches are `first`, `first + 1` and so on.
fn numbers(first: u64, batches: u64) -> impl DataLoader<Batch = u64> {
    let examples = (first..first + batches).collect();
    ExampleLoader::new(examples, 1, |number: &[&u64]| Ok(*number[0])).unwrap()
}

/// The same, of unknown length.
fn stream(first: u64, batches: u64) -> impl DataLoader<Batch = u64> {
    FnLoader::new(move |_| Ok((first..first + batches).map(Ok)))
}

/// Three tasks of 40, 10 and 3 batches, told apart by their hundreds.
fn three_tasks() -> TaskLoader<'static, u64> {
    TaskLoader::new()
        .task("mnli", numbers(0, 40))
        .task("sst2", numbers(100, 10))
        .task("cola", numbers(200, 3))
        .seed(42)
}

fn take(loader: &mut TaskLoader<'_, u64>, count: usize) -> Vec<TaskBatch<u64>> {
    let batches = (0..count).map(|_| loader.next_batch().unwrap().unwrap());
    batches.collect()
}

fn tasks_of(loader: &mut TaskLoader<'_, u64>, epoch: u64, count: usize) -> Vec<String> {
    loader.start_epoch(epoch).unwrap();
    let batches = take(loader, count).into_iter();
    batches.map(|batch| batch.task).collect()
}

fn counts(loader: &mut TaskLoader<'_, u64>) -> [usize; 3] {
    let drawn = tasks_of(loader, 1, 5300);
    ["mnli", "sst2", "cola"].map(|name| drawn.iter().filter(|task| *task == name).count())
}

/// Pearson's statistic, below its 99.9 % quantile with two degrees of freedom.
fn assert_follows(counts: [usize; 3], weights: [f64; 3]) {
    let total: f64 = weights.iter().sum();
    let deviation = |(count, weight): (usize, f64)| {
        let expected = 5300.0 * weight / total;
        (count as f64 - expected).powi(2) / expected
    };
    let statistic: f64 = counts.into_iter().zip(weights).map(deviation).sum();
    assert!(statistic < 13.8, "{counts:?}: {statistic}");
}

/// The exact counts and draws come from an independent implementation in Python,
/// `tests/reference/tasks.py`.
#[test]
fn tasks_are_drawn_by_their_size_to_the_power_of_tau() {
    let drawn = counts(&mut three_tasks());
    assert_follows(drawn, [40.0, 10.0, 3.0]);
    assert_eq!(drawn, [3977, 1037, 286]);

    let drawn = counts(&mut three_tasks().tau(0.5));
    assert_follows(drawn, [40f64.sqrt(), 10f64.sqrt(), 3f64.sqrt()]);
    assert_eq!(drawn, [2982, 1486, 832]);

    let drawn = counts(&mut three_tasks().tau(0.0));
    assert_follows(drawn, [1.0; 3]);
    assert_eq!(drawn, [1739, 1783, 1778]);

    let drawn = counts(&mut three_tasks().tau(-1.0));
    assert_follows(drawn, [1.0 / 40.0, 1.0 / 10.0, 1.0 / 3.0]);
}

#[test]
fn an_extreme_tau_draws_one_task_alone() {
    assert_eq!(counts(&mut three_tasks().tau(1e6)), [5300, 0, 0]);
    assert_eq!(counts(&mut three_tasks().tau(-1e6)), [0, 0, 5300]);
}

#[test]
fn tasks_are_equally_likely_when_a_length_is_unknown() {
    let mut loader = TaskLoader::new()
        .task("mnli", numbers(0, 40))
        .task("sst2", stream(100, 10))
        .task("cola", numbers(200, 3))
        .tau(5.0)
        .seed(42);
    let drawn = counts(&mut loader);
    assert_follows(drawn, [1.0; 3]);
    assert_eq!(drawn, [1739, 1783, 1778]);
}

#[test]
fn the_draws_depend_on_seed_and_epoch_alone() {
    let by_index = |indices: [usize; 12]| indices.map(|i| ["mnli", "sst2", "cola"][i]);
    let mut loader = three_tasks();
    let first = by_index([1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    let second = by_index([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(tasks_of(&mut loader, 1, 12), first);
    assert_eq!(tasks_of(&mut loader, 2, 12), second);
    assert_eq!(tasks_of(&mut loader, 1, 12), first);
    assert_ne!(tasks_of(&mut three_tasks().seed(43), 1, 12), first);
}

#[test]
fn a_position_is_reached_again_by_taking_as_many_batches() {
    let mut loader = three_tasks();
    loader.start_epoch(3).unwrap();
    take(&mut loader, 77);
    let expected = take(&mut loader, 100);
    let mut again = three_tasks();
    again.start_epoch(1).unwrap();
    take(&mut again, 5);
    again.start_epoch(3).unwrap();
    take(&mut again, 77);
    assert_eq!(take(&mut again, 100), expected);
}

#[test]
fn an_order_of_ones_own_is_followed_and_repeated() {
    let mut loader = three_tasks().order(["cola", "mnli", "cola"]);
    let expected = ["cola", "mnli", "cola", "cola", "mnli", "cola", "cola"];
    assert_eq!(tasks_of(&mut loader, 1, 7), expected);
    // Begun anew, not gone on with.
    assert_eq!(tasks_of(&mut loader, 2, 4), expected[..4]);

    let mut count = 0;
    let mut loader = three_tasks().order(std::iter::repeat_with(move || {
        count += 1;
        if count <= 2 { "mnli" } else { "sst2" }
    }));
    assert_eq!(
        tasks_of(&mut loader, 1, 4),
        ["mnli", "mnli", "sst2", "sst2"]
    );
    assert_eq!(tasks_of(&mut loader, 1, 3), ["mnli", "mnli", "sst2"]);
}

#[test]
fn every_task_goes_through_its_own_epochs() {
    // The tens are the task's epoch, the ones the batch in it.
    let counting = |hundreds: u64, batches: u64| {
        FnLoader::new(move |epoch| {
            Ok((0..batches).map(move |batch| Ok(100 * hundreds + 10 * epoch + batch)))
        })
    };
    let mut loader = TaskLoader::new()
        .task("three", counting(1, 3))
        .task("one", counting(2, 1))
        .order(["three", "one"]);
    assert_eq!(loader.num_batches(), None);
    for epoch in 1..3 {
        loader.start_epoch(epoch).unwrap();
        let batches: Vec<_> = take(&mut loader, 9).into_iter().map(|b| b.batch).collect();
        assert_eq!(batches, [110, 210, 111, 220, 112, 230, 120, 240, 121]);
    }
}

#[test]
fn loaders_can_be_lent_and_converted_by_task() {
    let mut lent = numbers(0, 2);
    let mut loader = TaskLoader::default()
        .task("plain", &mut lent)
        .task("doubled", numbers(10, 2).map(|number| Ok(2 * number)))
        .order(["plain", "doubled"]);
    loader.start_epoch(1).unwrap();
    let expected = [("plain", 0), ("doubled", 20), ("plain", 1), ("doubled", 22)];
    let expected = expected.map(|(task, batch)| TaskBatch::new(task, batch));
    assert_eq!(take(&mut loader, 4), expected);
}

#[test]
fn kept_batches_have_numbers_across_tasks() {
    let vector = |ones: i64| {
        let ones = |_| tch::Tensor::ones([ones], tch::kind::FLOAT_CPU);
        VecLoader::new((0..2).map(ones).collect()).unwrap()
    };
    let mut loader = TaskLoader::new()
        .task("one", vector(1))
        .task("two", vector(2).shuffle(3))
        .order(["one", "two"]);
    assert!(loader.keeps_batches());
    loader.start_epoch(1).unwrap();
    assert_eq!(loader.batch_id(), None);
    let mut ids = Vec::new();
    for _ in 0..8 {
        assert!(loader.next_batch().unwrap().is_some());
        ids.push(loader.batch_id().unwrap());
    }
    // Two batches of the first task in turn, two of the second in any order.
    assert_eq!([ids[0], ids[2], ids[4], ids[6]], [0, 2, 0, 2]);
    let mut second = [ids[1], ids[3], ids[5], ids[7]];
    second[..2].sort_unstable();
    second[2..].sort_unstable();
    assert_eq!(second, [1, 3, 1, 3]);

    let streamed = vector(1).map(Ok);
    let mixed = TaskLoader::new()
        .task("one", vector(1))
        .task("two", streamed);
    assert!(!mixed.keeps_batches());
}

/// The errors of beginning, or else of one batch after another.
fn first_error<B>(mut loader: TaskLoader<'_, B>) -> String {
    let error = match loader.epoch(1) {
        Ok(epoch) => epoch.take(10).find_map(|batch| batch.err()).unwrap(),
        Err(error) => error,
    };
    error.to_string()
}

#[test]
fn errors_name_the_task() {
    let none = TaskLoader::<u64>::new();
    let empty = "its loader has no batch; is the data set empty, or smaller than a batch with \
                 `drop_last`?";
    let short = ExampleLoader::new(vec![1], 2, |_: &[&u64]| Ok(0)).unwrap();
    let unopened = FnLoader::new(|_| -> Result<std::iter::Empty<Result<u64>>> {
        Err(Error::other("no such file"))
    });
    // It opens once, and has one good batch.
    let fragile = FnLoader::new(|epoch| match epoch {
        1 => Ok([Ok(1), Err(Error::other("line 2 is no number"))].into_iter()),
        _ => Err(Error::other("no such file")),
    });
    let reopened = FnLoader::new(|epoch| match epoch {
        1 => Ok([Ok(1)].into_iter()),
        _ => Err(Error::other("the file is gone")),
    });
    for (loader, message) in [
        (
            none,
            "tasks: none was given; add at least one with `TaskLoader::task`".to_owned(),
        ),
        (
            three_tasks().task("sst2", numbers(0, 1)),
            "task `sst2`: was given twice; give every task a name of its own".to_owned(),
        ),
        (
            three_tasks().task("short", short.drop_last()),
            format!("task `short`: {empty}"),
        ),
        (
            TaskLoader::new().task("no lines", stream(0, 0)),
            format!("task `no lines`: {empty}"),
        ),
        (
            three_tasks().task("qa", unopened),
            "task `qa`: no such file".to_owned(),
        ),
        (
            TaskLoader::new().task("qa", fragile),
            "task `qa`: line 2 is no number".to_owned(),
        ),
        (
            TaskLoader::new().task("qa", reopened),
            "task `qa`: the file is gone".to_owned(),
        ),
        (
            three_tasks().order(["mnli", "MNLI"]),
            "order: unknown task `MNLI`; known: cola, mnli, sst2".to_owned(),
        ),
        (
            three_tasks().order(Vec::<String>::new()),
            "order: names no task".to_owned(),
        ),
        (
            three_tasks().tau(f64::NAN),
            "tau: must be finite, got NaN".to_owned(),
        ),
    ] {
        assert_eq!(first_error(loader), message);
    }
}

#[test]
fn a_loader_that_gives_nothing_of_what_it_announced_breaks_its_promise() {
    let loaders = || {
        let nothing = FnLoader::new(|_| Ok(std::iter::empty())).with_num_batches(3);
        let mut tasks = TaskLoader::<u64>::new().task("qa", nothing);
        tasks.start_epoch(1).unwrap();
        tasks
    };
    for error in [
        loaders().next_batch().unwrap_err(),
        loaders().skip(1).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "task `qa`: its loader announced 3 batches and gave none; `num_batches` has to say \
             how many an epoch has"
        );
    }
}

#[test]
fn after_an_error_the_other_tasks_go_on() {
    let fragile = FnLoader::new(|_| Ok([Err(Error::other("broken")), Ok(7)].into_iter()));
    let mut loader = TaskLoader::new()
        .task("fragile", fragile)
        .task("sound", numbers(0, 2))
        .order(["fragile", "sound"]);
    loader.start_epoch(1).unwrap();
    let error = loader.next_batch().unwrap_err();
    assert!(matches!(&error, Error::Task { task, .. } if task == "fragile"));
    let batches: Vec<_> = take(&mut loader, 2).into_iter().map(|b| b.batch).collect();
    assert_eq!(batches, [0, 7]);
}

#[test]
fn a_batch_needs_an_epoch_that_was_begun() {
    let mut loader = three_tasks();
    assert!(loader.next_batch().is_err());
    loader.start_epoch(1).unwrap();
    let mut loader = loader.tau(f64::INFINITY);
    assert!(loader.start_epoch(2).is_err());
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(
        error.starts_with("data loader: `next_batch` was called"),
        "{error}"
    );
}
