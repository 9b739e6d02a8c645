//! Every step's loss reaches every log, however seldom the device is asked for them.

use std::cell::Cell;
use std::rc::Rc;

use textbrewer::{
    AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, Error, GeneralDistiller,
    IntermediateMatch, LogSink, MemorySink, Result, Sgd, TrainSummary,
};

use crate::common::tensorboard::{Scalar, read_scalars};
use crate::common::tiny::{Net, adapt, config, loader};

const NAMES: [&str; 4] = [
    "scalar/total_loss",
    "scalar/unweighted_kd_loss",
    "scalar/unweighted_hidden_hidden_mse_1_3",
    "scalar/unweighted_hard_label_loss",
];

/// Ten steps, what they logged in memory, and what TensorBoard would show.
fn logged(log_interval: Option<u64>) -> (Vec<(String, f64, u64)>, Vec<Scalar>, TrainSummary) {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let distill_config = DistillationConfig::default()
        .hard_label_weight(0.5)
        .kd_loss_weight(2.0)
        .intermediate_matches([IntermediateMatch::hidden(3, 1).weight(3.0)]);
    let train_config = config(&folder.path().join("models"))
        .log_dir(folder.path().join("logs"))
        .log_interval(log_interval);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(train_config)
        .distill_config(distill_config)
        .teacher_adaptor(adapt)
        .student_adaptor(|batch, output| Ok(adapt(batch, output)?.losses(&output.logits.square())))
        .build()
        .unwrap();
    let memory = MemorySink::new();
    let summary = distiller
        .train(&mut loader(5))
        .optimizer(Sgd::new(0.1))
        .log_sink(memory.clone())
        .epochs(2)
        .run()
        .unwrap();
    let run = summary.log_dir.clone().unwrap();
    let file = std::fs::read_dir(run).unwrap().next().unwrap().unwrap();
    let mut shown = read_scalars(&file.path());
    // Another number each time.
    shown.retain(|scalar| scalar.tag != "scalar/steps_per_second");
    (memory.scalars(), shown, summary)
}

#[test]
fn the_interval_of_reading_changes_no_value() {
    let (every, shown, summary) = logged(Some(1));
    let tags: Vec<_> = every.iter().take(4).map(|(tag, ..)| tag.as_str()).collect();
    assert_eq!(tags, NAMES);
    // Four losses and the learning rate.
    assert_eq!(every.len(), 50);
    for step in 0..10 {
        let value = |tag: &str| {
            let found = every
                .iter()
                .find(|scalar| scalar.0 == tag && scalar.2 == step);
            found.unwrap().1
        };
        let total = 2.0 * value(NAMES[1]) + 3.0 * value(NAMES[2]) + 0.5 * value(NAMES[3]);
        assert!((value(NAMES[0]) - total).abs() < 1e-5, "step {step}");
    }
    let as_shown: Vec<_> = every
        .iter()
        .map(|(tag, value, step)| Scalar {
            tag: tag.clone(),
            value: *value as f32,
            step: *step as i64,
        })
        .collect();
    assert_eq!(shown, as_shown);
    let last = every.iter().rev().find(|scalar| scalar.0 == NAMES[0]);
    assert_eq!(summary.losses["total_loss"], last.unwrap().1);

    for log_interval in [Some(7), Some(1000), None] {
        let (seldom, shown, seldom_summary) = logged(log_interval);
        assert_eq!(seldom, every, "{log_interval:?}");
        assert_eq!(shown, as_shown, "{log_interval:?}");
        assert_eq!(seldom_summary.losses, summary.losses);
    }
}

#[test]
fn losses_of_batches_after_the_last_step_are_logged_too() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let memory = MemorySink::new();
    let summary = textbrewer::BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).gradient_accumulation_steps(2))
        .adaptor(|_, output| Ok(AdaptorOutput::new().losses(&output.logits.square())))
        .build()
        .unwrap()
        .train(&mut loader(5))
        .optimizer(Sgd::new(0.1))
        .log_sink(memory.clone())
        .epochs(1)
        .run()
        .unwrap();
    let curve = memory.curve("scalar/total_loss");
    let steps: Vec<_> = curve.iter().map(|value| value.0).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    assert_eq!(summary.losses["total_loss"], curve[4].1);
}

#[test]
fn the_values_around_a_bad_one_are_logged_and_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let flushes = Rc::new(Cell::new(0));
    let sink = Flushed {
        memory: MemorySink::new(),
        flushes: Rc::clone(&flushes),
    };
    let memory = sink.memory.clone();
    let calls = Cell::new(0);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).log_interval(5))
        .adaptor(|_, output| {
            calls.set(calls.get() + 1);
            let factor = if calls.get() == 3 { f64::NAN } else { 1.0 };
            Ok(AdaptorOutput::new().losses(&(&output.logits * factor)))
        })
        .build()
        .unwrap();
    let result = trainer
        .train(&mut loader(5))
        .optimizer(Sgd::new(0.0))
        .log_sink(sink)
        .epochs(1)
        .run();
    assert!(
        matches!(result, Err(Error::NonFiniteLoss { step: 2, .. })),
        "{result:?}"
    );
    let curve = memory.curve("scalar/total_loss");
    let steps: Vec<_> = curve.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    assert_eq!(flushes.get(), 1);
}

/// Counts how often it is flushed.
#[derive(Debug)]
struct Flushed {
    memory: MemorySink,
    flushes: Rc<Cell<u32>>,
}

impl LogSink for Flushed {
    fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.memory.scalar(tag, value, step)
    }

    fn flush(&mut self) -> Result<()> {
        self.flushes.set(self.flushes.get() + 1);
        Ok(())
    }
}

#[test]
fn a_callback_is_told_the_means_since_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let calls = Cell::new(0.0);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()).ckpt_epoch_frequency(1))
        .adaptor(|_, output| {
            calls.set(calls.get() + 1.0);
            let loss = output.logits.sum(tch::Kind::Float) * 0.0 + calls.get();
            Ok(AdaptorOutput::new().losses(&loss))
        })
        .build()
        .unwrap();
    let mut told = Vec::new();
    trainer
        .train(&mut loader(4))
        .optimizer(Sgd::new(0.1))
        .callback(|_, info| {
            told.push((info.losses["total_loss"], info.mean_losses["total_loss"]));
            Ok(())
        })
        .epochs(2)
        .run()
        .unwrap();
    // Losses 1 to 4, then 5 to 8.
    assert_eq!(told, [(4.0, 2.5), (8.0, 6.5)]);
}
