//! What a term remembers is saved and restored with the run, or the resume fails.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use tch::Tensor;
use textbrewer::distiller::{Needs, Said};
use textbrewer::optim::ParamGroup;
use textbrewer::{
    AdamW, BasicTrainer, Distiller, Error, LossReport, Result, StepInfo, Term, TrainSummary,
    VecLoader,
};

use crate::common::tiny::{Net, batches, config, square};

/// What happens when the state is put back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loads {
    Well,
    /// It is not implemented.
    Never,
    /// It is refused.
    Fails,
}

/// Counts optimizer steps.
struct Counting {
    name: &'static str,
    count: Rc<Cell<i64>>,
    loads: Loads,
}

/// The same without a `load_state` of its own.
struct Forgetful(Counting);

impl<B> Term<B> for Counting {
    fn name(&self) -> &str {
        self.name
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
        let count = Tensor::from(self.count.get());
        Ok(BTreeMap::from([("count".to_owned(), count)]))
    }
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        if self.loads == Loads::Fails {
            return Err(Error::other("no room"));
        }
        self.count.set(i64::try_from(&state["count"])?);
        Ok(())
    }
    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        self.count.set(self.count.get() + 1);
        assert_eq!(
            self.count.get() as u64,
            step.global_step,
            "steps that are done"
        );
        Ok(())
    }
}

impl<B> Term<B> for Forgetful {
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
        Term::<B>::state(&self.0)
    }
}

/// Trains on to `steps`; the counts of both terms after it.
fn train(folder: &Path, steps: u64, second: Loads) -> (Result<TrainSummary>, [i64; 2]) {
    let student = Net::new(1, 4, 0.2);
    let counts = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
    let [first, other] = &counts;
    let counting = |name, count: &Rc<Cell<i64>>, loads| Counting {
        name,
        count: Rc::clone(count),
        loads,
    };
    let builder = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_steps(2))
        .adaptor(square)
        .term(counting("first", first, Loads::Well));
    let builder = match second {
        Loads::Never => builder.term(Forgetful(counting("second", other, second))),
        _ => builder.term(counting("second", other, second)),
    };
    let mut trainer = builder.build().unwrap();
    let mut loader = VecLoader::new(batches(3)).unwrap();
    let run = trainer.train(&mut loader).steps(steps).progress(false);
    let result = run.optimizer(AdamW::new(0.05)).resume_or_start().run();
    (result, counts.map(|count| count.get()))
}

#[test]
fn a_term_goes_on_counting_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (result, counts) = train(folder.path(), 4, Loads::Well);
    assert_eq!((result.unwrap().resumed_from, counts), (None, [4, 4]));
    let (result, counts) = train(folder.path(), 7, Loads::Well);
    assert_eq!((result.unwrap().resumed_from, counts), (Some(4), [7, 7]));
}

#[test]
fn a_state_that_cannot_be_put_back_is_no_silent_loss() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 4, Loads::Well).0.unwrap();
    let (result, _) = train(folder.path(), 7, Loads::Never);
    assert_eq!(
        result.unwrap_err().to_string(),
        "term `second`: a checkpoint has a state of it, but it does not implement `load_state`"
    );
}

#[test]
fn a_term_that_refuses_its_state_leaves_the_others_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 4, Loads::Well).0.unwrap();
    let (result, counts) = train(folder.path(), 7, Loads::Fails);
    assert_eq!(result.unwrap_err().to_string(), "no room");
    assert_eq!(counts, [0, 0]);
}
