//! What cannot be resumed is refused with everything that differs, and nothing is changed.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Tensor};
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::{LossScaling, Optimizer, ParamGroup};
use textbrewer::{
    AdamW, BasicTrainer, Distiller, Error, FnLoader, LossReport, Result, Term, TrainSummary,
    TrainingConfig, weights,
};

use crate::alone;
use crate::common::tiny::{Net, batches, config, first_line, general, loader, numbers, square};

fn train(
    folder: &Path,
    student: &Net,
    change: impl Fn(TrainingConfig) -> TrainingConfig,
    lr: f64,
    count: i64,
    resumes: bool,
) -> Result<TrainSummary> {
    let mut trainer = BasicTrainer::builder(student, &student.variables)
        .train_config(change(config(folder)))
        .adaptor(square)
        .build()?;
    let mut loader = loader(count);
    let run = trainer
        .train(&mut loader)
        .epochs(2)
        .optimizer(AdamW::new(lr));
    match resumes {
        true => run.resume(folder).run(),
        false => run.run(),
    }
}

#[test]
fn every_difference_is_named_and_nothing_is_loaded() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let path = folder.path();
    train(path, &Net::new(2, 4, 0.2), |c| c, 0.1, 3, false).unwrap();
    // Another model, learning rate, accumulation and number of batches.
    let other = Net::new(1, 5, 0.7);
    let before = numbers(&other.variables);
    let accumulates = |config: TrainingConfig| config.gradient_accumulation_steps(2);
    let error = train(path, &other, accumulates, 0.2, 4, true).unwrap_err();
    assert_eq!(numbers(&other.variables), before);
    let Error::ResumeMismatch { differences, .. } = &error else {
        panic!("{error}");
    };
    for expected in [
        "config.gradient_accumulation_steps: 1 in the checkpoint, 2 now",
        "variables `head.weight`.shape: [2,4] in the checkpoint, [2,5] now",
        "variables `layers.1.bias`: ",
        "groups[0].options.lr: 0.1 in the checkpoint, 0.2 now",
        "batches: 3 in the checkpoint, 4 now",
    ] {
        let found = differences
            .iter()
            .any(|difference| difference.starts_with(expected));
        assert!(found, "{expected} in {error}");
    }
    let line = first_line(Err::<(), _>(error));
    assert!(
        line.contains("gs6: cannot be resumed by this run; nothing was loaded"),
        "{line}"
    );
}

#[test]
fn places_and_intervals_may_be_others() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let elsewhere = crate::common::tiny::folder();
    train(folder.path(), &Net::new(2, 4, 0.2), |c| c, 0.1, 3, false).unwrap();
    let student = Net::new(2, 4, 0.9);
    let moves = |config: TrainingConfig| {
        config
            .output_dir(elsewhere.path())
            .ckpt_frequency(3)
            .log_interval(1)
            .log_dir(elsewhere.path().join("logs"))
    };
    let summary = train(folder.path(), &student, moves, 0.1, 3, true).unwrap();
    assert_eq!(summary.resumed_from, Some(6));
    // The weights are there, though the run was complete.
    let saved = weights::read(folder.path().join("gs6.safetensors")).unwrap();
    let (_, bias) = weights::state_dict(&student.variables).remove(0);
    assert_eq!(bias.to_device(Device::Cpu), saved["head.bias"]);
}

#[test]
fn no_checkpoint_is_an_error_unless_it_may_begin() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let student = Net::new(2, 4, 0.2);
    let line = first_line(train(folder.path(), &student, |c| c, 0.1, 3, true));
    assert!(
        line.starts_with("resume: there is no checkpoint in"),
        "{line}"
    );
    assert!(line.contains("resume_or_start"), "{line}");
}

#[test]
fn a_distillation_that_is_configured_otherwise_is_another() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let (teacher, student) = (Net::new(2, 4, 0.1), Net::new(1, 4, 0.2));
    let run = |temperature: f64, resumes: bool| {
        let distill = textbrewer::DistillationConfig::default().temperature(temperature);
        let mut distiller = general(&teacher, &student, config(folder.path()), distill)?;
        let mut loader = loader(2);
        let run = distiller
            .train(&mut loader)
            .steps(2)
            .optimizer(AdamW::new(0.1))
            .schedule(move |step, _| {
                if resumes {
                    1.0
                } else {
                    1.0 / (step + 1) as f64
                }
            });
        match resumes {
            true => run.resume(folder.path()).run(),
            false => run.run(),
        }
    };
    run(4.0, false).unwrap();
    let text = run(8.0, true).unwrap_err().to_string();
    assert!(
        text.contains("distiller.temperature: 4.0 in the checkpoint, 8.0 now"),
        "{text}"
    );
    assert!(text.contains("run.schedule: [1.0,0.5"), "{text}");
}

#[test]
fn a_loss_that_is_scaled_otherwise_is_another() {
    let _alone = alone();
    let train = |folder: &Path, student: &Net, scaling: Option<LossScaling>, resumes: bool| {
        let mut trainer = BasicTrainer::builder(student, &student.variables)
            .train_config(config(folder))
            .adaptor(square)
            .build()?;
        let mut loader = loader(2);
        let mut run = trainer.train(&mut loader).steps(4);
        run = run.optimizer(AdamW::new(0.1));
        if let Some(scaling) = scaling {
            run = run.loss_scaling(scaling);
        }
        match resumes {
            true => run.resume(folder).run(),
            false => run.run(),
        }
    };
    let scaling = || Some(LossScaling::new());
    let other = || Some(LossScaling::new().growth_interval(7));
    let rule = |interval: u64| {
        format!(r#"{{"backoff_factor":0.5,"growth_factor":2.0,"growth_interval":{interval}}}"#)
    };
    let scales = format!(
        "run.loss_scaling: null in the checkpoint, {} now",
        rule(2000)
    );
    let does_not = format!(
        "run.loss_scaling: {} in the checkpoint, null now",
        rule(2000)
    );
    let interval = "run.loss_scaling.growth_interval: 2000 in the checkpoint, 7 now".to_owned();
    for (before, now, expected) in [
        (None, scaling(), scales),
        (scaling(), None, does_not),
        (scaling(), other(), interval),
    ] {
        let folder = tempfile::tempdir().unwrap();
        train(folder.path(), &Net::new(1, 4, 0.2), before, false).unwrap();
        let student = Net::new(1, 4, 0.7);
        let untouched = numbers(&student.variables);
        let error = train(folder.path(), &student, now, true).unwrap_err();
        assert_eq!(numbers(&student.variables), untouched);
        let Error::ResumeMismatch { differences, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(differences, &[expected]);
    }
    // Where the scale began is no difference: it goes on where it was.
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &Net::new(1, 4, 0.2), scaling(), false).unwrap();
    let begun_elsewhere = Some(LossScaling::new().initial_scale(8.0));
    train(folder.path(), &Net::new(1, 4, 0.2), begun_elsewhere, true).unwrap();
}

/// A term that cannot put its state back when it is told so.
#[derive(Debug)]
struct Forgetful {
    fails: bool,
}

impl<B> Term<B> for Forgetful {
    fn name(&self) -> &str {
        "forgetful"
    }
    fn needs(&self) -> Needs {
        Needs::new()
    }
    fn add_to(&mut self, _: &mut LossReport, _: &Said<'_, B>) -> Result<()> {
        Ok(())
    }
    fn param_groups(&self) -> Vec<ParamGroup> {
        Vec::new()
    }
    fn description(&self) -> String {
        String::new()
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }
    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        match self.fails {
            true => Err(Error::other("no room for what it knew")),
            false => Ok(()),
        }
    }
}

#[test]
fn a_distiller_that_fails_to_load_leaves_optimizer_and_student_alone() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let run = |student: &Net, optimizer: &mut AdamW, fails: bool, epochs| {
        let mut distiller = BasicTrainer::builder(student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .term(Forgetful { fails })
            .build()?;
        let mut loader = loader(2);
        let run = distiller.train(&mut loader).epochs(epochs);
        run.optimizer(optimizer).resume_or_start().run()
    };
    run(&Net::new(1, 4, 0.2), &mut AdamW::new(0.1), false, 1).unwrap();
    let (student, mut optimizer) = (Net::new(1, 4, 0.9), AdamW::new(0.1));
    let before = numbers(&student.variables);
    let line = first_line(run(&student, &mut optimizer, true, 2));
    assert!(line.contains("no room for what it knew"), "{line}");
    assert_eq!(numbers(&student.variables), before);
    assert!(optimizer.state().unwrap().is_empty());
    // The checkpoint fits all the same.
    let (student, mut optimizer) = (Net::new(1, 4, 0.9), AdamW::new(0.1));
    run(&student, &mut optimizer, false, 2).unwrap();
    assert_ne!(numbers(&student.variables), before);
    assert!(!optimizer.state().unwrap().is_empty());
}

/// Its checksum is right, so that only what it says can betray it.
#[test]
fn a_position_that_cannot_be_is_refused_before_anything_is_loaded() {
    let _alone = alone();
    for (from, to, expected) in [
        (
            "\"batch\": 3",
            "\"batch\": 2",
            "a position that such a run is never at: batch 2 of epoch 2",
        ),
        (
            "\"scaling\": null",
            "\"scaling\": {\"scale\": 2.0, \"growth_tracker\": 0}",
            "it has a state of loss scaling, and its description says otherwise",
        ),
    ] {
        let folder = crate::common::tiny::folder();
        train(folder.path(), &Net::new(1, 4, 0.2), |c| c, 0.1, 3, false).unwrap();
        let state = folder.path().join("state");
        std::fs::remove_dir_all(state.join("gs3")).unwrap();
        let path = |name: &str| state.join("gs6").join(name);
        let text = std::fs::read_to_string(path("progress.json")).unwrap();
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text);
        std::fs::write(path("progress.json"), &forged).unwrap();
        let manifest = std::fs::read(path("manifest.json")).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let crc32 = crc32fast::hash(forged.as_bytes());
        manifest["files"]["progress.json"] =
            serde_json::json!({ "bytes": forged.len(), "crc32": crc32 });
        std::fs::write(path("manifest.json"), manifest.to_string()).unwrap();

        let student = Net::new(1, 4, 0.9);
        let before = numbers(&student.variables);
        let line = first_line(train(folder.path(), &student, |c| c, 0.1, 3, true));
        assert!(line.contains(expected), "{line}");
        assert_eq!(numbers(&student.variables), before);
    }
}

#[test]
fn only_the_epoch_that_is_gone_on_with_is_begun() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let run = |steps: u64| {
        let begun = RefCell::new(Vec::new());
        let student = Net::new(1, 4, 0.2);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap();
        let mut loader = FnLoader::new(|epoch| {
            begun.borrow_mut().push(epoch);
            Ok(batches(3).into_iter().map(Ok))
        });
        let run = trainer.train(&mut loader).steps(steps);
        run.optimizer(AdamW::new(0.1))
            .resume_or_start()
            .run()
            .unwrap();
        begun.into_inner()
    };
    assert_eq!(run(8), [1, 2, 3]);
    assert_eq!(run(10), [3, 3, 4]);
}

#[test]
fn a_loader_with_fewer_batches_than_were_had_is_told() {
    let _alone = alone();
    let folder = crate::common::tiny::folder();
    let run = |student: &Net, count: usize, steps: u64, resumes: bool| {
        let mut trainer = BasicTrainer::builder(student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()?;
        // Its length is not known, so it is no difference.
        let mut loader = FnLoader::new(|_| Ok(batches(9).into_iter().take(count).map(Ok)));
        let run = trainer
            .train(&mut loader)
            .steps(steps)
            .optimizer(AdamW::new(0.1));
        match resumes {
            true => run.resume_or_start().run(),
            false => run.run(),
        }
    };
    let student = Net::new(1, 4, 0.2);
    run(&student, 5, 4, false).unwrap();
    let other = Net::new(1, 4, 0.7);
    let before = numbers(&other.variables);
    let line = first_line(run(&other, 3, 6, true));
    assert_eq!(numbers(&other.variables), before);
    assert!(
        line.contains("the loader gave only 3 batches of the 4"),
        "{line}"
    );
    // With its data it may also go on for longer than it was to.
    assert_eq!(run(&student, 5, 6, true).unwrap().resumed_from, Some(4));
}
