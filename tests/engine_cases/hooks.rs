//! Callbacks and the postprocessor of batches.

use std::cell::RefCell;

use textbrewer::{BasicTrainer, Distiller, Flow, MemorySink, Model, Result, Sgd};

use crate::common::tiny::{Net, batch, config, files, loader, numbers, square};

#[test]
fn callbacks_run_in_their_order_and_all_of_them_before_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let calls = RefCell::new(Vec::new());
    let note = |name: &'static str, step: u64, epoch: u64| {
        calls.borrow_mut().push((name, step, epoch));
    };
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_frequency(2))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(4))
        .optimizer(Sgd::new(0.1))
        .epochs(5)
        .callback(|_, info| {
            note("first", info.global_step, info.epoch);
            Ok(())
        })
        .callback(|_, info| {
            note("second", info.global_step, info.epoch);
            Ok(match info.global_step {
                6 => Flow::Stop,
                _ => Flow::Continue,
            })
        })
        .callback(|_, info| {
            note("third", info.global_step, info.epoch);
            Ok(())
        })
        .run()
        .unwrap();
    let expected: Vec<_> = [(2, 1), (4, 1), (6, 2)]
        .into_iter()
        .flat_map(|(step, epoch)| ["first", "second", "third"].map(|name| (name, step, epoch)))
        .collect();
    assert_eq!(*calls.borrow(), expected);
    assert!(summary.stopped_by_callback);
    assert_eq!(
        (summary.global_steps, summary.forward_steps, summary.epochs),
        (6, 6, 2)
    );
    assert_eq!(
        files(folder.path()),
        ["gs2.safetensors", "gs4.safetensors", "gs6.safetensors"]
    );
}

#[test]
fn a_run_that_nobody_stopped_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .callback(|_, _| Ok(Flow::Continue))
        .run()
        .unwrap();
    assert!(!summary.stopped_by_callback);
    assert_eq!(summary.global_steps, 4);
}

#[test]
fn a_run_without_an_end_in_sight_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(u64::MAX)
        .callback(|_, info| {
            Ok(match info.epoch {
                3 => Flow::Stop,
                _ => Flow::Continue,
            })
        })
        .run()
        .unwrap();
    assert_eq!((summary.global_steps, summary.epochs), (6, 3));
}

#[test]
fn callbacks_see_the_saved_student_and_cost_no_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let memory = MemorySink::new();
    let mut seen = Vec::new();
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(3))
        .optimizer(Sgd::new(0.1))
        .log_sink(memory.clone())
        .epochs(2)
        .callback(|model: &Net, info| -> Result<()> {
            assert!(std::ptr::eq(model, &student));
            assert!(info.path.exists());
            let output = model.forward(&batch(0), false)?;
            assert!(!output.logits.requires_grad());
            seen.push((info.global_step, info.losses["total_loss"]));
            Ok(())
        })
        .run()
        .unwrap();
    // Told with the losses of the batch that came last.
    let curve = memory.curve("scalar/total_loss");
    assert_eq!(seen, [(3, curve[2].1), (6, curve[5].1)]);
    // And outside of callbacks gradients are there again.
    let output = student.forward(&batch(0), false).unwrap();
    assert!(output.logits.requires_grad());
}

#[test]
fn batches_go_through_the_postprocessor_first() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let seen = RefCell::new(Vec::new());
    let mut count = 0;
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(|batch, output| {
            seen.borrow_mut().push(batch.copy());
            square(batch, output)
        })
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .batch_postprocessor(|batch| {
            count += 1;
            Ok(batch * count)
        })
        .run()
        .unwrap();
    let expected = [batch(0), batch(1) * 2, batch(0) * 3, batch(1) * 4];
    assert_eq!(*seen.borrow(), expected);
}

/// Callbacks run without gradients; a run of their own has them all the same.
#[test]
fn a_callback_may_train_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let inner = |output: &std::path::Path| {
        let model = Net::new(2, 4, 0.3);
        let before = numbers(&model.variables);
        let ran = BasicTrainer::builder(&model, &model.variables)
            .train_config(config(output))
            .adaptor(square)
            .build()?
            .train(&mut loader(2))
            .optimizer(Sgd::new(0.1))
            .epochs(1)
            .run();
        assert_ne!(numbers(&model.variables), before);
        ran.map(drop)
    };
    let student = Net::new(2, 4, 0.2);
    let mut calls = 0;
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(&folder.path().join("outer")))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .callback(|_, at| {
            calls += 1;
            inner(&folder.path().join(format!("inner-{}", at.global_step)))
        })
        .run()
        .unwrap();
    assert_eq!(calls, 2);
}
