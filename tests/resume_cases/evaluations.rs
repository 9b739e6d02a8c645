//! Callbacks that are called without a checkpoint, which a run goes on after as if it had not been.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Tensor};
use textbrewer::checkpoint::{EarlyStopping, Keep};
use textbrewer::{
    AdamW, BasicTrainer, CheckpointInfo, Distiller, Flow, Result, Run, TrainSummary, Verdict,
};

use crate::alone;
use crate::common::tiny::{Net, config, files, first_line, folder, loader, numbers, square};
use crate::common::{same_losses, same_weights};

type Trainer<'a> = BasicTrainer<'a, Tensor, Net>;

/// What a callback was told: the step, whether something was saved, the loss and its mean.
type Seen = Vec<(u64, bool, Option<f64>, Option<f64>)>;

/// What a run is asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    at_start: bool,
    every: Option<u64>,
    interrupted_at: Option<u64>,
    resumes: bool,
    keeps_best: bool,
}

const BOTH: Asked = Asked {
    at_start: true,
    every: Some(2),
    interrupted_at: None,
    resumes: false,
    keeps_best: false,
};

/// Eight steps on batches with noise, with a checkpoint at every third.
fn train(
    folder: &Path,
    asked: Asked,
    verdict: impl Fn(&CheckpointInfo) -> Verdict,
) -> (Result<TrainSummary>, Vec<f64>, Seen) {
    let student = Net::new(2, 4, 0.2);
    let seen = RefCell::new(Seen::new());
    let mut trainer: Trainer<'_> = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_steps(3).log_interval(1000))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(4);
    let run = trainer
        .train(&mut batches)
        .steps(8)
        .optimizer(AdamW::new(0.05))
        .batch_postprocessor(|batch: Tensor| Ok(&batch + batch.randn_like()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut run = run.stop_flag(Arc::clone(&stop));
    run = run.after_step(|_, step| {
        stop.store(
            Some(step.global_step) == asked.interrupted_at,
            Ordering::Relaxed,
        );
        Ok(())
    });
    if asked.at_start {
        run = run.evaluate_at_start();
    }
    if let Some(every) = asked.every {
        run = run.evaluate_every(every);
    }
    if asked.resumes {
        run = run.resume_or_start();
    }
    if asked.keeps_best {
        run = run
            .keep(Keep::best(1))
            .early_stopping(EarlyStopping::new(1));
    }
    let summary = run
        .callback(|_: &Net, info: &CheckpointInfo| {
            if !info.saved {
                // As an evaluation with dropout would.
                let _ = Tensor::randn([5], (Kind::Float, Device::Cpu));
                assert!(info.path.as_os_str().is_empty());
            } else {
                assert!(info.path.exists());
            }
            let total = |of: &BTreeMap<String, f64>| of.get("total_loss").copied();
            let told = (total(&info.losses), total(&info.mean_losses));
            seen.borrow_mut()
                .push((info.global_step, info.saved, told.0, told.1));
            Ok(verdict(info))
        })
        .run();
    (summary, numbers(&student.variables), seen.into_inner())
}

fn steps(seen: &Seen) -> Vec<(u64, bool)> {
    seen.iter()
        .map(|(step, saved, ..)| (*step, *saved))
        .collect()
}

/// Whether callbacks were told the same.
fn same_seen(got: &Seen, expected: &Seen) -> bool {
    let values = |seen: &Seen| -> Vec<f64> {
        // A value that is missing is equal to one that is missing alone.
        let pairs = seen.iter().map(|(_, _, loss, mean)| [*loss, *mean]);
        pairs
            .flatten()
            .map(|value| value.unwrap_or(f64::MAX))
            .collect()
    };
    steps(got) == steps(expected) && same_losses(&values(got), &values(expected))
}

#[test]
fn evaluations_leave_no_trace_in_the_run() {
    let _alone = alone();
    let nothing = |_: &CheckpointInfo| Verdict::default();
    let begin = || tch::manual_seed(7);
    let (plain, often) = (folder(), folder());
    begin();
    let (summary, weights, seen) = train(plain.path(), Asked::default(), nothing);
    assert_eq!(steps(&seen), [(3, true), (6, true), (8, true)]);
    begin();
    let (evaluated, evaluated_weights, all) = train(often.path(), BOTH, nothing);
    let expected = [
        (0, false),
        (2, false),
        (3, true),
        (4, false),
        (6, true),
        (8, true),
    ];
    assert_eq!(steps(&all), expected);
    assert!(same_weights(&evaluated_weights, &weights));
    let (summary, evaluated) = (summary.unwrap(), evaluated.unwrap());
    let last = |summary: &TrainSummary| summary.losses.values().copied().collect::<Vec<_>>();
    assert!(same_losses(&last(&evaluated), &last(&summary)));
    assert_eq!(files(often.path()), files(plain.path()));
    // Checkpoints are told the same as without evaluations.
    let of_checkpoints = all.iter().filter(|(_, saved, ..)| *saved);
    assert!(same_seen(&of_checkpoints.copied().collect(), &seen));
    // And an evaluation what there is so far.
    assert_eq!((all[0].2, all[0].3), (None, None));
    assert!(all[1].2.is_some() && all[1].3.is_some() && all[1].2 != all[1].3);
}

#[test]
fn a_run_that_evaluates_is_resumed_to_the_bit() {
    let _alone = alone();
    let nothing = |_: &CheckpointInfo| Verdict::default();
    let whole = folder();
    tch::manual_seed(7);
    let (_, weights, seen) = train(whole.path(), BOTH, nothing);
    for interrupted_at in 1..8 {
        let folder = folder();
        tch::manual_seed(7);
        let interrupt = Asked {
            interrupted_at: Some(interrupted_at),
            ..BOTH
        };
        let (first, _, mut told) = train(folder.path(), interrupt, nothing);
        assert!(first.unwrap().interrupted);
        // Other random numbers are no obstacle.
        tch::manual_seed(99);
        let resume = Asked {
            resumes: true,
            ..BOTH
        };
        let (second, resumed, rest) = train(folder.path(), resume, nothing);
        assert_eq!(second.unwrap().resumed_from, Some(interrupted_at));
        assert!(same_weights(&resumed, &weights), "{interrupted_at}");
        told.extend(rest);
        // An evaluation that is due then would only hold the checkpoint up.
        let left_out = |(step, saved): (u64, bool)| step == interrupted_at && !saved;
        let mut expected = seen.clone();
        expected.retain(|(step, saved, ..)| !left_out((*step, *saved)));
        let count = usize::from([2, 4].contains(&interrupted_at));
        assert_eq!(expected.len(), seen.len() - count);
        assert!(same_seen(&told, &expected), "{interrupted_at}: {told:?}");
    }
}

#[test]
fn metrics_of_evaluations_choose_no_checkpoint_and_end_no_run() {
    let _alone = alone();
    let folder = folder();
    // Best where nothing is saved, and getting better only from checkpoint to checkpoint.
    let metric = |info: &CheckpointInfo| match info.saved {
        true => Verdict::from(info.global_step as f64),
        false => Verdict::from(100.0),
    };
    let asked = Asked {
        every: Some(1),
        keeps_best: true,
        ..BOTH
    };
    let (summary, ..) = train(folder.path(), asked, metric);
    let summary = summary.unwrap();
    assert_eq!((summary.global_steps, summary.stopped_early), (8, false));
    assert_eq!(summary.best.unwrap().metric, Some(8.0));
}

#[test]
fn an_evaluation_can_end_the_run_which_is_saved_then() {
    let _alone = alone();
    let folder = folder();
    let stop = |info: &CheckpointInfo| match info.global_step {
        4 => Verdict::from(Flow::Stop),
        _ => Verdict::default(),
    };
    let every = Asked {
        every: Some(2),
        ..Asked::default()
    };
    let (summary, weights, seen) = train(folder.path(), every, stop);
    let summary = summary.unwrap();
    assert!(summary.stopped_by_callback && !summary.interrupted);
    assert_eq!(summary.global_steps, 4);
    assert_eq!(steps(&seen), [(2, false), (3, true), (4, false)]);
    assert_eq!(files(folder.path()), ["gs3.safetensors", "gs4.safetensors"]);
    // It is over, and a resume leaves it so.
    let resume = Asked {
        resumes: true,
        ..every
    };
    let (resumed, again, seen) = train(folder.path(), resume, stop);
    assert_eq!((resumed.unwrap().global_steps, seen.len()), (4, 0));
    assert_eq!(again, weights);

    let at_once = |_: &CheckpointInfo| Verdict::from(Flow::Stop);
    let other = crate::common::tiny::folder();
    let at_start = Asked {
        at_start: true,
        ..Asked::default()
    };
    let (summary, ..) = train(other.path(), at_start, at_once);
    assert_eq!(summary.unwrap().global_steps, 0);
    assert!(files(other.path()).is_empty());
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let _alone = alone();
    let student = Net::new(2, 4, 0.2);
    let folder = folder();
    let refused = |change: for<'r, 't> fn(Run<'r, Trainer<'t>>) -> Run<'r, Trainer<'t>>| {
        let mut trainer: Trainer<'_> = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap();
        let mut batches = loader(2);
        let run = trainer.train(&mut batches).epochs(1);
        first_line(change(run.optimizer(AdamW::new(0.1))).run())
    };
    assert_eq!(
        refused(|run| run.evaluate_every(0)),
        "evaluate_every: must be at least 1"
    );
    assert_eq!(
        refused(|run| run.evaluate_every(2)),
        "evaluate_every: there is no `callback` to be called"
    );
    assert_eq!(
        refused(|run| run.evaluate_at_start()),
        "evaluate_at_start: there is no `callback` to be called"
    );
}
