//! Distillation from a file beside distillation from the teacher itself.

use std::path::Path;

use textbrewer::data::{TaskBatch, TaskLoader};
use textbrewer::distiller::{Ensemble, Task};
use textbrewer::{
    AdaptorOutput, DataLoader, DistillationConfig, Distiller, EmdConfig, EmdDistiller,
    GeneralDistiller, IntermediateMatch, Model, MultiTaskDistiller, MultiTeacherDistiller, Sgd,
    TeacherFile,
};

use super::common::tiny::{config, numbers};
use super::{
    Said, Sentences, Words, adapt, loader, loader_of, masks, record, recording, sentences,
};
use textbrewer::teacher_file::Stored;

fn distillation() -> DistillationConfig {
    DistillationConfig::default()
        .temperature(2.0)
        .kd_loss_type("forward_kl")
        .intermediate_matches([
            IntermediateMatch::hidden(-1, 1),
            IntermediateMatch::attention(0, 0).loss("attention_ce"),
        ])
}

fn trained<D: Distiller<Batch = Sentences>>(
    distiller: &mut D,
    student: &Words,
    loader: &mut dyn DataLoader<Batch = Sentences>,
) -> Vec<f64> {
    let run = distiller
        .train(loader)
        .epochs(3)
        .optimizer(Sgd::new(0.2).momentum(0.9));
    run.progress(false).run().unwrap();
    numbers(&student.variables)
}

/// From any teacher, in batches of so many, in the file's order.
fn general<T>(
    teacher: T,
    adaptor: impl Fn(&Sentences, &T::Output) -> textbrewer::Result<AdaptorOutput>,
    batch_size: usize,
) -> Vec<f64>
where
    T: Model<Sentences>,
{
    let folder = tempfile::tempdir().unwrap();
    let student = Words::new(0.8);
    let mut distiller = GeneralDistiller::builder(teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(distillation())
        .teacher_adaptor(adaptor)
        .student_adaptor(adapt)
        .build()
        .unwrap();
    trained(&mut distiller, &student, &mut loader(batch_size, false))
}

fn said(_: &Sentences, said: &AdaptorOutput) -> textbrewer::Result<AdaptorOutput> {
    Ok(said.shallow_clone())
}

#[test]
fn the_recorded_batches_train_to_the_bit_and_others_within_what_kernels_differ() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    let file = record(folder.path(), &teacher, 4);
    let live = general(&teacher, adapt, 4);
    let from_file = general(file.teacher(masks), said, 4);
    assert_eq!(from_file, live);
    let live = general(&teacher, adapt, 7);
    let from_file = general(file.teacher(masks), said, 7);
    let difference = live
        .iter()
        .zip(&from_file)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(difference <= 1e-5, "{difference}");
    // Something was learned at all.
    assert_ne!(live, numbers(&Words::new(0.8).variables));
}

#[test]
fn a_top_k_of_all_classes_trains_as_the_logits_do() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    let file = recording(folder.path())
        .top_k(super::WORDS, 2.0)
        .feature("hidden", [-1], Stored::Float32)
        .attention("attention", [0], Stored::Float32)
        .run(&teacher, adapt, &mut loader(4, false))
        .unwrap();
    let (live, from_file) = (
        general(&teacher, adapt, 4),
        general(file.teacher(masks), said, 4),
    );
    let difference = live
        .iter()
        .zip(&from_file)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(difference > 0.0 && difference < 2e-3, "{difference}");
}

/// A file beside a live teacher, and a file for each.
#[test]
fn several_teachers_may_be_files() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let teachers = [Words::new(0.3), Words::new(0.5)];
    let first = record(folder.path(), &teachers[0], 4);
    let second = record(other.path(), &teachers[1], 4);
    let train = |files: usize| {
        let folder = tempfile::tempdir().unwrap();
        let student = Words::new(0.8);
        let builder = MultiTeacherDistiller::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(DistillationConfig::default().temperature(2.0))
            .ensemble(Ensemble::Weighted(vec![0.3, 0.7]))
            .student_adaptor(adapt);
        let builder = match files {
            0 => builder.teacher(&teachers[0], adapt),
            _ => builder.teacher(first.teacher(masks), said),
        };
        let builder = match files {
            2 => builder.teacher(second.teacher(masks), said),
            _ => builder.teacher(&teachers[1], adapt),
        };
        trained(
            &mut builder.build().unwrap(),
            &student,
            &mut loader(4, false),
        )
    };
    let live = train(0);
    assert_eq!(train(1), live);
    assert_eq!(train(2), live);
}

#[test]
fn emd_takes_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Words::new(0.3);
    let file = record(folder.path(), &teacher, 4);
    fn train<T: Model<Sentences>>(
        teacher: T,
        adaptor: impl Fn(&Sentences, &T::Output) -> textbrewer::Result<AdaptorOutput>,
    ) -> Vec<f64> {
        let folder = tempfile::tempdir().unwrap();
        let student = Words::new(0.8);
        let emd = EmdConfig::default();
        let mut distiller = EmdDistiller::builder(teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(DistillationConfig::default().emd(emd))
            .teacher_adaptor(adaptor)
            .student_adaptor(adapt)
            .build()
            .unwrap();
        trained(&mut distiller, &student, &mut loader(4, false))
    }
    assert_eq!(train(file.teacher(masks), said), train(&teacher, adapt));
}

/// Each task has a file of its own, in which ids may be the same.
#[test]
fn tasks_have_files_of_their_own() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let teachers = [Words::new(0.3), Words::new(0.5)];
    let files: Vec<TeacherFile> = folders
        .iter()
        .zip(&teachers)
        .map(|(folder, teacher)| record(folder.path(), teacher, 4))
        .collect();
    let train = |is_file: bool| {
        let folder = tempfile::tempdir().unwrap();
        let student = Words::new(0.8);
        let mut builder = MultiTaskDistiller::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .distill_config(DistillationConfig::default().temperature(2.0));
        let mut loaders = TaskLoader::new().seed(3);
        for (name, (file, teacher)) in ["a", "b"].into_iter().zip(files.iter().zip(&teachers)) {
            let task = match is_file {
                true => Task::new().teacher(file.teacher(masks), said),
                false => Task::new().teacher(teacher, adapt),
            };
            let of_task = move |output: &Sentences, said: &Said| adapt(output, said);
            builder = builder.task(name, task.student_adaptor(of_task));
            loaders = loaders.task(name, loader(4, false));
        }
        let mut distiller = builder.build().unwrap();
        let run = distiller
            .train(&mut loaders)
            .steps(8)
            .optimizer(Sgd::new(0.2));
        run.progress(false).run().unwrap();
        numbers(&student.variables)
    };
    assert_eq!(train(true), train(false));
    let _: fn(TaskBatch<Sentences>) = drop;
}

/// A run that goes on with another file is another run.
#[test]
fn a_resumed_run_is_refused_another_file() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = tempfile::tempdir().unwrap();
    let run = |file: &Path, resume: bool| {
        let student = Words::new(0.8);
        let file = TeacherFile::open(file).unwrap();
        let mut distiller =
            GeneralDistiller::builder(file.teacher(masks), &student, &student.variables)
                .train_config(config(output.path()))
                .distill_config(distillation())
                .teacher_adaptor(said)
                .student_adaptor(adapt)
                .build()
                .unwrap();
        let mut loader = loader_of(sentences(), 4, false).shuffle(2);
        let run = distiller
            .train(&mut loader)
            .epochs(if resume { 2 } else { 1 });
        let run = run.optimizer(Sgd::new(0.2)).progress(false);
        let run = match resume {
            true => run.resume(output.path()).extend(true),
            false => run,
        };
        run.run().map(drop)
    };
    record(first.path(), &Words::new(0.3), 4);
    record(second.path(), &Words::new(0.5), 4);
    run(first.path(), false).unwrap();
    let message = run(second.path(), true).unwrap_err().to_string();
    assert!(message.contains("teacher_file.0"), "{message}");
    run(first.path(), true).unwrap();
}

/// Neither may leave the other without what it needs.
#[test]
fn two_distillers_may_borrow_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new(0.3);
    let file = record(folder.path(), &words, 4);
    let teacher = file.teacher(masks);
    let output = tempfile::tempdir().unwrap();
    let student = Words::new(0.8);
    // It needs logits alone.
    let logits = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(output.path()))
        .teacher_adaptor(said)
        .student_adaptor(adapt)
        .build()
        .unwrap();
    let live = general(&words, adapt, 4);
    assert_eq!(general(&teacher, said, 4), live);
    drop(logits);
    let batch = loader(4, false).epoch(1).unwrap().next().unwrap().unwrap();
    let whole = teacher.forward(&batch, false).unwrap();
    assert!(whole.features.contains_key("hidden"));
}

/// A form of logits is not a detail: another one is another teacher.
#[test]
fn a_resumed_run_is_refused_another_form_of_logits() {
    let (folder, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = recording(folder.path())
        .logits(Stored::Float32)
        .top_k(4, 1.0)
        .run(&Words::new(0.3), adapt, &mut loader(4, false))
        .unwrap();
    let run = |form: &str, resume: bool| {
        let student = Words::new(0.8);
        let teacher = file.teacher(masks).using(form).unwrap();
        let mut distiller = GeneralDistiller::builder(teacher, &student, &student.variables)
            .train_config(config(output.path()))
            .distill_config(
                DistillationConfig::default()
                    .temperature(1.0)
                    .kd_loss_type("forward_kl"),
            )
            .teacher_adaptor(said)
            .student_adaptor(adapt)
            .build()
            .unwrap();
        let mut loader = loader(4, false);
        let epochs = if resume { 2 } else { 1 };
        let run = distiller.train(&mut loader).epochs(epochs);
        let run = run.optimizer(Sgd::new(0.2)).progress(false);
        match resume {
            true => run.resume(output.path()).extend(true),
            false => run,
        }
        .run()
        .map(drop)
    };
    run("logits.0.top4", false).unwrap();
    let message = run("logits.0", true).unwrap_err().to_string();
    assert!(message.contains("logits.0.top4"), "{message}");
    run("logits.0.top4", true).unwrap();
}
