//! Which students stay, and what else ends a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::Tensor;
use textbrewer::checkpoint::{EarlyStopping, Keep, Mode, Saved};
use textbrewer::{AdamW, BasicTrainer, Distiller, Error, Flow, Result, Run, TrainSummary, weights};

use crate::alone;
use crate::common::same_files;
use crate::common::tiny::{Net, config, files, loader, square};

type Trainer<'a> = BasicTrainer<'a, Tensor, Net>;

/// Eight steps, each with a checkpoint, described further by `describe`.
fn train(
    folder: &Path,
    describe: impl for<'a, 'b> FnOnce(Run<'a, Trainer<'b>>) -> Run<'a, Trainer<'b>>,
) -> Result<TrainSummary> {
    let student = Net::new(1, 4, 0.2);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_steps(1))
        .adaptor(square)
        .build()?;
    let mut loader = loader(3);
    let run = trainer
        .train(&mut loader)
        .steps(8)
        .optimizer(AdamW::new(0.1));
    describe(run).run()
}

const METRICS: [f64; 8] = [0.1, 0.5, 0.9, 0.2, 0.8, f64::NAN, 0.9, 0.3];

fn metric(step: u64) -> f64 {
    METRICS[step as usize - 1]
}

fn gs(steps: &[u64]) -> Vec<String> {
    let mut names: Vec<_> = steps.iter().map(|n| format!("gs{n}.safetensors")).collect();
    names.insert(0, "best.safetensors".to_owned());
    names
}

#[test]
fn policies_keep_what_they_say() {
    let _alone = alone();
    for (keep, mode, best, expected) in [
        (Keep::all(), Mode::Max, 3, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (Keep::last(2), Mode::Max, 3, vec![3, 7, 8]),
        (Keep::best(2), Mode::Max, 3, vec![3, 7, 8]),
        (Keep::best(2), Mode::Min, 1, vec![1, 4, 8]),
        (
            Keep::every(4).or(Keep::last(2)),
            Mode::Min,
            1,
            vec![1, 4, 7, 8],
        ),
    ] {
        let folder = crate::common::tiny::folder();
        let summary = train(folder.path(), |run| {
            run.keep(keep.clone())
                .metric_mode(mode)
                .callback(|_, info| Ok(metric(info.global_step)))
        })
        .unwrap();
        assert_eq!(files(folder.path()), gs(&expected), "{keep:?}");
        let paths: Vec<_> = expected
            .iter()
            .map(|step| folder.path().join(format!("gs{step}.safetensors")))
            .collect();
        assert_eq!(summary.checkpoints, paths, "{keep:?}");
        assert_eq!(
            summary.best,
            Some(Saved::new(best, metric(best))),
            "{keep:?}"
        );
        let by_name = weights::read(summary.best_path.unwrap()).unwrap();
        let by_step = weights::read(folder.path().join(format!("gs{best}.safetensors"))).unwrap();
        assert_eq!(by_name, by_step);
    }
}

#[test]
fn early_stopping_ends_the_run_and_stays_so() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let run = |patience: u64, resumes: bool| {
        train(folder.path(), |run| {
            let run = run
                .early_stopping(EarlyStopping::new(patience))
                .callback(|_, info| Ok(metric(info.global_step)));
            if resumes { run.resume_or_start() } else { run }
        })
        .unwrap()
    };
    let summary = run(2, false);
    assert_eq!((summary.global_steps, summary.stopped_early), (5, true));
    assert!(!summary.stopped_by_callback && !summary.interrupted);
    let again = run(2, true);
    assert_eq!((again.global_steps, again.stopped_early), (5, true));
    assert_eq!(again.best, summary.best);
    // With more patience it goes on: one of the next three has no metric.
    let on = run(4, true);
    assert_eq!(
        (on.resumed_from, on.global_steps, on.stopped_early),
        (Some(5), 8, true)
    );
}

#[test]
fn a_callback_that_stops_and_one_that_measures() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let start = |resumes: bool| {
        train(folder.path(), |run| {
            let run = run
                .callback(|_, _| Ok(0.5))
                .callback(|_, info| {
                    let stops = info.global_step == 3;
                    Ok(if stops { Flow::Stop } else { Flow::Continue })
                })
                .callback(|_, _| Ok(()));
            if resumes { run.resume_or_start() } else { run }
        })
        .unwrap()
    };
    let summary = start(false);
    assert!(summary.stopped_by_callback);
    assert_eq!(summary.best, Some(Saved::new(1, 0.5)));
    let again = start(true);
    assert_eq!((again.global_steps, again.stopped_by_callback), (3, true));
}

#[test]
fn without_states_there_are_only_the_students() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    train(folder.path(), |run| run.save_state(false)).unwrap();
    assert!(!folder.path().join("state").exists());
    assert_eq!(files(folder.path()).len(), 8);
}

#[test]
fn a_flag_that_is_set_ends_the_run_after_one_step() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let flag = Arc::new(AtomicBool::new(true));
    let stops = |flag: &Arc<AtomicBool>| {
        let flag = Arc::clone(flag);
        train(folder.path(), |run| run.stop_flag(flag).resume_or_start()).unwrap()
    };
    for step in 1..=3 {
        let summary = stops(&flag);
        assert_eq!((summary.global_steps, summary.interrupted), (step, true));
    }
    flag.store(false, Ordering::Relaxed);
    let summary = stops(&flag);
    assert_eq!((summary.resumed_from, summary.global_steps), (Some(3), 8));
    assert!(!summary.interrupted);
}

/// A program with several runs ends after the one in which it was asked to.
#[test]
fn a_request_in_the_last_callback_is_in_the_summary() {
    let _alone = alone();
    let stops_at = |step: u64, flow: Flow, by_signal: bool| {
        let folder = crate::common::tiny::folder();
        let flag = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&flag);
        let summary = train(folder.path(), |run| {
            let run = match by_signal {
                true => run.handle_interrupts(),
                false => run.stop_flag(flag),
            };
            run.callback(move |_, info| {
                if info.global_step != step {
                    return Ok(Flow::Continue);
                }
                match by_signal {
                    true => signal_hook::low_level::raise(signal_hook::consts::SIGTERM)
                        .map_err(Error::other)?,
                    false => sets.store(true, Ordering::Relaxed),
                }
                Ok(flow)
            })
        });
        let summary = summary.unwrap();
        assert_eq!(summary.stopped_by_callback, flow == Flow::Stop);
        (summary.global_steps, summary.interrupted)
    };
    for by_signal in [false, true] {
        let stops_at = |step, flow| stops_at(step, flow, by_signal);
        assert_eq!(stops_at(5, Flow::Continue), (5, true));
        assert_eq!(stops_at(8, Flow::Continue), (8, true));
        assert_eq!(stops_at(5, Flow::Stop), (5, true));
        assert_eq!(stops_at(9, Flow::Continue), (8, false));
    }
}

#[test]
fn a_damaged_newest_is_in_the_summary() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    train(folder.path(), |run| run).unwrap();
    let (last, before) = (
        folder.path().join("gs8.safetensors"),
        folder.path().join("before.safetensors"),
    );
    std::fs::rename(&last, &before).unwrap();
    let damaged = folder.path().join("state/gs8/optimizer.safetensors");
    std::fs::write(&damaged, "half a fi").unwrap();
    let summary = train(folder.path(), |run| run.resume(folder.path())).unwrap();
    assert_eq!(summary.resumed_from, Some(7));
    assert_eq!(summary.damaged.len(), 1);
    assert!(
        summary.damaged[0].contains("optimizer.safetensors: has 9 bytes"),
        "{summary:?}"
    );
    assert!(same_files(&last, &before));
}

#[test]
fn files_of_another_run_in_a_new_folder_are_left_alone() {
    let _alone = alone();
    let (from, to) = (crate::common::tiny::folder(), crate::common::tiny::folder());
    train(from.path(), |run| {
        run.callback(|_, info| match info.global_step {
            5 => Err(Error::other("killed")),
            step => Ok(metric(step)),
        })
    })
    .unwrap_err();
    // Of the step that is the best so far of the run that goes on.
    let other = to.path().join("gs3.safetensors");
    std::fs::write(&other, "of another run").unwrap();
    let go_on = |overwrite| {
        train(to.path(), |run| {
            run.resume(from.path())
                .overwrite(overwrite)
                .keep(Keep::last(1))
                .callback(|_, info| Ok(metric(info.global_step)))
        })
    };
    let error = go_on(false).unwrap_err().to_string();
    assert!(
        error.contains("gs3.safetensors is from an earlier run"),
        "{error}"
    );
    let summary = go_on(true).unwrap();
    assert_eq!(summary.resumed_from, Some(4));
    assert_eq!(summary.best, Some(Saved::new(3, 0.9)));
    assert_eq!(summary.best_path, None);
    assert_eq!(std::fs::read(&other).unwrap(), b"of another run");
    let names: Vec<_> = gs(&[3, 7, 8]).into_iter().skip(1).collect();
    assert_eq!(files(to.path()), names);
}
