//! What runs after every optimizer step.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::Tensor;
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::ParamGroup;
use textbrewer::{
    BasicTrainer, Distiller, Error, Hook, LossReport, OnNonFinite, Result, Sgd, StepInfo, Term,
    VecLoader,
};

use crate::common::tiny::{Net, batch, config, files, first_line, loader, numbers, square};

/// A term that says when it is told of a step.
struct Telling<'a> {
    variable: Tensor,
    events: &'a RefCell<Vec<String>>,
}

impl<B> Term<B> for Telling<'_> {
    fn name(&self) -> &str {
        "telling"
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
        Ok(())
    }
    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        assert!(!self.variable.square().requires_grad());
        let event = format!("term {}", step.global_step);
        self.events.borrow_mut().push(event);
        Ok(())
    }
}

#[test]
fn terms_hooks_checkpoint_and_callback_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let events = RefCell::new(Vec::new());
    let note = |event: String| events.borrow_mut().push(event);
    let config = config(folder.path())
        .gradient_accumulation_steps(2)
        .ckpt_steps(2);
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config)
        .adaptor(square)
        .term(Telling {
            variable: student.variables.trainable_variables().remove(0),
            events: &events,
        })
        .build()
        .unwrap()
        .train(&mut loader(3))
        .steps(4)
        .optimizer(Sgd::new(0.1))
        .after_step(|student, step| {
            let variable = &student.variables.trainable_variables()[0];
            assert!(!variable.square().requires_grad());
            assert_eq!((step.total_steps, step.batch_id), (4, None));
            let saved = files(folder.path()).len();
            note(format!(
                "first {} of batch {} in epoch {}, {saved} saved",
                step.global_step, step.forward_step, step.epoch
            ));
            Ok(())
        })
        .after_step(|_, step| {
            note(format!("second {}", step.global_step));
            Ok(())
        })
        .callback(|_, checkpoint| {
            let saved = files(folder.path()).len();
            note(format!(
                "callback {}, {saved} saved",
                checkpoint.global_step
            ));
            Ok(())
        })
        .run()
        .unwrap();
    assert_eq!(
        *events.borrow(),
        [
            "term 1",
            "first 1 of batch 2 in epoch 1, 0 saved",
            "second 1",
            "term 2",
            "first 2 of batch 4 in epoch 2, 0 saved",
            "second 2",
            "callback 2, 1 saved",
            "term 3",
            "first 3 of batch 6 in epoch 2, 1 saved",
            "second 3",
            "term 4",
            "first 4 of batch 8 in epoch 3, 1 saved",
            "second 4",
            "callback 4, 2 saved",
        ]
    );
}

#[test]
fn what_a_hook_changes_is_in_the_checkpoint_of_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(1))
        .steps(1)
        .optimizer(Sgd::new(0.1))
        .after_step(|student, _| {
            for mut variable in student.variables.trainable_variables() {
                let _ = variable.f_zero_()?;
            }
            Ok(())
        })
        .run()
        .unwrap();
    let saved = textbrewer::weights::read(folder.path().join("gs1.safetensors")).unwrap();
    assert!(
        saved
            .values()
            .all(|tensor| tensor.abs().max().double_value(&[]) == 0.0)
    );
}

#[test]
fn an_error_has_the_name_of_the_hook_and_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let mut steps = 0;
    let result = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_steps(1))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(4))
        .steps(4)
        .optimizer(Sgd::new(0.1))
        .after_step(|_, _| {
            steps += 1;
            Ok(())
        })
        .after_step(|_, step| match step.global_step {
            3 => Err(Error::other("out of order")),
            _ => Ok(()),
        })
        .run();
    assert!(
        matches!(&result, Err(Error::Hook { step: 3, hook, .. }) if hook == "after_step 2"),
        "{result:?}"
    );
    assert_eq!(
        first_line(result),
        "hook `after_step 2` at global step 3: out of order"
    );
    // The checkpoint of that step is not there, and the ones before are whole.
    assert_eq!(files(folder.path()), ["gs1.safetensors", "gs2.safetensors"]);
    assert_eq!(steps, 3);
}

/// A hook that does nothing, under any name.
struct Named(&'static str);

impl<S: ?Sized> Hook<S> for Named {
    fn name(&self) -> &str {
        self.0
    }
    fn after_step(&mut self, _: &S, _: &StepInfo) -> Result<()> {
        Ok(())
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::new())
    }
    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn names_tell_hooks_apart() {
    let run = |names: [&'static str; 2]| {
        let folder = tempfile::tempdir().unwrap();
        let student = Net::new(2, 4, 0.2);
        let before = numbers(&student.variables);
        let result = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()
            .unwrap()
            .train(&mut loader(1))
            .steps(1)
            .optimizer(Sgd::new(0.1))
            .hook(Named(names[0]))
            .hook(Named(names[1]))
            .run();
        assert_eq!(result.is_err(), numbers(&student.variables) == before);
        result
    };
    run(["one", "two"]).unwrap();
    for (names, expected) in [
        (["one", "one"], "hook: two are called `one`"),
        (["one", ""], "hook: the name `` is empty"),
        (["a/b", "c"], "hook: the name `a/b` is empty or has a `/`"),
    ] {
        let line = first_line(run(names));
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn hooks_run_after_steps_that_the_device_skips() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let bad = batch(0) * f64::NAN;
    let mut loader = VecLoader::new(vec![batch(0), bad, batch(2)]).unwrap();
    let mut steps = Vec::new();
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader)
        .epochs(1)
        .optimizer(Sgd::new(0.1))
        .on_non_finite(OnNonFinite::SkipStep)
        .after_step(|_, step| {
            steps.push(step.global_step);
            Ok(())
        })
        .run()
        .unwrap();
    assert_eq!((summary.skipped_steps, steps), (1, vec![1, 2, 3]));
}
