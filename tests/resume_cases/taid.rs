//! TAID, whose target moves with every optimizer step.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use textbrewer::logging::LogAxis;
use textbrewer::{
    AdamW, DistillationConfig, Distiller, Error, GeneralDistiller, MemorySink, Result,
    TrainSummary, TrainingConfig, VecLoader,
};

use super::exact::{End, Student, adapt, finish, survives};
use crate::alone;
use crate::common::same_files;
use crate::common::tiny::{Net, batches, config, folder};

/// From where, to where, how far in a step, and the inertia of it.
const TAID: [f64; 4] = [0.2, 0.9, 0.3, 0.5];

type General<'a> = GeneralDistiller<'a, Tensor, Student>;

fn distiller<'a>(
    teacher: &'a Net,
    student: &'a Student,
    config: TrainingConfig,
    arguments: [f64; 4],
) -> General<'a> {
    let distill = DistillationConfig::default().kd_loss_type(("taid", arguments));
    GeneralDistiller::builder(teacher, student, &student.variables)
        .train_config(config)
        .distill_config(distill)
        .adaptor(adapt)
        .build()
        .unwrap()
}

fn accumulating(folder: &Path) -> TrainingConfig {
    let config = config(folder).gradient_accumulation_steps(2);
    config.ckpt_frequency(3).ckpt_steps(2)
}

/// What the schedule has come to.
fn state(distiller: &General<'_>) -> BTreeMap<String, f64> {
    let state = distiller.core().state().unwrap().into_iter();
    state
        .map(|(name, tensor)| (name, tensor.double_value(&[])))
        .collect()
}

/// Three epochs of seven batches, of which two make a step and the last makes none.
fn epochs(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(end));
    let mut distiller = distiller(&teacher, &student, accumulating(folder), TAID);
    let mut loader = VecLoader::new(batches(7))?.shuffle(4);
    let run = distiller.train(&mut loader).epochs(3);
    finish(
        run.optimizer(AdamW::new(0.02)),
        &student.flag,
        resumes,
        sink,
    )
}

#[test]
fn a_run_that_is_interrupted_comes_to_the_same_bits() {
    survives(epochs, 21, 9);
}

/// Seven batches of two examples or one.
fn uneven() -> Vec<Tensor> {
    let batches = batches(7).into_iter().enumerate();
    let sized = batches.map(|(index, batch)| batch.narrow(0, 0, 2 - index as i64 % 2));
    sized.collect()
}

/// The definition, in plain numbers, of the losses of the batches of each step, and what they weigh.
fn by_hand(steps: &[Vec<(f64, f64)>]) -> [f64; 3] {
    let [t_start, t_end, alpha, beta] = TAID;
    let (mut t, mut momentum, mut before) = (t_start, 0.0, None);
    for (step, losses) in steps.iter().enumerate() {
        let sum: f64 = losses.iter().map(|(loss, weight)| loss * weight).sum();
        let loss = sum / losses.iter().map(|(_, weight)| weight).sum::<f64>();
        if let Some(before) = before {
            let gain = (before - loss) / (before + 1e-15);
            momentum = beta * momentum + (1.0 - beta) * gain;
            let sigmoid = 1.0 / (1.0 + f64::exp(-momentum));
            let line = t_start + (t_end - t_start) * step as f64 / steps.len() as f64;
            t = t_end.min(line.max(t + alpha * sigmoid * (1.0 - t)));
        }
        before = Some(loss);
    }
    [t, momentum, before.unwrap()]
}

/// The engine and its accumulation come to what the definition says of the losses that were logged.
#[test]
fn the_schedule_moves_once_for_each_step() {
    let _alone = alone();
    let remainder = |config: TrainingConfig| config.step_on_remainder(true);
    let as_it_is = |config: TrainingConfig| config;
    let alike = |config: TrainingConfig| config.weigh_by_positions(false);
    type Configured = fn(TrainingConfig) -> TrainingConfig;
    // How many batches each step has, 0 for one that makes none.
    let cases: [(&str, Configured, Option<u64>, &[usize]); 4] = [
        ("left over", as_it_is, None, &[2, 2, 2, 0]),
        ("remainder", remainder, None, &[2, 2, 2, 1]),
        ("steps", as_it_is, Some(10), &[2]),
        ("alike", alike, Some(10), &[2]),
    ];
    for (name, configured, in_steps, pattern) in cases {
        let folder = folder();
        let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(End::Never));
        let config = configured(accumulating(folder.path()));
        let mut distiller = distiller(&teacher, &student, config, TAID);
        let mut loader = VecLoader::new(uneven()).unwrap();
        let sink = MemorySink::new();
        let run = distiller.train(&mut loader).log_axis(LogAxis::ForwardStep);
        let run = match in_steps {
            Some(steps) => run.steps(steps),
            None => run.epochs(2),
        };
        let run = run.optimizer(AdamW::new(0.02)).log_sink(sink.clone());
        let summary = run.progress(false).run().unwrap();
        let losses = sink.curve("scalar/unweighted_kd_loss").into_iter();
        let weight = |index: usize| match name {
            "alike" => 1.0,
            _ => 2.0 - (index % 7 % 2) as f64,
        };
        let losses = losses.enumerate();
        let mut losses = losses.map(|(index, (_, loss))| (loss, weight(index)));
        let mut steps = Vec::new();
        for of_a_step in pattern.iter().cycle() {
            let batches = if *of_a_step == 0 { 1 } else { *of_a_step };
            let batches: Vec<_> = losses.by_ref().take(batches).collect();
            if batches.is_empty() {
                break;
            }
            if *of_a_step > 0 {
                steps.push(batches);
            }
        }
        assert_eq!(summary.global_steps, steps.len() as u64, "{name}");
        let state = state(&distiller);
        let got = ["t", "momentum", "loss"].map(|key| state[&format!("soft_labels.taid.{key}")]);
        for (got, expected) in got.iter().zip(by_hand(&steps)) {
            let is_near = (got - expected).abs() <= 1e-12 * expected.abs();
            assert!(is_near, "{name}: {got}, expected {expected} of {steps:?}");
        }
        assert!(got[0] > 0.2 && got[0] < 0.9, "{name}: {}", got[0]);
    }
}

#[test]
fn another_training_of_the_same_distiller_begins_anew() {
    let _alone = alone();
    let folder = folder();
    let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(End::Never));
    let mut distiller = distiller(&teacher, &student, config(folder.path()), TAID);
    let mut loader = VecLoader::new(batches(4)).unwrap();
    let mut reached = |steps| {
        let run = distiller.train(&mut loader).steps(steps).progress(false);
        run.optimizer(AdamW::new(0.02)).run().unwrap();
        state(&distiller)["soft_labels.taid.t"]
    };
    assert!(reached(6) > 0.5);
    // The first loss is only remembered.
    assert_eq!(reached(1), 0.2);
}

#[test]
fn evaluations_leave_no_trace() {
    let _alone = alone();
    let train = |evaluates: bool| {
        let folder = folder();
        let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(End::Never));
        // Evaluations are between the checkpoints.
        let config = accumulating(folder.path()).ckpt_frequency(1);
        let mut distiller = distiller(&teacher, &student, config, TAID);
        let mut loader = VecLoader::new(batches(7)).unwrap().shuffle(4);
        tch::manual_seed(11);
        let mut run = distiller.train(&mut loader).epochs(3);
        if evaluates {
            run = run.evaluate_at_start().evaluate_every(1);
        }
        let run = run.optimizer(AdamW::new(0.02));
        finish(run, &student.flag, false, &MemorySink::new()).unwrap();
        (state(&distiller), folder)
    };
    let ((with, evaluated), (without, plain)) = (train(true), train(false));
    assert_eq!(with, without);
    let weights = |folder: &Path| folder.join("gs9.safetensors");
    assert!(same_files(
        &weights(evaluated.path()),
        &weights(plain.path())
    ));
}

#[test]
fn other_arguments_are_another_run() {
    let _alone = alone();
    let folder = folder();
    let train = |arguments, resumes| {
        let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(End::Never));
        let mut distiller = distiller(&teacher, &student, accumulating(folder.path()), arguments);
        let mut loader = VecLoader::new(batches(7)).unwrap();
        let run = distiller.train(&mut loader).steps(4);
        let run = run.optimizer(AdamW::new(0.02));
        finish(run, &student.flag, resumes, &MemorySink::new())
    };
    train(TAID, false).unwrap();
    let error = train([0.2, 0.9, 0.3, 0.6], true).unwrap_err();
    let Error::ResumeMismatch { differences, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        differences.len() == 1 && differences[0].contains("kd_loss_type"),
        "{error}"
    );
}
