//! What is refused, and in which words.

use tch::Tensor;
use textbrewer::distiller::{Ensemble, Task};
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, Error, IntermediateMatch, Sgd, TaskLoader,
};

use crate::common::tiny::{Output, adapt, config, first_line, loader};
use crate::{Builder, Nets, with_match};

#[test]
fn tasks_that_are_not_whole_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let built = |builder: Builder<'_>| {
        let built = builder.train_config(config(folder.path())).build();
        first_line(built)
    };
    let second = DistillationConfig::default()
        .intermediate_matches([IntermediateMatch::hidden(1, 1).teacher(1)]);
    let unweighted = nets.qa().ensemble(Ensemble::Weighted(vec![1.0, 2.0]));
    for (builder, message) in [
        (
            nets.without_tasks(),
            "tasks: none was given; add at least one with `task`",
        ),
        (
            nets.builder().task("qa", nets.ner()),
            "task `qa`: was given twice; give every task a name of its own",
        ),
        (
            nets.builder()
                .task("nli", Task::new().student_adaptor(adapt)),
            "task `nli`, teachers: none was given; add at least one with `teacher`",
        ),
        (
            nets.builder()
                .task("nli", Task::new().teacher(&nets.qa, adapt)),
            "task `nli`, student_adaptor: none was given; say what the model's output means",
        ),
        (
            nets.builder().task("nli", unweighted),
            "task `nli`, ensemble: needs a weight for each of the 1 teacher(s), got 2",
        ),
        (
            nets.without_tasks()
                .task("qa", nets.qa().teacher(&nets.ner, adapt))
                .task("ner", nets.ner())
                .distill_config(second),
            "task `ner`, intermediate_matches[0].teacher: there is no teacher 1; \
             the last is 0, counted from 0",
        ),
    ] {
        assert_eq!(built(builder), message);
    }
}

/// The first error of a run over batches of one task.
fn trained(builder: Builder<'_>, task: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let mut distiller = builder.train_config(config(folder.path())).build().unwrap();
    let mut tasks = TaskLoader::new().task(task, loader(2));
    let run = distiller.train(&mut tasks).optimizer(Sgd::new(0.1));
    run.steps(2).run().unwrap_err()
}

#[test]
fn a_batch_of_a_task_that_nobody_described_is_refused() {
    let nets = Nets::new();
    assert_eq!(
        trained(nets.builder(), "nli").to_string(),
        "task `nli`: a batch is of this task, but the distiller has only ner, qa; \
         describe it with `task`, or name the batches as there"
    );
    assert_eq!((nets.qa.calls(), nets.ner.calls()), (0, 0));
}

#[test]
fn what_goes_wrong_in_a_batch_names_its_task() {
    let nets = Nets::new();
    let logits_only = |_: &Tensor, output: &Output| Ok(AdaptorOutput::new().logits(&output.logits));
    let builder = nets
        .builder()
        .task("nli", nets.qa().student_adaptor(logits_only));
    let error = trained(builder.distill_config(with_match()), "nli");
    assert_eq!(
        error.to_string(),
        "task `nli`: the student adaptor returned no `hidden`, which \
         intermediate_matches[0] (`hidden_mse`) needs"
    );
    let Error::Task { task, source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(task, "nli");
    let source = source.downcast_ref::<Error>();
    assert!(matches!(source, Some(Error::MissingOutput { .. })));

    let failing = |_: &Tensor, _: &Output| Err(Error::other("no such head"));
    let builder = nets
        .builder()
        .task("nli", nets.qa().student_adaptor(failing));
    assert_eq!(
        trained(builder, "nli").to_string(),
        "task `nli`: no such head"
    );
}

#[test]
fn the_limit_of_the_cache_is_no_tasks_own() {
    let nets = Nets::new();
    let cached = DistillationConfig::default().is_caching_logits(true);
    let error = trained(
        nets.builder().distill_config(cached.cache_limit_mb(0)),
        "qa",
    );
    assert!(
        matches!(error, Error::CacheLimit { outputs: 0, .. }),
        "{error}"
    );
}
