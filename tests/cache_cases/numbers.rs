//! The same numbers as without a cache.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tch::{Kind, Tensor};
use textbrewer::config::Precision;
use textbrewer::distiller::Task;
use textbrewer::{
    AdaptorOutput, BasicDistiller, DataLoader, DistillationConfig, Distiller, FnLoader,
    GeneralDistiller, MultiTaskDistiller, MultiTeacherDistiller, Presets, Result, Sgd, TaskLoader,
    TensorLoader, VecLoader,
};

use crate::common::tiny::{
    Counted, Output, adapt, batch, batches, config, fill_projections, loader, numbers,
    projected_numbers,
};
use crate::common::{same_losses, same_weights};
use crate::{Epochs, Length, Scalars, Steps, logits_only, nets, run, with_features};

/// Everything that a run changes or tells, and how often each teacher was asked.
#[derive(Debug)]
struct Trained {
    losses: Scalars,
    finals: Vec<f64>,
    calls: Vec<usize>,
    cache_bytes: Option<u64>,
}

fn train<D: Distiller>(
    mut distiller: D,
    loader: &mut dyn DataLoader<Batch = D::Batch>,
    length: Length,
    teachers: &[&Counted],
) -> Trained {
    fill_projections(&distiller);
    let (summary, losses) = run(&mut distiller, loader, length, |run| run).unwrap();
    let mut finals = numbers(distiller.variables());
    finals.extend(projected_numbers(&distiller));
    Trained {
        losses,
        finals,
        calls: teachers.iter().map(|teacher| teacher.calls()).collect(),
        cache_bytes: summary.cache_bytes,
    }
}

/// Logits at every position, and which of them count.
fn masked(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let top = output.hidden.last().expect("a layer");
    Ok(AdaptorOutput::new()
        .logits(top.narrow(-1, 0, 3))
        .logits_mask(&batch.select(-1, 0).gt(-0.4)))
}

fn basic(cached: bool, length: Length) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let distiller = BasicDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()).gradient_accumulation_steps(2))
        .distill_config(logits_only(cached))
        .adaptor(adapt)
        .build();
    let mut loader = loader(3).shuffle(5);
    train(distiller.unwrap(), &mut loader, length, &[&teacher])
}

fn general_with(
    distill_config: DistillationConfig,
    presets: Presets,
    adaptor: impl Fn(&Tensor, &Output) -> Result<AdaptorOutput>,
    length: Length,
) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(distill_config)
        .presets(presets)
        .adaptor(adaptor)
        .build();
    let mut loader = loader(3).shuffle(5);
    train(distiller.unwrap(), &mut loader, length, &[&teacher])
}

fn general(cached: bool, length: Length) -> Trained {
    general_with(with_features(cached), Presets::default(), adapt, length)
}

fn general_masked(cached: bool, length: Length) -> Trained {
    general_with(logits_only(cached), Presets::default(), masked, length)
}

fn multi_teacher(cached: bool, length: Length) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let (first, student) = nets();
    let second = Counted::new(2, 5, 0.7);
    let mut distill_config = with_features(cached);
    distill_config.intermediate_matches[1].teacher = 1;
    let distiller = MultiTeacherDistiller::builder(&student, &student.variables)
        .teachers([&first, &second], adapt)
        .student_adaptor(adapt)
        .train_config(config(folder.path()))
        .distill_config(distill_config)
        .build();
    let mut loader = loader(3).shuffle(5);
    let teachers = [&first, &second];
    train(distiller.unwrap(), &mut loader, length, &teachers)
}

/// One task with two teachers over batches that are ready, one over a stream that is kept.
fn multi_task(cached: bool, length: Length) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let (first, student) = nets();
    let (second, third) = (Counted::new(2, 5, 0.7), Counted::new(3, 5, 0.9));
    let qa = Task::new().teacher(&first, adapt).teacher(&second, adapt);
    let ner = Task::new().teacher(&third, adapt);
    let distiller = MultiTaskDistiller::builder(&student, &student.variables)
        .task("qa", qa.student_adaptor(adapt))
        .task("ner", ner.student_adaptor(adapt))
        .train_config(config(folder.path()))
        .distill_config(with_features(cached))
        .build();
    let stream = FnLoader::new(|_| Ok((7..10).map(|seed| Ok(batch(seed)))));
    let mut loader = TaskLoader::new()
        .task("qa", loader(3).shuffle(5))
        .task("ner", stream.fixed().shuffle(6))
        .seed(3);
    let teachers = [&first, &second, &third];
    train(distiller.unwrap(), &mut loader, length, &teachers)
}

fn same_logs(got: &Scalars, expected: &Scalars) -> bool {
    let places = |log: &Scalars| -> Vec<(String, u64)> {
        log.iter()
            .map(|(tag, _, step)| (tag.clone(), *step))
            .collect()
    };
    let values = |log: &Scalars| -> Vec<f64> { log.iter().map(|(_, value, _)| *value).collect() };
    places(got) == places(expected) && same_losses(&values(got), &values(expected))
}

/// Bit for bit the same numbers, and every teacher asked once for each of its three batches.
fn assert_same(train: fn(bool, Length) -> Trained, length: Length) {
    let (kept, anew) = (train(true, length), train(false, length));
    assert!(anew.losses.len() >= 20, "{length:?}: {}", anew.losses.len());
    assert!(same_logs(&kept.losses, &anew.losses), "{length:?}");
    assert!(same_weights(&kept.finals, &anew.finals), "{length:?}");
    assert!(kept.calls.iter().all(|calls| *calls == 3), "{kept:?}");
    assert!(anew.calls.iter().all(|calls| *calls > 3), "{anew:?}");
    assert!(kept.cache_bytes > Some(0));
    assert_eq!(anew.cache_bytes, None);
}

#[test]
fn kept_outputs_give_the_same_numbers_bit_for_bit() {
    for train in [basic, general, general_masked, multi_teacher] {
        assert_same(train, Epochs(4));
        assert_same(train, Steps(10));
    }
    // A loader of tasks has no end, and so no epochs.
    assert_same(multi_task, Steps(24));
}

#[test]
fn a_layer_that_was_not_kept_reaches_no_loss() {
    let seen = Rc::new(Cell::new(0));
    let train = |cached| {
        let seen = Rc::clone(&seen);
        let mse = move |student: &Tensor, teacher: &Tensor, _: Option<&Tensor>| {
            assert!(student.defined() && teacher.defined());
            seen.set(seen.get() + 1);
            Ok(student.f_sub(teacher)?.f_square()?.f_mean(Kind::Float)?)
        };
        let mut distill_config = with_features(cached);
        for matched in &mut distill_config.intermediate_matches {
            matched.loss = "mine".into();
        }
        let presets = Presets::default().match_loss("mine", mse);
        general_with(distill_config, presets, adapt, Epochs(3))
    };
    assert!(same_logs(&train(true).losses, &train(false).losses));
    assert_eq!(seen.get(), 2 * 2 * 9);
}

#[test]
fn half_the_bits_take_half_the_memory() {
    let train = |dtype| {
        let distill_config = with_features(true).cache_dtype(dtype);
        general_with(distill_config, Presets::default(), adapt, Epochs(4))
    };
    let (whole, half) = (train(None), train(Some(Precision::Bf16)));
    // Three batches: logits [2, 2], and two layers [2, 3, 5].
    assert_eq!(whole.cache_bytes, Some(3 * (4 + 2 * 30) * 4));
    assert_eq!(half.cache_bytes, Some(3 * (4 + 2 * 30) * 2));
    // From the first epoch on: what is learnt from does not change when it is kept.
    assert_ne!(half.losses[0].1, whole.losses[0].1);
    for ((name, half, step), (_, whole, _)) in half.losses.iter().zip(&whole.losses) {
        let near = (half - whole).abs() <= 0.01 * whole.abs();
        assert!(near, "{name} at step {step}: {half}, not {whole}");
    }
}

/// Which batch the student saw at each step, by its first number, and how often the teacher
/// and the postprocessor were asked, in three epochs over a loader that mixes anew.
fn seen(cached: bool, seed: u64) -> (Vec<f64>, usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let (batches_seen, processed) = (RefCell::new(Vec::new()), Cell::new(0));
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(logits_only(cached))
        .teacher_adaptor(adapt)
        .student_adaptor(|batch: &Tensor, output: &Output| {
            let first = batch.double_value(&[0, 0, 0]);
            batches_seen.borrow_mut().push(first);
            adapt(batch, output)
        })
        .build()
        .unwrap();
    let examples = Tensor::cat(&batches(5), 0);
    let loader = TensorLoader::new(vec![examples], 2).unwrap().shuffle(9);
    let mut loader = loader.map(|mut tensors| Ok(tensors.remove(0)));
    let postprocess = |batch: Tensor| {
        processed.set(processed.get() + 1);
        Ok(batch)
    };
    let run = distiller.train(&mut loader).optimizer(Sgd::new(0.1));
    let run = run.batch_postprocessor(postprocess).seed(seed).epochs(3);
    run.run().unwrap();
    drop(distiller);
    (batches_seen.into_inner(), teacher.calls(), processed.get())
}

#[test]
fn batches_that_the_loader_makes_anew_are_kept_and_mixed_by_the_seed() {
    let sorted = |epoch: &[f64]| {
        let mut epoch = epoch.to_vec();
        epoch.sort_by(f64::total_cmp);
        epoch
    };
    let (order, calls, processed) = seen(true, 1);
    assert_eq!((order.len(), calls, processed), (15, 5, 5));
    for epoch in order.chunks(5) {
        assert_eq!(sorted(epoch), sorted(&order[..5]));
    }
    assert_ne!(order[..5], order[5..10]);
    assert_eq!(seen(true, 1).0, order);
    let other = seen(true, 2).0;
    assert_ne!(other, order);
    assert_eq!(sorted(&other[..5]), sorted(&order[..5]));

    let (order, calls, processed) = seen(false, 1);
    assert_eq!((order.len(), calls, processed), (15, 15, 15));
    assert_ne!(sorted(&order[5..10]), sorted(&order[..5]));
}

#[test]
fn another_loader_gets_no_outputs_of_the_one_before() {
    let train = |cached| {
        let folder = tempfile::tempdir().unwrap();
        let (teacher, student) = nets();
        let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(with_features(cached))
            .adaptor(adapt)
            .build()
            .unwrap();
        fill_projections(&distiller);
        let others = (7..9).map(batch).collect();
        let mut others = VecLoader::<Tensor>::new(others).unwrap();
        run(&mut distiller, &mut loader(3), Epochs(2), |run| run).unwrap();
        let (summary, losses) = run(&mut distiller, &mut others, Epochs(2), |run| run).unwrap();
        (losses, teacher.calls(), summary.cache_bytes)
    };
    let (kept, anew) = (train(true), train(false));
    assert!(same_logs(&kept.0, &anew.0));
    assert_eq!((kept.1, anew.1), (3 + 2, 6 + 4));
    // Those of the first loader are forgotten.
    assert_eq!(kept.2, Some(2 * (4 + 2 * 30) * 4));
}
