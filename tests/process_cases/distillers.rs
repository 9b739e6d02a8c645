//! Every distiller comes to the same with two processes as with one.

use tch::{Kind, Tensor};
use textbrewer::config::Precision;
use textbrewer::distiller::Task;
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, DistillationConfig, EmdConfig, EmdDistiller,
    GeneralDistiller, IntermediateMatch, LayerWeights, MultiTaskDistiller, MultiTeacherDistiller,
    ProjectionSpec, Result, Sgd, TaskLoader,
};

use super::remembering::Remembering;
use super::together::{Case, Process, Trained, are_one, several_are_close_to_one, two_are_one};
use crate::common::observing::Observing;
use crate::common::tiny::{Net, Output, adapt, loader};

/// Hidden states, attentions, a mask, and a feature with a name of its own.
fn features(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let attention = |hidden: &Tensor| hidden.matmul(&hidden.transpose(1, 2)).unsqueeze(1);
    let attention: Vec<_> = output.hidden.iter().map(attention).collect();
    Ok(AdaptorOutput::new()
        .logits(&output.logits)
        .losses(&output.logits.exp())
        .hidden(&output.hidden)
        .attention(&attention)
        .feature("sums", vec![output.logits.cumsum(-1, Kind::Float)])
        .inputs_mask(&batch.select(-1, 0).gt(-0.5).to_kind(Kind::Float)))
}

fn matches() -> DistillationConfig {
    let proj = || ProjectionSpec::linear(4, 6);
    DistillationConfig::default()
        .temperature(4.0)
        .hard_label_weight(0.5)
        .intermediate_matches([
            IntermediateMatch::hidden(1, 0).proj(proj()),
            IntermediateMatch::hidden(2, 1).proj(proj()).weight(0.3),
            IntermediateMatch::new("attention", 2, 1).loss("attention_ce"),
            IntermediateMatch::new("sums", 0, 0).loss("hidden_mse"),
        ])
}

fn teacher() -> Net {
    Net::new(3, 6, 0.5)
}

fn trainer(process: &Process<'_>) -> Trained {
    let student = process.student();
    process.train(process.trainer(&student), &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

fn basic(process: &Process<'_>) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let distiller = BasicDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .adaptor(adapt)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.steps(6).optimizer(Sgd::new(0.1).momentum(0.9))
    })
}

fn general_in(process: &Process<'_>, precision: Precision) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let config = process.config().precision(precision).clip_projections(true);
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config)
        .distill_config(matches())
        .adaptor(features)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01)).max_grad_norm(0.5)
    })
}

fn general(process: &Process<'_>) -> Trained {
    general_in(process, Precision::Float32)
}

fn general_in_bf16(process: &Process<'_>) -> Trained {
    general_in(process, Precision::Bf16)
}

/// The target moves by what the batches of all processes come to.
fn taid(process: &Process<'_>) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let loss = ("taid", [0.2, 0.9, 0.3, 0.5]);
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .distill_config(DistillationConfig::default().kd_loss_type(loss))
        .adaptor(features)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

/// The outputs of the teacher are computed in the first epoch only.
fn cached(process: &Process<'_>) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .distill_config(matches().is_caching_logits(true).cache_features(true))
        .adaptor(features)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(3).optimizer(AdamW::new(0.01))
    })
}

fn own_term(process: &Process<'_>) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .distill_config(matches())
        .adaptor(features)
        .term(Remembering::new(process.rank() as f64))
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

fn several_teachers(process: &Process<'_>) -> Trained {
    let (first, second, student) = (teacher(), Net::new(2, 7, 0.7), process.student());
    let distiller = MultiTeacherDistiller::builder(&student, &student.variables)
        .teacher(&first, adapt)
        .teacher(&second, adapt)
        .student_adaptor(adapt)
        .train_config(process.config())
        .distill_config(DistillationConfig::default().temperature(2.0))
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

/// The student's head for the second task is its first hidden layer, and what lies above gets no
/// gradient of that.
fn lower(_: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let first = &output.hidden[0];
    let mean = first.mean_dim([1i64].as_slice(), false, Kind::Float);
    Ok(AdaptorOutput::new().logits(mean.narrow(-1, 0, 4)))
}

/// In most steps the processes have batches of different tasks.
fn tasks_with(process: &Process<'_>, order: &[&'static str]) -> Trained {
    let (qa, ner, student) = (teacher(), Net::new(2, 5, 0.7), process.student());
    let task = |teacher, adaptor: fn(&Tensor, &Output) -> Result<AdaptorOutput>| {
        Task::new()
            .teacher(teacher, adaptor)
            .student_adaptor(adaptor)
    };
    let distiller = MultiTaskDistiller::builder(&student, &student.variables)
        .task("qa", task(&qa, adapt))
        .task("ner", task(&ner, lower))
        .train_config(process.config())
        .build()
        .unwrap();
    let mut loader = TaskLoader::new()
        .task("qa", loader(3))
        .task("ner", loader(2));
    if !order.is_empty() {
        loader = loader.order(order.to_vec());
    }
    process.train(distiller, &mut loader, |run| {
        run.steps(8).optimizer(AdamW::new(0.01))
    })
}

fn tasks(process: &Process<'_>) -> Trained {
    tasks_with(process, &[])
}

/// All steps have one batch of each task, or two of "ner": what only "qa" reaches has then no
/// gradient in any process.
fn tasks_in_order(process: &Process<'_>) -> Trained {
    tasks_with(process, &["qa", "ner", "ner", "ner"])
}

fn emd_with(process: &Process<'_>, weights: LayerWeights) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let emd = EmdConfig::default()
        .attention_weight(0.0)
        .hidden_projection(ProjectionSpec::linear(4, 6))
        .layer_weights(weights);
    let distiller = EmdDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .distill_config(DistillationConfig::default().emd(emd))
        .adaptor(adapt)
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

fn emd(process: &Process<'_>) -> Trained {
    emd_with(process, LayerWeights::Uniform)
}

#[test]
fn of_one_teacher() {
    let cases: [Case; 7] = [
        ("taid", taid),
        ("trainer", trainer),
        ("basic", basic),
        ("general", general),
        ("general_in_bf16", general_in_bf16),
        ("cached", cached),
        ("own_term", own_term),
    ];
    two_are_one("distillers::of_one_teacher", &cases);
}

/// What one process observes, another one may not, or may find to be NaN.
fn observing(process: &Process<'_>) -> Trained {
    let (teacher, student) = (teacher(), process.student());
    let (group, rank) = (process.group, process.rank() as u64);
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(process.config())
        .adaptor(adapt)
        .term(Observing::new(|report, step| {
            // Every second batch is the second process's.
            let of_second = match group {
                Some(_) => rank == 1,
                None => step.forward_step % 2 == 1,
            };
            if of_second {
                report.observe("only here", Tensor::from(1.0 + step.global_step as f32));
                report.observe("bad", Tensor::from(f32::NAN));
            }
        }))
        .build()
        .unwrap();
    process.train(distiller, &mut loader(12), |run| {
        run.epochs(2).optimizer(AdamW::new(0.01))
    })
}

#[test]
fn of_what_is_observed() {
    two_are_one(
        "distillers::of_what_is_observed",
        &[("observing", observing)],
    );
}

#[test]
fn of_many_teachers_tasks_and_layers() {
    let cases: [Case; 4] = [
        ("several_teachers", several_teachers),
        ("tasks", tasks),
        ("tasks_in_order", tasks_in_order),
        ("emd", emd),
    ];
    two_are_one("distillers::of_many_teachers_tasks_and_layers", &cases);
}

#[test]
fn a_group_of_one() {
    let cases: [Case; 2] = [("general", general), ("tasks", tasks)];
    are_one("distillers::a_group_of_one", (1, 2), &cases);
}

#[test]
fn two_with_two_batches_each() {
    let cases: [Case; 3] = [
        ("general", general),
        ("tasks", tasks),
        ("tasks_in_order", tasks_in_order),
    ];
    several_are_close_to_one("distillers::two_with_two_batches_each", (2, 2), &cases);
}

#[test]
fn three() {
    let cases: [Case; 2] = [("basic", basic), ("emd", emd)];
    several_are_close_to_one("distillers::three", (3, 1), &cases);
}

#[test]
fn four() {
    let cases: [Case; 3] = [("general", general), ("tasks", tasks), ("taid", taid)];
    several_are_close_to_one("distillers::four", (4, 1), &cases);
}
