//! What a term remembers is saved and restored with the run, or the resume fails.

use std::collections::BTreeMap;
use std::path::Path;

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
    /// Nothing is done.
    Never,
    /// It is refused.
    Fails,
}

/// Counts optimizer steps, in a tensor whose memory its state shares.
struct Counting {
    name: &'static str,
    count: Tensor,
    loads: Loads,
}

impl Counting {
    fn new(name: &'static str, loads: Loads) -> Self {
        Counting {
            name,
            count: Tensor::from(0i64),
            loads,
        }
    }

    fn count(&self) -> i64 {
        self.count.int64_value(&[])
    }
}

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
        let count = self.count.shallow_clone();
        Ok(BTreeMap::from([("count".to_owned(), count)]))
    }
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        match self.loads {
            Loads::Well => self.count.f_copy_(&state["count"])?,
            Loads::Never => {}
            Loads::Fails => return Err(Error::other("no room")),
        }
        Ok(())
    }
    fn after_step(&mut self, step: &StepInfo) -> Result<()> {
        let _ = self.count.f_add_(&Tensor::from(1i64))?;
        assert!(
            self.count() as u64 <= step.global_step,
            "steps that are done"
        );
        Ok(())
    }
}

/// Trains on to `steps` with these terms; they show their counts after it.
fn train(folder: &Path, steps: u64, terms: &mut [Counting]) -> Result<TrainSummary> {
    let student = Net::new(1, 4, 0.2);
    let builder = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).ckpt_steps(2))
        .adaptor(square);
    let builder = terms
        .iter_mut()
        .fold(builder, |builder, term| builder.term(term));
    let mut loader = VecLoader::new(batches(3))?;
    let mut trainer = builder.build()?;
    let run = trainer.train(&mut loader).steps(steps).progress(false);
    run.optimizer(AdamW::new(0.05)).resume_or_start().run()
}

fn two(second: Loads) -> [Counting; 2] {
    [
        Counting::new("first", Loads::Well),
        Counting::new("second", second),
    ]
}

fn counts(terms: &[Counting]) -> Vec<i64> {
    terms.iter().map(Counting::count).collect()
}

#[test]
fn a_term_goes_on_counting_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut terms = two(Loads::Well);
    let summary = train(folder.path(), 4, &mut terms).unwrap();
    assert_eq!((summary.resumed_from, counts(&terms)), (None, vec![4, 4]));
    let mut terms = two(Loads::Well);
    let summary = train(folder.path(), 7, &mut terms).unwrap();
    assert_eq!(
        (summary.resumed_from, counts(&terms)),
        (Some(4), vec![7, 7])
    );
}

#[test]
fn a_state_that_is_not_put_back_is_no_silent_loss() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 4, &mut two(Loads::Well)).unwrap();
    let error = train(folder.path(), 7, &mut two(Loads::Never)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "term `second`: load_state: the state after it is not the saved one: `count` has other \
         values; let it restore every tensor that `state` returns"
    );
}

#[test]
fn a_term_that_refuses_its_state_leaves_the_others_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), 4, &mut two(Loads::Well)).unwrap();
    let mut terms = two(Loads::Fails);
    let error = train(folder.path(), 7, &mut terms).unwrap_err();
    assert_eq!(error.to_string(), "term `second`: no room");
    assert_eq!(counts(&terms), [0, 0]);
}

#[test]
fn terms_that_come_or_go_between_two_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = || [Counting::new("first", Loads::Well)];
    train(folder.path(), 4, &mut one()).unwrap();
    let message = |terms: &mut [Counting]| {
        let error = train(folder.path(), 7, terms).unwrap_err();
        error.to_string()
    };
    let missing = message(&mut []);
    assert!(missing.contains("distiller.term.first"), "{missing}");
    let added = message(&mut two(Loads::Well));
    assert!(added.contains("distiller.term.second"), "{added}");
    assert!(train(folder.path(), 7, &mut one()).is_ok());
}

#[test]
fn names_that_cannot_be_saved_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "a.b", "a/b"] {
        let error = train(folder.path(), 4, &mut [Counting::new(name, Loads::Well)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("term `{name}`: a name must not be empty, nor have a `.` or `/` in it")
        );
    }
}

#[test]
fn a_core_that_refuses_a_state_is_as_it_was() {
    let student = Net::new(1, 4, 0.2);
    let folder = tempfile::tempdir().unwrap();
    let mut terms = two(Loads::Fails);
    let [first, second] = &mut terms;
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(square)
        .term(first)
        .term(second)
        .build()
        .unwrap();
    let five = ["first.count", "second.count"].map(|name| (name.to_owned(), Tensor::from(5i64)));
    let error = trainer.core_mut().load_state(&five.into()).unwrap_err();
    assert_eq!(error.to_string(), "term `second`: no room");
    drop(trainer);
    assert_eq!(counts(&terms), [0, 0]);
}
