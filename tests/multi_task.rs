//! Several tasks: each batch goes to its own task's teachers and adaptors, the matches are
//! shared, and the order of the tasks is the loader's.

mod common;

#[path = "multi_task_cases/errors.rs"]
mod errors;

use std::cell::Cell;
use std::collections::BTreeMap;

use common::close;
use common::tiny::{
    Counted, Net, Output, adapt, batch, batches, config, fill_projections, general, loader,
    losses_of, numbers, projected_numbers,
};
use tch::{Kind, Tensor};
use textbrewer::distiller::{DistillerBuilder, Ensemble, ManyTasks, Task};
use textbrewer::{
    AdaptorOutput, DataLoader, DistillationConfig, Distiller, GeneralDistiller, IntermediateMatch,
    MemorySink, MultiTaskDistiller, MultiTeacherDistiller, ProjectionSpec, Result, Sgd, TaskBatch,
    TaskLoader,
};

type Builder<'a> =
    DistillerBuilder<'a, Tensor, ManyTasks<'a, Tensor, Net>, MultiTaskDistiller<'a, Tensor, Net>>;

/// Four classes for each example, from the mean of the first hidden states.
fn four_classes(_: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let first = &output.hidden[0];
    let mean = first.mean_dim([1i64].as_slice(), false, Kind::Float);
    Ok(AdaptorOutput::new()
        .logits(mean.narrow(-1, 0, 4))
        .hidden(&output.hidden))
}

/// Teachers of two tasks, and a student.
struct Nets {
    qa: Counted,
    ner: Counted,
    student: Net,
}

impl Nets {
    fn new() -> Self {
        Nets {
            qa: Counted::new(4, 5, 0.1),
            ner: Counted::new(3, 5, 0.7),
            student: Net::new(2, 4, 0.2),
        }
    }

    fn qa(&self) -> Task<'_, Tensor, Output> {
        Task::new().teacher(&self.qa, adapt).student_adaptor(adapt)
    }

    fn ner(&self) -> Task<'_, Tensor, Output> {
        Task::new()
            .teacher(&self.ner, four_classes)
            .student_adaptor(four_classes)
    }

    fn without_tasks(&self) -> Builder<'_> {
        MultiTaskDistiller::builder(&self.student, &self.student.variables)
    }

    fn builder(&self) -> Builder<'_> {
        self.without_tasks()
            .task("qa", self.qa())
            .task("ner", self.ner())
    }
}

fn two_tasks<'a>() -> TaskLoader<'a, Tensor> {
    TaskLoader::new()
        .task("qa", loader(3))
        .task("ner", loader(2))
}

fn with_match() -> DistillationConfig {
    let matched = IntermediateMatch::hidden(-1, 1).proj(ProjectionSpec::linear(4, 5));
    DistillationConfig::default().intermediate_matches([matched])
}

#[test]
fn a_batch_goes_to_the_teacher_and_adaptors_of_its_task() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let adapted = [0; 4].map(Cell::new);
    let counting = |index: usize, adaptor: fn(&Tensor, &Output) -> Result<AdaptorOutput>| {
        let adapted = &adapted;
        move |batch: &Tensor, output: &Output| {
            adapted[index].set(adapted[index].get() + 1);
            adaptor(batch, output)
        }
    };
    let qa = Task::new().teacher(&nets.qa, counting(0, adapt));
    let ner = Task::new().teacher(&nets.ner, counting(1, four_classes));
    let mut distiller = nets
        .without_tasks()
        .task("qa", qa.student_adaptor(counting(2, adapt)))
        .task("ner", ner.student_adaptor(counting(3, four_classes)))
        .train_config(config(folder.path()))
        .build()
        .unwrap();
    let mut tasks = two_tasks().order(["qa", "ner", "qa"]);
    let run = distiller.train(&mut tasks).optimizer(Sgd::new(0.1));
    run.steps(7).run().unwrap();
    assert_eq!((nets.qa.calls(), nets.ner.calls()), (5, 2));
    assert_eq!(adapted.each_ref().map(Cell::get), [5, 2, 5, 2]);
}

#[test]
fn a_batch_of_one_task_is_a_general_distillers() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let builder = nets.builder().train_config(config(folder.path()));
    let mut tasks = builder.distill_config(with_match()).build().unwrap();
    fill_projections(&tasks);
    let qa_config = config(folder.path());
    let mut qa = general(&nets.qa.net, &nets.student, qa_config, with_match()).unwrap();
    let mut ner = GeneralDistiller::builder(&nets.ner, &nets.student, &nets.student.variables)
        .train_config(config(folder.path()))
        .distill_config(with_match())
        .adaptor(four_classes)
        .build()
        .unwrap();
    fill_projections(&qa);
    fill_projections(&ner);
    let mut of = |task: &str, batch: &Tensor| {
        let batch = TaskBatch::new(task, batch.shallow_clone());
        losses_of(&mut tasks, &batch)
    };
    for batch in batches(3) {
        let (of_qa, of_ner) = (of("qa", &batch), of("ner", &batch));
        assert_eq!(of_qa, losses_of(&mut qa, &batch));
        assert_eq!(of_ner, losses_of(&mut ner, &batch));
        assert_ne!(of_qa["unweighted_kd_loss"], of_ner["unweighted_kd_loss"]);
        assert_eq!(of_qa.len(), 3);
    }
}

#[test]
fn a_task_may_have_several_teachers() {
    let folder = tempfile::tempdir().unwrap();
    let (nets, second) = (Nets::new(), Counted::new(2, 7, 0.9));
    let both = |ensemble| nets.qa().teacher(&second, adapt).ensemble(ensemble);
    for ensemble in [Ensemble::Confidence, Ensemble::Weighted(vec![1.0, 3.0])] {
        let mut tasks = nets
            .without_tasks()
            .task("ner", nets.ner())
            .task("qa", both(ensemble.clone()))
            .train_config(config(folder.path()))
            .build()
            .unwrap();
        let mut alone = MultiTeacherDistiller::builder(&nets.student, &nets.student.variables)
            .teacher(&nets.qa, adapt)
            .teacher(&second, adapt)
            .student_adaptor(adapt)
            .ensemble(ensemble)
            .train_config(config(folder.path()))
            .build()
            .unwrap();
        let got = losses_of(&mut tasks, &TaskBatch::new("qa", batch(1)));
        assert_eq!(got, losses_of(&mut alone, &batch(1)));
    }
    assert_eq!(second.calls(), 4);

    // A match may name the second teacher where every task has one.
    let matched = IntermediateMatch::hidden(0, 0).proj(ProjectionSpec::linear(4, 7));
    let matches = DistillationConfig::default().intermediate_matches([matched.teacher(1)]);
    let builder = nets.without_tasks().train_config(config(folder.path()));
    let mut tasks = builder
        .task("qa", both(Ensemble::MeanLogits))
        .distill_config(matches)
        .build()
        .unwrap();
    let losses = losses_of(&mut tasks, &TaskBatch::new("qa", batch(1)));
    assert!(losses.contains_key("unweighted_hidden_hidden_mse_0_0_teacher1"));
}

#[test]
fn all_tasks_share_the_matches_and_their_projections() {
    let folder = tempfile::tempdir().unwrap();
    let trained = |order: &'static [&'static str]| {
        let nets = Nets::new();
        let builder = nets.builder().train_config(config(folder.path()));
        let mut distiller = builder.distill_config(with_match()).build().unwrap();
        fill_projections(&distiller);
        let before = projected_numbers(&distiller);
        assert_eq!(before.len(), 4 * 5 + 5);
        let mut tasks = two_tasks().order(order.iter().copied());
        let run = distiller.train(&mut tasks).optimizer(Sgd::new(0.1));
        let summary = run.steps(order.len() as u64).run().unwrap();
        assert!(summary.losses["unweighted_hidden_hidden_mse_1_-1"] > 0.0);
        let after = projected_numbers(&distiller);
        assert!(before.iter().zip(&after).all(|(a, b)| a != b));
        after
    };
    let (qa, ner) = (trained(&["qa"]), trained(&["ner"]));
    let both = trained(&["qa", "ner"]);
    assert!(qa != ner && both != qa && both != ner);
}

/// How often each teacher is asked in a run of 60 steps.
fn calls(tau: f64) -> [usize; 2] {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let builder = nets.builder().train_config(config(folder.path()));
    let mut distiller = builder.build().unwrap();
    let tasks = || {
        let tasks = TaskLoader::new().task("qa", loader(12));
        tasks.task("ner", loader(3)).tau(tau).seed(4)
    };
    let mut loader = tasks();
    let run = distiller.train(&mut loader).optimizer(Sgd::new(0.1));
    run.steps(60).run().unwrap();
    let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
    for batch in tasks().epoch(1).unwrap().take(60) {
        *drawn.entry(batch.unwrap().task).or_default() += 1;
    }
    let calls = [nets.qa.calls(), nets.ner.calls()];
    let of = |task: &str| drawn.get(task).copied().unwrap_or_default();
    assert_eq!(calls, [of("qa"), of("ner")]);
    calls
}

#[test]
fn a_run_has_as_much_of_each_task_as_tau_says() {
    // Of 60 draws 48 by size, 40 by its root, 30 without it are expected of the larger
    // task; three standard deviations are 9.3, 11 and 11.6.
    for (tau, expected) in [(1.0, 48.0), (0.5, 40.0), (0.0, 30.0)] {
        let [qa, ner] = calls(tau);
        assert_eq!(qa + ner, 60);
        let off = (qa as f64 - expected).abs();
        assert!(off < 12.0, "tau {tau}: {qa} of qa");
    }
    assert!(calls(1.0)[0] > calls(0.0)[0]);
    assert_eq!(calls(1e3), [60, 0]);
    assert_eq!(calls(-1e3), [0, 60]);
}

#[test]
fn weights_follow_the_progress_whatever_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let nets = Nets::new();
    let with_loss = |batch: &Tensor, output: &Output| {
        let loss = output.logits.square().mean(Kind::Float);
        adapt(batch, output).map(|adapted| adapted.losses(&loss))
    };
    let mut distiller = nets
        .without_tasks()
        .task("qa", nets.qa().student_adaptor(with_loss))
        .task("ner", nets.ner())
        .train_config(config(folder.path()))
        .distill_config(
            DistillationConfig::default()
                .kd_loss_weight(0.7)
                .kd_loss_weight_scheduler("linear_decay")
                .hard_label_weight(0.2)
                .hard_label_weight_scheduler("linear_growth"),
        )
        .build()
        .unwrap();
    let (sink, mut tasks) = (MemorySink::new(), two_tasks().order(["qa", "ner"]));
    let before = numbers(&nets.student.variables);
    let run = distiller.train(&mut tasks).log_sink(sink.clone());
    run.optimizer(Sgd::new(0.1)).steps(8).run().unwrap();
    assert_ne!(numbers(&nets.student.variables), before);

    let kd = sink.curve("scalar/unweighted_kd_loss");
    let hard: BTreeMap<u64, f64> = sink
        .curve("scalar/unweighted_hard_label_loss")
        .into_iter()
        .collect();
    // One task alone has labels.
    assert_eq!((kd.len(), hard.len()), (8, 4));
    let totals = sink.curve("scalar/total_loss").into_iter().zip(kd);
    for (index, ((step, total), (_, kd))) in totals.enumerate() {
        let done = index as f64 / 8.0;
        // The first step uses the configured weights.
        let (kd_weight, hard_weight) = match done {
            0.0 => (0.7, 0.2),
            done => (1.0 - done, done),
        };
        let hard = hard.get(&step).copied().unwrap_or_default();
        let expected = kd_weight * kd + hard_weight * hard;
        assert!(
            close(total, expected),
            "step {step}: {total}, not {expected}"
        );
    }
}
