//! One process speaks for all, and what one decides all obey.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Tensor};
use textbrewer::checkpoint::EarlyStopping;
use textbrewer::distributed::ProcessGroup;
use textbrewer::{
    AdamW, BasicTrainer, Distiller, Error, Flow, MemorySink, OnNonFinite, TrainingConfig,
    VecLoader, Verdict,
};

use super::together::{found, leave};
use crate::common::ranks::in_processes;
use crate::common::tiny::{Net, batches, config, files, loader, numbers, square};

fn trainer<'a>(student: &'a Net, config: TrainingConfig) -> BasicTrainer<'a, Tensor, Net> {
    BasicTrainer::builder(student, &student.variables)
        .train_config(config)
        .adaptor(square)
        .build()
        .unwrap()
}

fn student(group: &ProcessGroup) -> Net {
    Net::new(2, 4, 0.25 + group.rank() as f64)
}

/// What the processes of a test have left, which must be the same of all.
fn the_same(folder: &Path, world_size: usize) -> Vec<String> {
    let all: Vec<Vec<String>> = found(folder, world_size);
    for (rank, one) in all.iter().enumerate() {
        assert_eq!(*one, all[0], "process {rank}");
    }
    all[0].clone()
}

#[test]
fn the_first_logs_and_saves_and_callbacks_run_in_all() {
    let name = "voice::the_first_logs_and_saves_and_callbacks_run_in_all";
    let folder = in_processes(name, 2, |group, folder| {
        let mut found = Vec::new();
        for (run, on_first) in [("all", false), ("first", true)] {
            let student = student(group);
            let own = folder.join(run);
            let log_dir = folder.join(format!("{run} log"));
            let config = config(&own).ckpt_steps(3).log_dir(&log_dir);
            let (calls, sink) = (Cell::new(0), MemorySink::new());
            let seen = RefCell::new(Vec::new());
            let mut trainer = trainer(&student, config);
            let mut loader = loader(12);
            let mut training = trainer
                .train(&mut loader)
                .steps(9)
                .optimizer(AdamW::new(0.01))
                .no_decay(["no such name"])
                .log_sink(sink.clone())
                .evaluate_at_start()
                .evaluate_every(2)
                .callback(|_: &Net, checkpoint| {
                    calls.set(calls.get() + 1);
                    checkpoint.log("seen", 1.0);
                    let losses = (&checkpoint.losses, &checkpoint.mean_losses);
                    seen.borrow_mut()
                        .push(format!("{losses:?} {}", checkpoint.saved));
                    Ok(())
                })
                .process_group(group);
            if on_first {
                training = training.callbacks_on_first();
            }
            let summary = training.run().unwrap();
            assert!(summary.checkpoints.iter().all(|path| path.is_file()));
            found.push(format!(
                "{} {:?} {:?}",
                summary.global_steps, summary.losses, summary.checkpoints
            ));
            // At the start, after steps 2, 4 and 8, and with the checkpoints after 3, 6 and 9.
            let is_called = group.is_first() || !on_first;
            assert_eq!(calls.get(), if is_called { 7 } else { 0 });
            if !on_first {
                found.extend(seen.into_inner());
            }
            let logged = sink.curve("scalar/seen").len();
            assert_eq!(logged, if group.is_first() { 7 } else { 0 });
            assert_eq!(sink.scalars().is_empty(), !group.is_first());
            assert_eq!(summary.log_dir.is_some(), group.is_first());
            let saved = ["gs3.safetensors", "gs6.safetensors", "gs9.safetensors"];
            assert_eq!(files(&own), saved);
            assert_eq!(std::fs::read_dir(&log_dir).unwrap().count(), 1);
        }
        leave(folder, group, &found);
    });
    let Some(folder) = folder else { return };
    assert_eq!(the_same(folder.path(), 2).len(), 9);
    let said = |rank| std::fs::read_to_string(folder.path().join(format!("said{rank}"))).unwrap();
    assert!(said(0).contains("no such name"), "{}", said(0));
    assert!(!said(1).contains("no such name"), "{}", said(1));
    for rank in 0..2 {
        assert!(!said(rank).contains("Warning"), "{}", said(rank));
    }
}

/// Ctrl-C in a terminal reaches all, and who started them passes SIGTERM on besides.
#[test]
fn signals_are_answered_once_by_the_first() {
    let name = "voice::signals_are_answered_once_by_the_first";
    let folder = in_processes(name, 2, |group, folder| {
        let student = student(group);
        let mut trainer = trainer(&student, config(folder));
        let mut loader = loader(12);
        let training = trainer
            .train(&mut loader)
            .steps(6)
            .optimizer(AdamW::new(0.01));
        let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let summary = training
            .after_step(move |_: &Net, _| {
                for signal in signals {
                    signal_hook::low_level::raise(signal).map_err(Error::other)?;
                }
                Ok(())
            })
            .handle_interrupts()
            .process_group(group)
            .run()
            .unwrap();
        assert_eq!((summary.interrupted, summary.global_steps), (true, 1));
    });
    let Some(folder) = folder else { return };
    let times = |rank, text: &str| {
        let said = folder.path().join(format!("said{rank}"));
        std::fs::read_to_string(said).unwrap().matches(text).count()
    };
    assert_eq!((times(0, "Ctrl-C:"), times(0, "SIGTERM:")), (1, 0));
    assert_eq!((times(1, "Ctrl-C:"), times(1, "SIGTERM:")), (0, 0));
}

#[test]
fn what_one_decides_all_obey() {
    let name = "voice::what_one_decides_all_obey";
    let folder = in_processes(name, 2, |group, folder| {
        let is_other = group.rank() == 1;
        let mut found = Vec::new();
        let mut run = |name: &str, decide: &dyn Fn(u64) -> Verdict, patience: Option<u64>| {
            let student = student(group);
            let flag = Arc::new(AtomicBool::new(false));
            let to_stop = Arc::clone(&flag);
            let mut trainer = trainer(&student, config(&folder.join(name)).ckpt_steps(2));
            let mut loader = loader(24);
            let mut training = trainer
                .train(&mut loader)
                .steps(12)
                .optimizer(AdamW::new(0.01))
                .callback(|_: &Net, checkpoint| Ok(decide(checkpoint.global_step)))
                .after_step(move |_: &Net, step| {
                    match (name, step.global_step) {
                        ("flag", 5) if is_other => to_stop.store(true, Ordering::Relaxed),
                        ("signal", 3) if is_other => {
                            let raised =
                                signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
                            raised.map_err(Error::other)?;
                        }
                        _ => {}
                    }
                    Ok(())
                })
                .process_group(group);
            match name {
                // The other process cannot be asked to stop, and is asked all the same.
                "flag" if is_other => training = training.stop_flag(flag),
                "signal" => training = training.handle_interrupts(),
                _ => {}
            }
            if let Some(patience) = patience {
                training = training.early_stopping(EarlyStopping::new(patience));
            }
            let summary = training.run().unwrap();
            found.push(format!(
                "{name}: {} steps, callback {}, early {}, interrupted {}, best {:?} {:?}, {:?}",
                summary.global_steps,
                summary.stopped_by_callback,
                summary.stopped_early,
                summary.interrupted,
                summary.best.map(|best| (best.step, best.metric)),
                summary.best_path.is_some_and(|path| path.is_file()),
                files(&folder.join(name)),
            ));
            let weights = numbers(&student.variables).into_iter().map(f64::to_bits);
            found.push(format!("{:?}", weights.collect::<Vec<_>>()));
        };
        let nothing = |_| Verdict::default();
        run("flag", &nothing, None);
        run("signal", &nothing, None);
        let stop = |step| match is_other && step == 4 {
            true => Flow::Stop.into(),
            false => Verdict::default(),
        };
        run("callback", &stop, None);
        // Each process has a metric of its own: that of the first counts.
        let metric = |step: u64| match is_other {
            true => Verdict::from(step as f64),
            false => Verdict::from(-(step as f64 - 4.0).powi(2)),
        };
        run("metric", &metric, Some(2));
        let of_other = |step: u64| match is_other {
            true => Verdict::from(step as f64),
            false => Verdict::default(),
        };
        run("metric of the other", &of_other, None);
        leave(folder, group, &found);
    });
    let Some(folder) = folder else { return };
    let all = the_same(folder.path(), 2);
    let outcome = |name: &str| {
        let start = format!("{name}: ");
        all.iter()
            .find_map(|line| line.strip_prefix(start.as_str()))
            .unwrap()
    };
    let begins = |name: &str, text: &str| {
        assert!(outcome(name).starts_with(text), "{name}: {}", outcome(name));
    };
    begins(
        "flag",
        "5 steps, callback false, early false, interrupted true",
    );
    begins(
        "signal",
        "3 steps, callback false, early false, interrupted true",
    );
    assert!(outcome("flag").contains("gs5.safetensors"));
    assert!(outcome("signal").contains("gs3.safetensors"));
    begins("callback", "4 steps, callback true");
    begins(
        "metric",
        "8 steps, callback false, early true, interrupted false, best Some((4, Some(-0.0))) true",
    );
    begins(
        "metric of the other",
        "12 steps, callback false, early false, interrupted false, best Some((12, Some(12.0))) true",
    );
}

/// The seventh batch, of process 1 in the fourth step, is bad.
#[test]
fn a_bad_batch_of_one_is_one_of_all() {
    let name = "voice::a_bad_batch_of_one_is_one_of_all";
    let folder = in_processes(name, 2, |group, folder| {
        let mut found = Vec::new();
        let policies = [
            OnNonFinite::SkipStep,
            OnNonFinite::StopAndSave,
            OnNonFinite::Error,
        ];
        for policy in policies {
            let student = student(group);
            let mut all = batches(12);
            all[7] = Tensor::full([2, 3, 3], f64::NAN, (Kind::Float, tch::Device::Cpu));
            let folder = folder.join(format!("{policy:?}"));
            let result = trainer(&student, config(&folder).log_interval(Some(2)))
                .train(&mut VecLoader::new(all).unwrap())
                .epochs(1)
                .optimizer(AdamW::new(0.01))
                .on_non_finite(policy)
                .process_group(group)
                .run();
            found.push(match result {
                Ok(summary) => format!(
                    "{policy:?}: {:?}, {} skipped of {}",
                    summary.non_finite, summary.skipped_steps, summary.global_steps
                ),
                Err(error) => error.to_string(),
            });
            found.push(format!("{:?}", numbers(&student.variables)));
        }
        leave(folder, group, &found);
    });
    let Some(folder) = folder else { return };
    let all = the_same(folder.path(), 2);
    assert!(
        all[0].contains("step: 3, batches: 1 }), 1 skipped of 6"),
        "{}",
        all[0]
    );
    assert!(all[2].contains("1 skipped of 4"), "{}", all[2]);
    assert!(all[4].contains("is NaN at training step 3"), "{}", all[4]);
    for numbers in [&all[1], &all[3]] {
        assert!(!numbers.contains("NaN"), "{numbers}");
    }
}
