//! One training is one run in TensorBoard: when it is resumed, and beside a user's own sink.

use std::path::{Path, PathBuf};

use textbrewer::{
    BasicTrainer, Distiller, Flow, FnLoader, LogSink, Sgd, TensorBoardSink, TrainSummary,
};

use crate::common::tensorboard::{curves, event_files};
use crate::common::tiny::{Net, batches, config, first_line, loader, square};

/// A training of six steps with a checkpoint every two, which ends after `until` steps.
struct Trained<'f> {
    models: PathBuf,
    logs: &'f Path,
    until: u64,
}

impl Trained<'_> {
    fn run(&self, resumes_from: Option<&Path>, sink: Option<TensorBoardSink>) -> TrainSummary {
        let student = Net::new(2, 4, 0.2);
        let train_config = config(&self.models).log_dir(self.logs).log_interval(4);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(train_config.ckpt_steps(2))
            .adaptor(square)
            .build()
            .unwrap();
        let mut batches = loader(4);
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let run = trainer
            .train(&mut batches)
            .optimizer(Sgd::new(0.1).momentum(0.9));
        let mut run = run.steps(6).stop_flag(flag.clone()).callback(|_, info| {
            info.log("steps", info.global_step as f64);
            Ok((-(info.global_step as f64), Flow::Continue))
        });
        run = run.after_step(|_, step| {
            if step.global_step == self.until {
                flag.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(())
        });
        if let Some(folder) = resumes_from {
            run = run.resume(folder);
        }
        if let Some(sink) = sink {
            run = run.log_sink(sink);
        }
        run.run().unwrap()
    }
}

fn names(logs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(logs).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Without what is another number each time.
fn lasting(run: &Path) -> std::collections::BTreeMap<String, Vec<(i64, f32)>> {
    let mut curves = curves(run);
    curves.remove("scalar/steps_per_second");
    curves
}

#[test]
fn a_resumed_run_continues_its_curve() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (once, twice) = (at("once"), at("twice"));
    let whole = Trained {
        models: at("a"),
        logs: &once,
        until: 6,
    }
    .run(None, None);
    let models = at("b");
    // It stops after step 3, saves itself there, and that checkpoint is lost: what was logged
    // after step 2 comes again.
    let part = |until| Trained {
        models: models.clone(),
        logs: &twice,
        until,
    };
    let first = part(3).run(None, None);
    assert_eq!(first.global_steps, 3);
    std::fs::remove_file(models.join("gs3.safetensors")).unwrap();
    std::fs::remove_dir_all(models.join("state/gs3")).unwrap();
    let second = part(6).run(Some(&models), None);
    assert_eq!((second.resumed_from, second.global_steps), (Some(2), 6));
    assert_eq!(second.log_dir, first.log_dir);
    assert_eq!(names(&twice), ["run-0001"]);
    let run = second.log_dir.unwrap();
    assert_eq!(event_files(&run).len(), 2);
    let mut curves = lasting(&run);
    assert_eq!(curves["scalar/metric"], [(2, -2.0), (4, -4.0), (6, -6.0)]);
    // What belongs to the first step after the checkpoint is there twice, with equal values.
    for tag in ["scalar/total_loss", "scalar/learning_rate"] {
        let curve = curves.get_mut(tag).unwrap();
        assert_eq!((curve[2].0, curve[2]), (2, curve[3]), "{tag}");
        curve.remove(3);
    }
    assert_eq!(curves, lasting(&whole.log_dir.unwrap()));
}

#[test]
fn a_resume_that_is_refused_leaves_the_curves() {
    let folder = tempfile::tempdir().unwrap();
    let (models, logs) = (folder.path().join("models"), folder.path().join("logs"));
    let train = |batches_of_epoch: usize| {
        let student = Net::new(2, 4, 0.2);
        let train_config = config(&models).log_dir(&logs).ckpt_steps(2);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(train_config)
            .adaptor(square)
            .build()?;
        // Its length is not known, so it is no difference.
        let all = || batches(9).into_iter().take(batches_of_epoch);
        let mut loader = FnLoader::new(|_| Ok(all().map(Ok)));
        let run = trainer.train(&mut loader).optimizer(Sgd::new(0.1));
        run.steps(4).resume_or_start().run()
    };
    let run = train(9).unwrap().log_dir.unwrap();
    std::fs::remove_file(models.join("gs4.safetensors")).unwrap();
    std::fs::remove_dir_all(models.join("state/gs4")).unwrap();
    let before = curves(&run);
    assert_eq!(before["scalar/total_loss"].len(), 4);
    let line = first_line(train(1));
    assert!(line.contains("the loader gave only 1 batches"), "{line}");
    assert_eq!(curves(&run), before);
}

#[test]
fn a_run_that_goes_on_elsewhere_or_whose_log_is_gone_has_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (logs, others) = (at("logs"), at("others"));
    let begin = Trained {
        models: at("a"),
        logs: &logs,
        until: 2,
    }
    .run(None, None);
    // Another run in another folder for logs has the same number.
    Trained {
        models: at("b"),
        logs: &others,
        until: 2,
    }
    .run(None, None);
    let elsewhere = Trained {
        models: at("c"),
        logs: &logs,
        until: 6,
    };
    let elsewhere = elsewhere.run(Some(&at("a")), None);
    assert_eq!(elsewhere.resumed_from, Some(2));
    assert_eq!(elsewhere.log_dir, Some(logs.join("run-0002")));
    let strangers = Trained {
        models: at("a"),
        logs: &others,
        until: 6,
    };
    let strangers = strangers.run(Some(&at("a")), None);
    assert_eq!(strangers.log_dir, Some(others.join("run-0002")));
    assert_ne!(strangers.log_dir, begin.log_dir);
}

#[test]
fn a_sink_of_the_user_in_the_log_folder_is_the_only_run_there() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut sink = TensorBoardSink::create(&logs).unwrap();
    let trained = Trained {
        models: folder.path().join("a"),
        logs: &logs,
        until: 6,
    };
    let summary = trained.run(None, Some(sink.clone()));
    sink.scalar("test/accuracy", 0.75, 6).unwrap();
    sink.flush().unwrap();
    assert_eq!(names(&logs), ["run-0001"]);
    assert_eq!(summary.log_dir.as_deref(), Some(sink.path()));
    let curves = curves(sink.path());
    assert_eq!(curves["scalar/total_loss"].len(), 6);
    assert_eq!(curves["test/accuracy"], [(6, 0.75)]);
    assert_eq!(event_files(sink.path()).len(), 1);
}
