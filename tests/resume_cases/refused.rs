//! A resume that is refused after it began to load changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::{Optimizer, ParamGroup};
use textbrewer::{
    BasicTrainer, Distiller, Error, Hook, LossReport, Result, Sgd, StepInfo, Term, TrainSummary,
    TrainingConfig,
};

use crate::alone;
use crate::common::tiny::{Net, config, folder, loader, numbers, square};

/// A number that counts steps, in the memory of which it also gives its state.
struct Held {
    name: &'static str,
    value: Tensor,
    /// Of the student, into which loading writes too.
    variable: Tensor,
    /// Refuses every state, after it has taken it.
    refuses: bool,
    loads: u32,
}

impl Held {
    fn count(&mut self) -> Result<()> {
        let _ = self.value.f_add_(&Tensor::from(1f32))?;
        Ok(())
    }

    fn shared(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("value".to_owned(), self.value.shallow_clone())])
    }

    fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.loads += 1;
        self.value.f_copy_(&state["value"])?;
        self.variable.f_copy_(&self.variable.zeros_like())?;
        match self.refuses {
            true => Err(Error::other(format!(
                "refused by {}, {}",
                self.name, self.loads
            ))),
            false => Ok(()),
        }
    }
}

impl<S: ?Sized> Hook<S> for Held {
    fn name(&self) -> &str {
        self.name
    }
    fn after_step(&mut self, _: &S, _: &StepInfo) -> Result<()> {
        self.count()
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(self.shared())
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.load(state)
    }
}

/// The same as a term.
struct HeldTerm(Held);

impl<B> Term<B> for HeldTerm {
    fn name(&self) -> &str {
        self.0.name
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
        Ok(self.0.shared())
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.0.load(state)
    }
    fn after_step(&mut self, _: &StepInfo) -> Result<()> {
        self.0.count()
    }
}

/// An optimizer of one's own with a number beside what it steps with.
struct HeldOptimizer {
    inner: Sgd,
    held: Held,
}

impl Optimizer for HeldOptimizer {
    fn add_group(&mut self, group: ParamGroup) -> Result<()> {
        self.inner.add_group(group)
    }
    fn groups(&self) -> &[ParamGroup] {
        self.inner.groups()
    }
    fn zero_grad(&mut self) -> Result<()> {
        self.inner.zero_grad()
    }
    fn step(&mut self, factor: f64) -> Result<()> {
        self.held.count()?;
        self.inner.step(factor)
    }
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.inner.state()?;
        state.extend(self.held.shared());
        Ok(state)
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let inner = state.iter().filter(|(name, _)| *name != "value");
        let inner = inner.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        self.inner.load_state(&inner.collect())?;
        self.held.load(state)
    }
}

const ALL: [&str; 4] = ["one", "two", "term", "optimizer"];

/// Two steps with all that can be loaded, of which one refuses. The number that each holds at
/// the end, what the optimizer remembers, and how the run ended.
fn train(
    student: &Net,
    config: TrainingConfig,
    begins_at: f32,
    refuses: &str,
    resume: Option<&Path>,
) -> ([f64; 4], usize, Result<TrainSummary>) {
    let held = ALL.map(|name| Held {
        name,
        value: Tensor::from(begins_at),
        variable: student.variables.trainable_variables().remove(0),
        refuses: name == refuses,
        loads: 0,
    });
    let values = [0, 1, 2, 3].map(|index| held[index].value.shallow_clone());
    let [one, two, term, own] = held;
    let mut optimizer = HeldOptimizer {
        inner: Sgd::new(0.1).momentum(0.9),
        held: own,
    };
    let mut trainer = BasicTrainer::builder(student, &student.variables)
        .train_config(config)
        .adaptor(square)
        .term(HeldTerm(term))
        .build()
        .unwrap();
    let mut loader = loader(2);
    let run = trainer.train(&mut loader).epochs(1).hook(one).hook(two);
    let run = run.optimizer(&mut optimizer);
    let result = match resume {
        Some(folder) => run.resume(folder).run(),
        None => run.run(),
    };
    let remembered = optimizer.inner.state().unwrap().len();
    let values = values.map(|value| value.double_value(&[]));
    (values, remembered, result)
}

#[test]
fn whoever_refuses_all_others_are_as_they_were() {
    let _alone = alone();
    let folder = folder();
    let config = || config(folder.path());
    let (values, _, result) = train(&Net::new(1, 4, 0.2), config(), 0.0, "nobody", None);
    result.unwrap();
    assert_eq!(values, [2.0; 4]);
    for refuses in ALL {
        let student = Net::new(1, 4, 0.7);
        let before = numbers(&student.variables);
        let resume = Some(folder.path());
        let (values, remembered, result) = train(&student, config(), 7.0, refuses, resume);
        // It refuses to go back as well, of which nothing is told here.
        let text = result.unwrap_err().to_string();
        assert!(
            text.ends_with(&format!("refused by {refuses}, 1")),
            "{text}"
        );
        assert_eq!((values, remembered), ([7.0; 4], 0), "{refuses}");
        assert_eq!(numbers(&student.variables), before, "{refuses}");
    }
    // The checkpoint is good.
    let student = Net::new(1, 4, 0.7);
    let resume = Some(folder.path());
    let (values, remembered, result) = train(&student, config(), 7.0, "nobody", resume);
    assert_eq!(result.unwrap().resumed_from, Some(2));
    assert_eq!(values, [2.0; 4]);
    assert!(remembered > 0);
}

#[test]
fn a_log_that_cannot_be_written_is_told_before_anything_is_loaded() {
    let _alone = alone();
    let folder = folder();
    let config = || config(folder.path());
    train(&Net::new(1, 4, 0.2), config(), 0.0, "nobody", None)
        .2
        .unwrap();
    let in_the_way = folder.path().join("a file");
    std::fs::write(&in_the_way, "").unwrap();
    let student = Net::new(1, 4, 0.7);
    let before = numbers(&student.variables);
    let config = config().log_dir(in_the_way.join("logs"));
    let resume = Some(folder.path());
    let (values, remembered, result) = train(&student, config, 7.0, "nobody", resume);
    assert!(
        matches!(&result, Err(Error::Log { .. } | Error::Io { .. })),
        "{result:?}"
    );
    assert_eq!((values, remembered), ([7.0; 4], 0));
    assert_eq!(numbers(&student.variables), before);
}
