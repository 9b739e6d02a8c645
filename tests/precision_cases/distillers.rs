//! Every distiller trains in 16 bits, near to what it does in 32.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use textbrewer::config::Precision;
use textbrewer::distiller::Task;
use textbrewer::{
    AdamW, AdaptorOutput, BasicDistiller, BasicTrainer, DistillationConfig, Distiller, EmdConfig,
    EmdDistiller, GeneralDistiller, IntermediateMatch, MemorySink, MultiTaskDistiller,
    MultiTeacherDistiller, ProjectionSpec, Result, TaskLoader, TrainSummary, TrainingConfig,
};

use crate::common::tiny::{Net, Output, adapt, config, fill_projections, loader, numbers, square};

fn train_config(folder: &Path, precision: Precision) -> TrainingConfig {
    config(folder)
        .precision(precision)
        .gradient_accumulation_steps(2)
        .clip_projections(true)
}

/// With the teachers' outputs kept.
fn distill_config() -> DistillationConfig {
    DistillationConfig::default()
        .is_caching_logits(true)
        .hard_label_weight(0.5)
}

fn projected() -> DistillationConfig {
    let matched = IntermediateMatch::hidden(-1, 1).proj(ProjectionSpec::linear(4, 5));
    distill_config()
        .cache_features(true)
        .intermediate_matches([matched])
}

fn with_labels(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(adapt(batch, output)?.losses(&output.logits.square()))
}

/// What a training came to: its summary, the sum of the losses at every batch, the weights.
type Outcome = (TrainSummary, Vec<f64>, Vec<f64>);

/// Three epochs of four batches, two for each step.
fn run<D: Distiller<Batch = Tensor>>(mut distiller: D, student: &Net) -> Outcome {
    fill_projections(&distiller);
    let log = MemorySink::new();
    let mut batches = loader(4);
    let run = distiller
        .train(&mut batches)
        .epochs(3)
        .log_sink(log.clone());
    let summary = run.optimizer(AdamW::new(0.01)).max_grad_norm(0.5).run();
    (summary.unwrap(), total(&log), numbers(&student.variables))
}

fn total(log: &MemorySink) -> Vec<f64> {
    let curve = log.curve("scalar/total_loss");
    curve.into_iter().map(|(_, value)| value).collect()
}

fn trainer(folder: &Path, precision: Precision) -> Outcome {
    let student = Net::new(2, 4, 0.2);
    let trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(train_config(folder, precision))
        .adaptor(square)
        .build();
    run(trainer.unwrap(), &student)
}

fn basic(folder: &Path, precision: Precision) -> Outcome {
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let distiller = BasicDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config(folder, precision))
        .distill_config(distill_config())
        .adaptor(with_labels)
        .build();
    run(distiller.unwrap(), &student)
}

fn general(folder: &Path, precision: Precision) -> Outcome {
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config(folder, precision))
        .distill_config(projected())
        .adaptor(with_labels)
        .build();
    run(distiller.unwrap(), &student)
}

fn multi_teacher(folder: &Path, precision: Precision) -> Outcome {
    let (first, second) = (Net::new(4, 5, 0.1), Net::new(3, 7, 0.7));
    let student = Net::new(2, 4, 0.2);
    let distiller = MultiTeacherDistiller::builder(&student, &student.variables)
        .teacher(&first, adapt)
        .teacher(&second, adapt)
        .student_adaptor(with_labels)
        .train_config(train_config(folder, precision))
        .distill_config(projected())
        .build();
    run(distiller.unwrap(), &student)
}

fn emd(folder: &Path, precision: Precision) -> Outcome {
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
    let emd_config = EmdConfig::default()
        .attention_weight(0.0)
        .hidden_projection(ProjectionSpec::linear(4, 5));
    let distiller = EmdDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config(folder, precision))
        .distill_config(distill_config().cache_features(true).emd(emd_config))
        .adaptor(with_labels)
        .build();
    run(distiller.unwrap(), &student)
}

fn multi_task(folder: &Path, precision: Precision) -> Outcome {
    let (first, second) = (Net::new(4, 5, 0.1), Net::new(3, 5, 0.7));
    let student = Net::new(2, 4, 0.2);
    let task = |teacher| Task::new().teacher(teacher, adapt);
    let mut distiller = MultiTaskDistiller::builder(&student, &student.variables)
        .task("first", task(&first).student_adaptor(with_labels))
        .task("second", task(&second).student_adaptor(with_labels))
        .train_config(train_config(folder, precision))
        .distill_config(projected())
        .build()
        .unwrap();
    fill_projections(&distiller);
    let log = MemorySink::new();
    let mut tasks = TaskLoader::new()
        .task("first", loader(2))
        .task("second", loader(2))
        .order(["first", "second"]);
    let run = distiller.train(&mut tasks).steps(6).log_sink(log.clone());
    let summary = run.optimizer(AdamW::new(0.01)).max_grad_norm(0.5).run();
    (summary.unwrap(), total(&log), numbers(&student.variables))
}

#[test]
fn every_distiller_trains_in_16_bits() {
    type Train = fn(&Path, Precision) -> Outcome;
    let all: BTreeMap<&str, Train> = BTreeMap::from([
        ("BasicTrainer", trainer as Train),
        ("BasicDistiller", basic),
        ("GeneralDistiller", general),
        ("MultiTeacherDistiller", multi_teacher),
        ("MultiTaskDistiller", multi_task),
        ("EmdDistiller", emd),
    ]);
    let folder = tempfile::tempdir().unwrap();
    for (name, train) in all {
        let (_, exact, weights) = train(folder.path(), Precision::Float32);
        // Two batches at a time: with tasks they take turns.
        let pair = |from: usize| exact[from..from + 2].iter().sum::<f64>();
        assert!(pair(exact.len() - 2) < pair(0), "{name} learns: {exact:?}");
        for (precision, tolerance) in [(Precision::Bf16, 0.02), (Precision::Fp16, 0.004)] {
            let (summary, losses, rounded) = train(folder.path(), precision);
            assert_eq!(summary.global_steps, 6, "{name}");
            let keeps_outputs = name != "BasicTrainer";
            assert_eq!(summary.cache_bytes.is_some(), keeps_outputs, "{name}");
            // Relative errors of 2⁻⁹ and 2⁻¹² in every number, at a few places one after
            // the other.
            assert_eq!(losses.len(), exact.len(), "{name}");
            for (loss, exact) in losses.iter().zip(&exact) {
                assert!(
                    (loss - exact).abs() < tolerance * exact,
                    "{name}: {loss}, {exact}"
                );
            }
            assert!(rounded.iter().all(|weight| weight.is_finite()), "{name}");
            assert_ne!(losses, exact, "{name}: the precision has no effect");
            assert_ne!(rounded, weights, "{name}");
        }
    }
}
