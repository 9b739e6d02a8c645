//! Losses that are not finite: the error, the step that is left out, the end with a checkpoint.

use std::cell::Cell;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use textbrewer::optim::LossScaling;
use textbrewer::{
    AdaptorOutput, BasicTrainer, Distiller, Error, MemorySink, Model, OnNonFinite, Result, Sgd,
    TrainSummary, from_fn, weights,
};

use crate::alone;
use crate::common::tiny::{Net, batch, config, loader, numbers};

/// Six steps, of which those at `bad` have a loss that is NaN.
fn train(
    folder: &Path,
    student: &Net,
    policy: OnNonFinite,
    bad: &[u64],
    interval: Option<u64>,
    sink: &MemorySink,
) -> Result<TrainSummary> {
    let calls = Cell::new(0);
    let model = from_fn(|batch: &Tensor, train| {
        let calls = calls.replace(calls.get() + 1);
        let output = student.forward(batch, train)?.logits;
        Ok(match bad.contains(&calls) {
            true => output * f64::NAN,
            false => output,
        })
    });
    let mut trainer = BasicTrainer::builder(&model, &student.variables)
        .train_config(config(folder).log_interval(interval).ckpt_steps(4))
        .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&output.square())))
        .build()?;
    let mut loader = loader(1);
    trainer
        .train(&mut loader)
        .steps(6)
        .optimizer(Sgd::new(0.1))
        .max_grad_norm(0.7)
        .on_non_finite(policy)
        .log_sink(sink.clone())
        .run()
}

#[test]
fn by_default_it_is_an_error() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let student = Net::new(1, 4, 0.2);
    let sink = MemorySink::new();
    let error = train(
        folder.path(),
        &student,
        OnNonFinite::Error,
        &[2],
        Some(1),
        &sink,
    );
    let Error::NonFiniteLoss { term, step, .. } = error.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!((term.as_str(), step), ("total_loss", 2));
}

#[test]
fn a_step_that_is_left_out_changes_nothing() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let (some, fewer) = (Net::new(1, 4, 0.2), Net::new(1, 4, 0.2));
    let sink = MemorySink::new();
    let skip = OnNonFinite::SkipStep;
    let summary = train(folder.path(), &some, skip, &[1, 2], Some(20), &sink).unwrap();
    let found = summary.non_finite.unwrap();
    assert_eq!(
        (found.term.as_str(), found.step, found.batches),
        ("total_loss", 1, 2)
    );
    assert_eq!((summary.global_steps, summary.forward_steps), (6, 6));
    assert_eq!(summary.skipped_steps, 2);
    assert!(!summary.interrupted);
    // The values are in the log all the same.
    let curve = sink.curve("scalar/total_loss");
    let bad: Vec<u64> = curve
        .iter()
        .filter(|(_, v)| v.is_nan())
        .map(|(s, _)| *s)
        .collect();
    assert_eq!(bad, [1, 2]);
    // Always the same batch: four steps by hand are the four that were done.
    for _ in 0..4 {
        let loss = fewer
            .forward(&batch(0), true)
            .unwrap()
            .logits
            .square()
            .mean(Kind::Float);
        for tensor in fewer.variables.trainable_variables() {
            tensor.shallow_clone().zero_grad();
        }
        loss.backward();
        let squares: Vec<f64> = fewer
            .variables
            .trainable_variables()
            .iter()
            .map(|tensor| tensor.grad().square().sum(Kind::Double).double_value(&[]))
            .collect();
        let factor = (0.7 / (squares.iter().sum::<f64>().sqrt() + 1e-6)).min(1.0);
        let _guard = tch::no_grad_guard();
        for tensor in fewer.variables.trainable_variables() {
            let change = tensor.grad() * (0.1 * factor);
            let _ = tensor.shallow_clone().f_sub_(&change).unwrap();
        }
    }
    for (got, expected) in numbers(&some.variables)
        .iter()
        .zip(numbers(&fewer.variables))
    {
        assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
    }
}

#[test]
fn stop_and_save_leaves_weights_that_are_finite() {
    let _alone = alone();
    for (interval, steps) in [(Some(1), 3), (Some(2), 4), (None, 4)] {
        let folder = crate::common::tiny::folder();
        let student = Net::new(1, 4, 0.2);
        let stop = OnNonFinite::StopAndSave;
        let sink = MemorySink::new();
        let summary = train(folder.path(), &student, stop, &[2], interval, &sink).unwrap();
        assert_eq!(summary.global_steps, steps, "{interval:?}");
        assert_eq!(summary.non_finite.unwrap().step, 2);
        let saved = weights::read(folder.path().join(format!("gs{steps}.safetensors"))).unwrap();
        for (name, tensor) in weights::state_dict(&student.variables) {
            assert_eq!(saved[&name], tensor.to_device(Device::Cpu));
            assert!(tensor.isfinite().all().int64_value(&[]) == 1);
        }
    }
}

#[test]
fn a_run_that_failed_can_be_resumed_to_leave_the_step_out() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let student = Net::new(1, 4, 0.2);
    let sink = MemorySink::new();
    train(
        folder.path(),
        &student,
        OnNonFinite::Error,
        &[5],
        None,
        &sink,
    )
    .unwrap_err();
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_steps(4))
        .adaptor(crate::common::tiny::square)
        .build()
        .unwrap();
    let mut loader = loader(1);
    let run = trainer.train(&mut loader).steps(6).max_grad_norm(0.7);
    let run = run.optimizer(Sgd::new(0.1)).resume(folder.path());
    let summary = run.on_non_finite(OnNonFinite::SkipStep).run().unwrap();
    assert_eq!((summary.resumed_from, summary.global_steps), (Some(4), 6));
    assert_eq!(summary.non_finite, None);
}

/// Six steps; the losses of those at `bad` are roots of 0, whose gradients alone are not finite.
fn train_rooted(
    folder: &Path,
    policy: OnNonFinite,
    bad: &[u64],
    interval: Option<u64>,
    scaling: Option<LossScaling>,
) -> (Net, TrainSummary) {
    let student = Net::new(1, 4, 0.2);
    let calls = Cell::new(0);
    let adaptor = |_: &Tensor, output: &crate::common::tiny::Output| {
        let calls = calls.replace(calls.get() + 1);
        let logits = &output.logits;
        Ok(AdaptorOutput::new().losses(&match bad.contains(&calls) {
            true => (logits * 0.0).sqrt(),
            false => logits.square(),
        }))
    };
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).log_interval(interval).ckpt_steps(4))
        .adaptor(adaptor)
        .build()
        .unwrap();
    let mut loader = loader(1);
    let mut run = trainer
        .train(&mut loader)
        .steps(6)
        .optimizer(Sgd::new(0.1))
        .on_non_finite(policy);
    if let Some(scaling) = scaling {
        run = run.loss_scaling(scaling);
    }
    let summary = run.run().unwrap();
    drop(trainer);
    (student, summary)
}

#[test]
fn steps_left_out_under_a_finite_loss_are_counted() {
    let _alone = alone();
    // The last step of all is read too.
    for (bad, interval) in [(&[2, 3, 5][..], Some(1)), (&[1], Some(20)), (&[5], None)] {
        let folder = crate::common::tiny::folder();
        let skip = OnNonFinite::SkipStep;
        let (student, summary) = train_rooted(folder.path(), skip, bad, interval, None);
        assert_eq!(summary.skipped_steps, bad.len() as u64, "{bad:?}");
        assert_eq!((summary.global_steps, summary.non_finite), (6, None));
        assert!(numbers(&student.variables).iter().all(|v| v.is_finite()));
    }
}

#[test]
fn stop_and_save_stops_for_a_gradient_under_a_finite_loss() {
    let _alone = alone();
    // The step is after the losses of its batch have been read, and told of at the next reading.
    for (bad, interval, steps) in [(1, Some(1), 3), (1, Some(3), 3), (1, None, 4), (3, None, 4)] {
        let folder = crate::common::tiny::folder();
        let stop = OnNonFinite::StopAndSave;
        let (student, summary) = train_rooted(folder.path(), stop, &[bad], interval, None);
        assert_eq!(summary.global_steps, steps, "{bad} {interval:?}");
        assert_eq!((summary.skipped_steps, summary.non_finite), (1, None));
        let saved = weights::read(folder.path().join(format!("gs{steps}.safetensors"))).unwrap();
        for (name, tensor) in weights::state_dict(&student.variables) {
            assert_eq!(saved[&name], tensor.to_device(Device::Cpu));
            assert!(tensor.isfinite().all().int64_value(&[]) == 1);
        }
    }
}

#[test]
fn steps_that_loss_scaling_skips_are_not_counted() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let stop = OnNonFinite::StopAndSave;
    let scaling = Some(LossScaling::new());
    let (_, summary) = train_rooted(folder.path(), stop, &[1], Some(1), scaling);
    assert_eq!((summary.global_steps, summary.skipped_steps), (6, 0));
}
