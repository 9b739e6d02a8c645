//! Hooks whose state is saved and restored with the run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use tch::nn::VarStore;
use tch::{Kind, Tensor};
use textbrewer::{
    AdaptorOutput, BasicTrainer, Distiller, Error, Hook, MemorySink, Result, Sgd, StepInfo,
    TrainSummary, VecLoader, weights,
};

use super::exact::{End, Student, adapt, finish, survives};
use crate::alone;
use crate::common::same_files;
use crate::common::tiny::{Net, batches, config, first_line, folder, loader, numbers, square};

/// A moving average of the student's variables, which pulls the student back to itself after
/// every second step: a wrong average shows in the weights.
struct Average {
    means: Vec<(String, Tensor, Tensor)>,
}

impl Average {
    fn of(variables: &VarStore) -> Self {
        let state = weights::state_dict(variables).into_iter();
        let means = state.map(|(name, variable)| {
            let mean = variable.detach().copy();
            (name, variable, mean)
        });
        Average {
            means: means.collect(),
        }
    }
}

impl<S: ?Sized> Hook<S> for Average {
    fn name(&self) -> &str {
        "average"
    }

    fn after_step(&mut self, _: &S, step: &StepInfo) -> Result<()> {
        for (_, variable, mean) in &mut self.means {
            let _ = mean.f_lerp_tensor_(variable, &Tensor::from(0.25f32))?;
            if step.global_step.is_multiple_of(2) {
                let _ = variable.f_lerp_tensor_(mean, &Tensor::from(0.5f32))?;
            }
        }
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let means = self.means.iter();
        Ok(means
            .map(|(name, _, mean)| (name.clone(), mean.shallow_clone()))
            .collect())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, _, mean) in &mut self.means {
            let saved = state.get(name);
            mean.f_copy_(saved.ok_or_else(|| Error::other(format!("no `{name}`")))?)?;
        }
        Ok(())
    }
}

/// Counts steps; the adaptor makes the loss harder by its level.
struct Curriculum {
    level: Rc<Cell<i64>>,
}

impl<S: ?Sized> Hook<S> for Curriculum {
    fn name(&self) -> &str {
        "curriculum"
    }

    fn after_step(&mut self, _: &S, _: &StepInfo) -> Result<()> {
        self.level.set(self.level.get() + 1);
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let level = Tensor::from(self.level.get());
        Ok(BTreeMap::from([("level".to_owned(), level)]))
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let level = state.get("level");
        let level = level.ok_or_else(|| Error::other("no level"))?;
        self.level.set(i64::try_from(level)?);
        Ok(())
    }
}

fn hooked(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let student = Student::new(end);
    let level = Rc::new(Cell::new(0));
    let harder = Rc::clone(&level);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(
            config(folder)
                .gradient_accumulation_steps(2)
                .ckpt_steps(2)
                .log_interval(1),
        )
        .adaptor(move |batch: &Tensor, output| {
            let level = Tensor::from(1.0 + harder.get() as f32);
            let logits = adapt(batch, output)?.logits[0].whole()?;
            Ok(AdaptorOutput::new().losses(&(logits * level).square()))
        })
        .build()?;
    let mut loader = VecLoader::new(batches(5))?.shuffle(6);
    let run = trainer
        .train(&mut loader)
        .steps(6)
        .optimizer(Sgd::new(0.05).momentum(0.9))
        .hook(Average::of(&student.variables))
        .hook(Curriculum { level })
        .after_step(|_, _| Ok(()));
    finish(run, &student.flag, resumes, sink)
}

#[test]
fn an_average_and_a_curriculum() {
    survives(hooked, 12, 6);
}

/// The state of the hooks at the end is that of the run without an interruption, too.
#[test]
fn the_states_of_hooks_are_the_same_at_the_end() {
    let _alone = alone();
    let state_of = |ends: &[End]| {
        let folder = folder();
        tch::manual_seed(11);
        for (part, end) in ends.iter().enumerate() {
            let _ = hooked(folder.path(), *end, part > 0, &MemorySink::new());
        }
        folder
    };
    let (whole, parts) = (
        state_of(&[End::Never]),
        state_of(&[End::Flag(6), End::Crash(3), End::Never]),
    );
    let hooks = |folder: &Path| folder.join("state/gs6/hooks.safetensors");
    assert!(same_files(&hooks(whole.path()), &hooks(parts.path())));
    let folder = folder();
    hooked(folder.path(), End::Never, false, &MemorySink::new()).unwrap();
    let state = weights::read(folder.path().join("state/gs6/hooks.safetensors")).unwrap();
    assert_eq!(state["curriculum/level"], Tensor::from(6i64));
    assert!(state.contains_key("average/below.weight"));
}

/// A short run of two steps with a hook, or none.
fn train(
    folder: &Path,
    student: &Net,
    hook: Option<&mut dyn Hook<Net>>,
    resumes: bool,
) -> Result<TrainSummary> {
    let mut trainer = BasicTrainer::builder(student, &student.variables)
        .train_config(config(folder))
        .adaptor(square)
        .build()?;
    let mut loader = loader(2);
    let mut run = trainer
        .train(&mut loader)
        .epochs(1)
        .optimizer(Sgd::new(0.1));
    if let Some(hook) = hook {
        run = run.hook(hook);
    }
    match resumes {
        true => run.resume(folder).run(),
        false => run.run(),
    }
}

/// What a hook does wrong when it is to restore a state of 3.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Ignores,
    Forgets,
    Refuses,
    OtherShape,
    OtherKind,
    More,
}

struct Faulty {
    state: BTreeMap<String, Tensor>,
    fault: Fault,
}

fn copies(state: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let copy = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.copy());
    state.iter().map(copy).collect()
}

impl Faulty {
    fn new(value: Tensor, fault: Fault) -> Self {
        let state = BTreeMap::from([("value".to_owned(), value)]);
        Faulty { state, fault }
    }
}

impl<S: ?Sized> Hook<S> for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn after_step(&mut self, _: &S, _: &StepInfo) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let state = self.state.iter();
        Ok(state.map(|(n, t)| (n.clone(), t.shallow_clone())).collect())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.state = copies(state);
        let value = self.state.get_mut("value").unwrap();
        match self.fault {
            Fault::None => {}
            Fault::Ignores => *value = Tensor::from(0f32),
            Fault::Forgets => self.state.clear(),
            Fault::Refuses => return Err(Error::other("no room for it")),
            Fault::OtherShape => *value = Tensor::from_slice(&[3f32]),
            Fault::OtherKind => *value = value.to_kind(Kind::Double),
            Fault::More => {
                self.state.insert("more".to_owned(), Tensor::from(1));
            }
        }
        Ok(())
    }
}

#[test]
fn a_state_that_is_not_restored_is_refused_and_nothing_else_is_changed() {
    let _alone = alone();
    let folder = folder();
    let mut hook = Faulty::new(Tensor::from(3f32), Fault::None);
    train(folder.path(), &Net::new(1, 4, 0.2), Some(&mut hook), false).unwrap();
    for (fault, expected) in [
        (Fault::Ignores, "`value` has other values"),
        (
            Fault::Forgets,
            "`value` was saved, and `state` does not return it",
        ),
        (Fault::Refuses, "no room for it"),
        (Fault::OtherShape, "`value` is Float [1], not Float []"),
        (Fault::OtherKind, "`value` is Double [], not Float []"),
        (Fault::More, "`more` was not saved"),
    ] {
        let student = Net::new(1, 4, 0.7);
        let before = numbers(&student.variables);
        let mut hook = Faulty::new(Tensor::from(0f32), fault);
        let result = train(folder.path(), &student, Some(&mut hook), true);
        assert!(
            matches!(&result, Err(Error::Hook { step: 2, .. })),
            "{result:?}"
        );
        let line = first_line(result);
        assert!(line.starts_with("hook `faulty` at global step 2: "));
        assert!(line.contains(expected), "{line}");
        assert_eq!(fault != Fault::Refuses, line.contains("2: load_state: "));
        assert_eq!(numbers(&student.variables), before);
    }
    // The checkpoint is good; NaN and infinity come back as they are.
    for value in [3f32, f32::NAN, f32::NEG_INFINITY] {
        let folder = crate::common::tiny::folder();
        let mut hook = Faulty::new(Tensor::from(value), Fault::None);
        let student = Net::new(1, 4, 0.2);
        train(folder.path(), &student, Some(&mut hook), false).unwrap();
        let mut hook = Faulty::new(Tensor::from(0f32), Fault::None);
        let summary = train(folder.path(), &student, Some(&mut hook), true).unwrap();
        assert_eq!(summary.resumed_from, Some(2));
        let restored = hook.state["value"].double_value(&[]);
        assert!(
            restored == f64::from(value) || (restored.is_nan() && value.is_nan()),
            "{restored}"
        );
    }
}

#[test]
fn another_set_of_hooks_is_a_difference() {
    let _alone = alone();
    let (with, without) = (folder(), folder());
    let student = Net::new(1, 4, 0.2);
    let hook = || Faulty::new(Tensor::from(3f32), Fault::None);
    train(with.path(), &student, Some(&mut hook()), false).unwrap();
    train(without.path(), &student, None, false).unwrap();
    let differences = |result: Result<TrainSummary>| match result {
        Err(Error::ResumeMismatch { differences, .. }) => differences,
        other => panic!("{other:?}"),
    };
    let lost = train(with.path(), &student, None, true);
    assert_eq!(
        differences(lost),
        ["hooks: [\"faulty\"] in the checkpoint, missing now"]
    );
    let added = train(without.path(), &student, Some(&mut hook()), true);
    assert_eq!(
        differences(added),
        ["hooks: not in the checkpoint, [\"faulty\"] now"]
    );
    let mut other = Curriculum {
        level: Rc::default(),
    };
    let other = train(with.path(), &student, Some(&mut other), true);
    assert_eq!(
        differences(other),
        ["hooks: [\"faulty\"] in the checkpoint, [\"curriculum\"] now"]
    );
    // A run without hooks goes on from a checkpoint without hooks, which has no file of them.
    train(without.path(), &student, None, true).unwrap();
    assert!(!without.path().join("state/gs2/hooks.safetensors").exists());
}

/// Closures remember nothing, so that others may be added, moved or left out.
#[test]
fn other_closures_are_no_difference() {
    let _alone = alone();
    let folder = folder();
    let run = |level: i64, before: usize, after: usize| {
        let student = Net::new(1, 4, 0.2);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(square)
            .build()?;
        let mut loader = loader(2);
        let mut run = trainer.train(&mut loader).epochs(1);
        let level = Rc::new(Cell::new(level));
        for _ in 0..before {
            run = run.after_step(|_, _| Ok(()));
        }
        run = run.hook(Curriculum {
            level: Rc::clone(&level),
        });
        for _ in 0..after {
            run = run.after_step(|_, _| Ok(()));
        }
        let run = run.optimizer(Sgd::new(0.1)).resume_or_start();
        let summary = run.run()?;
        Ok::<_, Error>((summary.resumed_from, level.get()))
    };
    assert_eq!(run(0, 0, 1).unwrap(), (None, 2));
    for (before, after) in [(1, 0), (2, 1), (0, 0)] {
        assert_eq!(run(7, before, after).unwrap(), (Some(2), 2));
    }
}
