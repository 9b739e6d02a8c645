//! What goes wrong while a run is under way: losses, callbacks, logs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use textbrewer::{
    AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, Error, GeneralDistiller,
    IntermediateMatch, LogSink, MemorySink, ProjectionSpec, Result, Sgd, TrainSummary, weights,
};

use crate::common::tiny::{
    Net, Output, adapt, config, files, first_line, general, loader, numbers, square,
};

/// Six steps with a checkpoint at every second; the labels' loss of batch 3 is NaN.
fn with_nan(folder: &Path, log_interval: Option<u64>, seen: &MemorySink) -> Result<TrainSummary> {
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let count = Cell::new(0);
    let student_adaptor = |batch: &Tensor, output: &Output| {
        let factor = if count.get() == 3 { f64::NAN } else { 1.0 };
        count.set(count.get() + 1);
        Ok(adapt(batch, output)?.losses(&(output.logits.square() * factor)))
    };
    let train_config = config(folder).ckpt_steps(2).log_interval(log_interval);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config)
        .distill_config(DistillationConfig::default().hard_label_weight(1.0))
        .teacher_adaptor(adapt)
        .student_adaptor(student_adaptor)
        .build()?;
    distiller
        .train(&mut loader(4))
        .optimizer(Sgd::new(0.1))
        .log_sink(seen.clone())
        .overwrite(true)
        .steps(6)
        .run()
}

const NAN: &str = "`unweighted_hard_label_loss` is NaN at training step 3 (0.0277 before); nothing \
                   was saved after it. If it grew before, lower the learning rate or clip \
                   gradients (`max_grad_norm`); if not, look at the batch, such as inputs that \
                   are not finite, a mean over no position, a root or logarithm of 0";

/// Before the first optimizer step no learning rate is the cause.
#[test]
fn a_first_loss_that_is_not_a_number_is_no_matter_of_the_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let count = Cell::new(0);
    let bad = |_: &Tensor, output: &Output| {
        count.set(count.get() + 1);
        let factor = if count.get() == 2 { f64::NAN } else { 1.0 };
        Ok(AdaptorOutput::new().losses(&(output.logits.square() * factor)))
    };
    let result = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).gradient_accumulation_steps(3))
        .adaptor(bad)
        .build()
        .unwrap()
        .train(&mut loader(3))
        .optimizer(Sgd::new(0.1))
        .epochs(1)
        .run();
    let error = first_line(result);
    assert!(
        error.starts_with("`total_loss` is NaN at training step 1 (0."),
        "{error}"
    );
    assert!(
        error.ends_with(
            "before); nothing was saved after it. The weights are still those it began with: look \
             at what this term is computed from, such as inputs or weights that are not finite, a \
             mean over no position, a root or logarithm of 0"
        ),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_a_number_is_named_and_nothing_is_saved_after_it() {
    for log_interval in [Some(1), Some(3), Some(1000), None] {
        let folder = tempfile::tempdir().unwrap();
        let seen = MemorySink::new();
        let result = with_nan(folder.path(), log_interval, &seen);
        assert!(
            matches!(&result, Err(Error::NonFiniteLoss { step: 3, .. })),
            "{result:?}"
        );
        assert_eq!(first_line(result), NAN);
        assert_eq!(files(folder.path()), ["gs2.safetensors"]);
        // The values up to the bad one, which is among them, are in the log.
        let steps: Vec<u64> = seen
            .curve("scalar/total_loss")
            .iter()
            .map(|v| v.0)
            .collect();
        assert_eq!(steps, [0, 1, 2, 3], "{log_interval:?}");
    }
}

#[test]
fn files_of_an_earlier_run_survive_one_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("gs4.safetensors");
    std::fs::write(&earlier, "what was there").unwrap();
    with_nan(folder.path(), None, &MemorySink::new()).unwrap_err();
    assert_eq!(std::fs::read(&earlier).unwrap(), b"what was there");
    let saved = weights::read(folder.path().join("gs2.safetensors")).unwrap();
    assert!(
        saved
            .values()
            .all(|t| t.isfinite().all().int64_value(&[]) == 1)
    );
}

#[test]
fn weights_ruined_under_a_finite_loss_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    // The root of 0: its value is finite, its gradient is not.
    let rooted = |_: &Tensor, output: &Output| {
        let zero = (&output.logits - &output.logits).sqrt();
        Ok(AdaptorOutput::new().losses(&zero))
    };
    let result = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(rooted)
        .build()
        .unwrap()
        .train(&mut loader(1))
        .optimizer(Sgd::new(0.1))
        .epochs(1)
        .run();
    assert_eq!(
        first_line(result),
        "variable `head.bias` is not finite after optimizer step 1; it was not saved. Its \
         gradient was NaN or infinite: lower the learning rate or look at the losses"
    );
    assert!(files(folder.path()).is_empty());
}

/// The student takes a usual step, and its projection one beyond all numbers of float32.
#[test]
fn a_projection_ruined_under_a_finite_loss_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let projection = ProjectionSpec::linear(4, 5).learning_rate(1e39);
    let matched = IntermediateMatch::hidden(3, 1).proj(projection);
    let mut distiller = general(
        &teacher,
        &student,
        config(folder.path()),
        DistillationConfig::default().intermediate_matches([matched]),
    )
    .unwrap();
    let result = distiller
        .train(&mut loader(1))
        .optimizer(Sgd::new(0.1))
        .epochs(1)
        .run();
    let Err(Error::NonFiniteVariable { variable, step, .. }) = &result else {
        panic!("{result:?}");
    };
    let names: Vec<String> = distiller
        .core()
        .param_groups()
        .into_iter()
        .flat_map(|group| group.parameters)
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(variable), "{variable} is none of {names:?}");
    assert_eq!(*step, 1);
    assert!(first_line(result).contains("was not saved"));
    assert!(numbers(&student.variables).iter().all(|v| v.is_finite()));
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_failing_callback_is_told_with_its_step_and_the_checkpoint_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_steps(2))
        .adaptor(square)
        .build()
        .unwrap();
    let mut batches = loader(3);
    let result = trainer
        .train(&mut batches)
        .optimizer(Sgd::new(0.1))
        .steps(6)
        .callback(|_, info| match info.global_step {
            4 => Err(Error::other("no development set")),
            _ => Ok(()),
        })
        .run();
    assert!(
        matches!(&result, Err(Error::Callback { step: 4, .. })),
        "{result:?}"
    );
    assert_eq!(
        first_line(result),
        "callback at global step 4: no development set"
    );
    assert_eq!(files(folder.path()), ["gs2.safetensors", "gs4.safetensors"]);
    let saved = weights::read(folder.path().join("gs4.safetensors")).unwrap();
    let state: BTreeMap<_, _> = weights::state_dict(&student.variables)
        .into_iter()
        .collect();
    assert_eq!(saved, state);
}

/// Refuses everything after a few values.
struct Full<'a> {
    room: usize,
    asked: &'a RefCell<usize>,
}

impl LogSink for Full<'_> {
    fn scalar(&mut self, _tag: &str, _value: f64, _step: u64) -> Result<()> {
        *self.asked.borrow_mut() += 1;
        match self.room {
            0 => Err(Error::other("no space left")),
            _ => {
                self.room -= 1;
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_fails_costs_the_log_and_not_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let asked = RefCell::new(0);
    let seen = MemorySink::new();
    let summary = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).log_interval(2))
        .adaptor(square)
        .build()
        .unwrap()
        .train(&mut loader(3))
        .optimizer(Sgd::new(0.1))
        .log_sink(Full {
            room: 3,
            asked: &asked,
        })
        .log_sink(seen.clone())
        .epochs(4)
        .run()
        .unwrap();
    assert_eq!(summary.global_steps, 12);
    assert_eq!(*asked.borrow(), 4);
    assert_eq!(seen.curve("scalar/total_loss").len(), 12);
}
