//! When the optimizer steps, and when the student is saved.

use std::cell::RefCell;

use tch::{Kind, Tensor};
use textbrewer::{
    BasicTrainer, DataLoader, Distiller, FnLoader, Model, Sgd, TrainSummary, TrainingConfig,
    VecLoader,
};

use crate::common::tiny::{
    Net, batch, batches, config, difference, files, loader, numbers, square,
};

/// The student's numbers after epochs of plain gradient descent.
fn trained(
    loader: &mut dyn DataLoader<Batch = Tensor>,
    epochs: u64,
    change: impl FnOnce(TrainingConfig) -> TrainingConfig,
) -> (Vec<f64>, TrainSummary) {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(change(config(folder.path())))
        .adaptor(square)
        .build()
        .unwrap()
        .train(loader)
        .optimizer(Sgd::new(0.5))
        .epochs(epochs)
        .run()
        .unwrap();
    (numbers(&student.variables), summary)
}

fn joined(parts: &[Tensor]) -> Tensor {
    Tensor::cat(parts, 0)
}

#[test]
fn a_run_is_the_gradient_descent_that_one_would_write_oneself() {
    let student = Net::new(2, 4, 0.2);
    for batch in batches(3) {
        let output = student.forward(&batch, true).unwrap();
        output.logits.square().mean(Kind::Float).backward();
        let _guard = tch::no_grad_guard();
        for mut variable in student.variables.trainable_variables() {
            let mut gradient = variable.grad();
            let _ = variable.f_sub_(&(&gradient * 0.5)).unwrap();
            let _ = gradient.zero_();
        }
    }
    let (finals, summary) = trained(&mut loader(3), 1, |config| config);
    assert_eq!((summary.global_steps, summary.forward_steps), (3, 3));
    assert!(difference(&finals, &numbers(&student.variables)) < 1e-6);
}

#[test]
fn accumulated_batches_are_one_bigger_batch() {
    let (small, summary) = trained(&mut loader(6), 2, |config| {
        config.gradient_accumulation_steps(3)
    });
    assert_eq!((summary.global_steps, summary.forward_steps), (4, 12));
    let bigger = batches(6).chunks(3).map(joined).collect();
    let (big, _) = trained(&mut VecLoader::new(bigger).unwrap(), 2, |config| config);
    assert!(difference(&small, &big) < 1e-6);
    // The same with the accumulation forgotten is something else.
    let (plain, _) = trained(&mut loader(6), 2, |config| config);
    assert!(difference(&small, &plain) > 1e-3);
}

#[test]
fn leftover_batches_are_dropped_with_their_gradients() {
    let accumulating = |config: TrainingConfig| config.gradient_accumulation_steps(2);
    let (with_leftover, summary) = trained(&mut loader(5), 3, accumulating);
    assert_eq!((summary.global_steps, summary.forward_steps), (6, 15));
    let (without, _) = trained(&mut loader(4), 3, accumulating);
    assert!(difference(&with_leftover, &without) < 1e-6);
}

#[test]
fn leftover_batches_make_a_step_of_their_own_when_asked_to() {
    let (with_leftover, summary) = trained(&mut loader(5), 2, |config| {
        config
            .gradient_accumulation_steps(3)
            .step_on_remainder(true)
    });
    assert_eq!((summary.global_steps, summary.forward_steps), (4, 10));
    // Three batches, then the mean over the two that are left.
    let bigger = batches(5).chunks(3).map(joined).collect();
    let (expected, _) = trained(&mut VecLoader::new(bigger).unwrap(), 2, |config| config);
    assert!(difference(&with_leftover, &expected) < 1e-6);
    // An epoch shorter than one accumulation is one step.
    let (_, summary) = trained(&mut loader(2), 2, |config| {
        config
            .gradient_accumulation_steps(3)
            .step_on_remainder(true)
    });
    assert_eq!(summary.global_steps, 2);
}

#[test]
fn steps_start_a_stream_of_unknown_length_anew_as_often_as_needed() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let opened = RefCell::new(Vec::new());
    let mut stream = FnLoader::new(|epoch| {
        opened.borrow_mut().push(epoch);
        Ok((0..3).map(|seed| Ok(batch(seed))))
    });
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_steps(3))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut stream)
        .optimizer(Sgd::new(0.1))
        .steps(7)
        .run()
        .unwrap();
    assert_eq!(*opened.borrow(), [1, 2, 3]);
    assert_eq!((summary.global_steps, summary.forward_steps), (7, 7));
    assert_eq!(summary.epochs, 3);
    let names = ["gs3.safetensors", "gs6.safetensors", "gs7.safetensors"];
    assert_eq!(files(folder.path()), names);
    let paths: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
    assert_eq!(summary.checkpoints, paths);
}

#[test]
fn steps_accumulate_across_the_end_of_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).gradient_accumulation_steps(2))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(3))
        .optimizer(Sgd::new(0.5))
        .steps(3)
        .run()
        .unwrap();
    assert_eq!((summary.global_steps, summary.forward_steps), (3, 6));
    let order = [[0, 1], [2, 0], [1, 2]].map(|pair| joined(&pair.map(batch)));
    let (expected, _) = trained(&mut VecLoader::new(order.into()).unwrap(), 1, |config| {
        config
    });
    assert!(difference(&numbers(&student.variables), &expected) < 1e-6);
}

#[test]
fn the_loader_is_told_which_epoch_it_is() {
    let opened = RefCell::new(Vec::new());
    let mut counting = FnLoader::new(|epoch| {
        opened.borrow_mut().push(epoch);
        Ok((0..2).map(|seed| Ok(batch(seed))))
    })
    .with_num_batches(2);
    let (_, summary) = trained(&mut counting, 4, |config| config.ckpt_epoch_frequency(3));
    assert_eq!(*opened.borrow(), [1, 2, 3, 4]);
    assert_eq!((summary.epochs, summary.global_steps), (4, 8));
    let names: Vec<_> = summary
        .checkpoints
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["gs6.safetensors", "gs8.safetensors"]);
}
