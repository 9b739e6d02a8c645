//! How teacher and student are run, and what becomes of their outputs.

use std::cell::RefCell;

use tch::nn::{self, Init, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::{
    AdaptorOutput, BasicDistiller, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller,
    IntermediateMatch, LossReport, Sgd, StepInfo, VecLoader, from_fn,
};

use crate::common::close;
use crate::common::tiny::{INPUT, Net, adapt, batch, config, general, loader, numbers};

fn first() -> StepInfo {
    StepInfo::new(0, 0, 1, 0)
}

fn values(report: &LossReport) -> Vec<(String, f64)> {
    let terms = report.losses().iter();
    terms
        .map(|term| (term.name.clone(), term.loss.double_value(&[])))
        .collect()
}

/// A variable with these values.
fn variable(variables: &VarStore, name: &str, values: &Tensor) -> Tensor {
    let mut variable = variables.root().var(name, &values.size(), Init::Const(0.0));
    tch::no_grad(|| variable.copy_(values));
    variable
}

#[test]
fn the_teacher_is_evaluated_without_gradients_and_the_student_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let of_teacher = nn::linear(teacher.root(), INPUT, 2, Default::default());
    let of_student = nn::linear(student.root(), INPUT, 2, Default::default());
    let calls = RefCell::new(Vec::new());
    let teacher_model = from_fn(|batch: &Tensor, train| {
        let logits = of_teacher.forward(batch);
        calls
            .borrow_mut()
            .push(("teacher", train, logits.requires_grad()));
        Ok(logits)
    });
    let student_model = from_fn(|batch: &Tensor, train| {
        let logits = of_student.forward(batch);
        calls
            .borrow_mut()
            .push(("student", train, logits.requires_grad()));
        Ok(logits)
    });
    let before = numbers(&teacher);
    let mut distiller = BasicDistiller::builder(&teacher_model, &student_model, &student)
        .train_config(config(folder.path()))
        .adaptor(|_, logits| Ok(AdaptorOutput::new().logits(logits)))
        .build()
        .unwrap();
    distiller
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(1)
        .run()
        .unwrap();
    let of_one_batch = [("teacher", false, false), ("student", true, true)];
    assert_eq!(*calls.borrow(), of_one_batch.repeat(2));
    // The teacher's variables are trainable, and yet they stay as they are.
    assert!(of_teacher.ws.requires_grad());
    assert!(!of_teacher.ws.grad().defined());
    assert_eq!(numbers(&teacher), before);
}

#[test]
fn several_logits_are_matched_one_with_one_and_summed() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let step = |heads: &'static [f64]| {
        let several = |_: &Tensor, output: &crate::common::tiny::Output| {
            let add =
                |adapted: AdaptorOutput, factor: &f64| adapted.logits(&(&output.logits * *factor));
            Ok(heads.iter().fold(AdaptorOutput::new(), add))
        };
        let mut distiller = BasicDistiller::builder(&teacher, &student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(several)
            .build()
            .unwrap();
        let report = distiller.train_on_batch(&batch(0), &first()).unwrap();
        let values = values(&report);
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].0, "unweighted_kd_loss");
        values[0].1
    };
    let (one, other) = (step(&[1.0]), step(&[-3.0]));
    assert!((one - other).abs() > 1e-3);
    assert!(close(step(&[1.0, -3.0]), one + other));
}

#[test]
fn probability_shift_comes_before_the_mask_selects() {
    let folder = tempfile::tempdir().unwrap();
    // One sentence of three positions, the last of them padding.
    let teacher_logits = Tensor::from_slice(&[2f32, 0.0, 0.0, 1.0, 5.0, 4.0]).view([1, 3, 2]);
    let student_logits = Tensor::from_slice(&[1f32, 0.0, 0.0, 3.0, 9.0, -9.0]).view([1, 3, 2]);
    let labels = Tensor::from_slice(&[1i64, 1, 1]).view([1, 3]);
    let mask = Tensor::from_slice(&[1i64, 1, 0]).view([1, 3]);
    let variables = VarStore::new(Device::Cpu);
    let student_logits = variable(&variables, "logits", &student_logits);
    let teacher = from_fn(|_: &Tensor, _| Ok(teacher_logits.shallow_clone()));
    let student = from_fn(|_: &Tensor, _| Ok(student_logits.shallow_clone()));
    let mut distiller = BasicDistiller::builder(&teacher, &student, &variables)
        .train_config(config(folder.path()))
        .distill_config(
            DistillationConfig::default()
                .temperature(1.0)
                .probability_shift(true),
        )
        .adaptor(|_, logits| {
            let adapted = AdaptorOutput::new().logits(logits);
            Ok(adapted.logits_mask(&mask).labels(&labels))
        })
        .build()
        .unwrap();
    let report = distiller.train_on_batch(&batch(0), &first()).unwrap();

    // By hand: at position 0 the teacher is wrong, and [2, 0] becomes [0, 2]; at position 1
    // it is right; position 2 does not count. With two classes the cross entropy of logits
    // that differ by t and s (second less first) is
    //   σ(t) ln(1 + e⁻ˢ) + σ(−t) ln(1 + eˢ).
    let entropy = |t: f64, s: f64| {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        sigmoid(t) * (-s).exp().ln_1p() + sigmoid(-t) * s.exp().ln_1p()
    };
    let expected = (entropy(2.0, -1.0) + entropy(1.0, 3.0)) / 2.0;
    let got = values(&report);
    assert!(close(got[0].1, expected), "{got:?}, expected {expected}");
    // The teacher's own logits are untouched.
    assert_eq!(teacher_logits.double_value(&[0, 0, 0]), 2.0);
}

#[test]
fn features_of_a_name_of_ones_own_are_matched() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    let renamed = |batch: &Tensor, output: &crate::common::tiny::Output| {
        let adapted = AdaptorOutput::new().feature("states", &output.hidden);
        Ok(adapted.losses(&adapt(batch, output)?.logits[0].whole()?.square()))
    };
    let matched = IntermediateMatch::new("states", -1, -1).loss("hidden_mse");
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()))
        .distill_config(DistillationConfig::default().intermediate_matches([matched]))
        .adaptor(renamed)
        .build()
        .unwrap();
    let report = distiller.train_on_batch(&batch(0), &first()).unwrap();
    let own = values(&report);
    assert_eq!(own[0].0, "unweighted_states_hidden_mse_-1_-1");

    let matched = IntermediateMatch::hidden(3, 1);
    let distill_config = DistillationConfig::default().intermediate_matches([matched]);
    let usual = general(&teacher, &student, config(folder.path()), distill_config);
    let report = usual.unwrap().train_on_batch(&batch(0), &first()).unwrap();
    let usual = values(&report);
    assert_eq!(usual[1].0, "unweighted_hidden_hidden_mse_1_3");
    assert_eq!(own[0].1, usual[1].1);
}

#[test]
fn a_tuple_is_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let variables = VarStore::new(Device::Cpu);
    let linear = nn::linear(variables.root(), INPUT, 2, Default::default());
    crate::common::tiny::fill(&variables, 0.3);
    let student = from_fn(|(inputs, _, _): &(Tensor, Option<Tensor>, String), _| {
        Ok(linear.forward(&inputs.sum_dim_intlist([1i64].as_slice(), false, Kind::Float)))
    });
    let labels = Tensor::from_slice(&[0i64, 1]);
    let pairs = (0..3).map(|seed| (batch(seed), Some(labels.copy()), format!("batch {seed}")));
    let mut batches = VecLoader::new(pairs.collect()).unwrap();
    let losses = RefCell::new(Vec::new());
    let mut trainer = BasicTrainer::builder(&student, &variables)
        .train_config(config(folder.path()).ckpt_epoch_frequency(1))
        .adaptor(|(_, labels, name), logits: &Tensor| {
            assert!(name.starts_with("batch "));
            let labels = labels
                .as_ref()
                .ok_or_else(|| textbrewer::Error::other("no labels"))?;
            Ok(AdaptorOutput::new().losses(&logits.cross_entropy_for_logits(labels)))
        })
        .build()
        .unwrap();
    trainer
        .train(&mut batches)
        .optimizer(Sgd::new(0.3))
        .epochs(20)
        .callback(|_, info| {
            losses.borrow_mut().push(info.losses["total_loss"]);
            Ok(())
        })
        .run()
        .unwrap();
    let losses = losses.borrow();
    assert_eq!(losses.len(), 20);
    assert!(losses[19] < losses[0] * 0.9, "{losses:?}");
}

#[test]
fn a_huge_limit_of_the_cache_does_not_turn_into_a_small_one() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 4, 0.1), Net::new(2, 4, 0.2));
    // In bytes this is 2⁶⁴, one more than a `u64` holds.
    let distill_config = DistillationConfig::default()
        .is_caching_logits(true)
        .cache_limit_mb(1 << 44);
    let mut distiller = general(&teacher, &student, config(folder.path()), distill_config).unwrap();
    let run = distiller
        .train(&mut loader(2))
        .optimizer(Sgd::new(0.1))
        .epochs(2)
        .run();
    // Two batches of two examples of two classes, four bytes each.
    assert_eq!(run.unwrap().cache_bytes, Some(32));
}
