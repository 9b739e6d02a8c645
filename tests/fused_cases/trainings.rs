//! Trainings of hidden states and an output matrix, against those of whole logits.

use std::cell::Cell;
use std::collections::BTreeMap;

use tch::nn::{Init, VarStore};
use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::logits::{FromHidden, TopK};
use textbrewer::losses::cross_entropy;
use textbrewer::{
    AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Result, Sgd, TrainingConfig,
    VecLoader, from_fn,
};

use crate::common::device::{device, waves};
use crate::common::elements;
use crate::common::tiny::{difference, fill};

const CLASSES: i64 = 50;
const WIDTH: i64 = 4;

/// Hidden states and the matrix that makes logits of them.
struct Student {
    variables: VarStore,
    below: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Student {
    fn new() -> Self {
        let variables = VarStore::new(device());
        let root = variables.root();
        let student = Student {
            below: root.var("below", &[3, WIDTH], Init::Const(0.0)),
            weight: root.var("weight", &[CLASSES, WIDTH], Init::Const(0.0)),
            bias: root.var("bias", &[CLASSES], Init::Const(0.0)),
            variables,
        };
        fill(&student.variables, 0.3);
        student
    }

    fn logits(&self, hidden: &Tensor) -> FromHidden {
        let logits = FromHidden::new(hidden, &self.weight).unwrap();
        let logits = logits.bias(&self.bias).unwrap().scale(2.0).unwrap();
        // Four positions at a time, or one where there is a graph.
        let logits = logits.soft_cap(5.0).unwrap();
        logits.bytes_at_once(4 * 2 * 4 * CLASSES as u64)
    }
}

/// Of ten positions six have a label, and a weight; one has a weight alone.
fn labels() -> Tensor {
    let labels = Tensor::from_slice(&[3i64, -100, 49, 0, -100, 7, -100, 7, 12, -100]);
    labels.view([2, 5]).to_device(device())
}

fn weights() -> Tensor {
    let weights = [1f32, 0.0, 0.5, 2.0, 0.0, 1.0, 0.3, 1.0, 0.0, 0.0];
    Tensor::from_slice(&weights)
        .view([2, 5])
        .to_device(device())
}

fn mask_of(mask: &[i64; 10]) -> Tensor {
    Tensor::from_slice(mask).view([2, 5]).to_device(device())
}

#[derive(Clone)]
struct Case {
    config: DistillationConfig,
    is_weighted: bool,
    top_k: bool,
    mask: Option<[i64; 10]>,
}

impl Case {
    fn new(kd_loss_type: impl Into<PresetSpec>) -> Self {
        let config = DistillationConfig::default().kd_loss_type(kd_loss_type);
        Case {
            config: config.temperature(2.0).hard_label_weight(0.7),
            is_weighted: false,
            top_k: false,
            mask: None,
        }
    }
}

/// What the student has become, and what was logged of the last step.
fn train(case: &Case, in_parts: bool) -> (Vec<f64>, BTreeMap<String, f64>) {
    let folder = tempfile::tempdir().unwrap();
    let student = Student::new();
    let teacher = waves(&[2, 5, CLASSES], 0.9).to_kind(Kind::Float) * 3.0;
    let seen = Cell::new(0);
    let model = from_fn(|batch: &Tensor, _| Ok(batch.f_matmul(&student.below)?.f_tanh()?));
    let teacher_model = from_fn(|_: &Tensor, _| Ok(teacher.shallow_clone()));
    let adaptor = |_: &Tensor, hidden: &Tensor| -> Result<AdaptorOutput> {
        let output = AdaptorOutput::new().labels(&labels());
        let output = match case.is_weighted {
            true => output.logits_weights(&weights()),
            false => output,
        };
        let output = match case.mask {
            Some(mask) => output.logits_mask(&mask_of(&mask)),
            None => output,
        };
        let logits = student.logits(hidden);
        seen.set(seen.get() + 1);
        if in_parts {
            return Ok(output.logits(logits));
        }
        let logits = logits.whole()?;
        let loss = cross_entropy(&logits, &labels())?;
        Ok(output.logits(&logits).losses(&loss))
    };
    let of_teacher = |_: &Tensor, logits: &Tensor| {
        let output = match case.mask {
            Some(mask) => AdaptorOutput::new().logits_mask(&mask_of(&mask)),
            None => AdaptorOutput::new(),
        };
        Ok(match case.top_k {
            true => output.logits(TopK::of(logits, 5, 2.0)?),
            false => output.logits(logits),
        })
    };
    let batches = (0..3)
        .map(|_| waves(&[2, 5, 3], 0.2).to_kind(Kind::Float))
        .collect();
    let summary = GeneralDistiller::builder(&teacher_model, &model, &student.variables)
        .train_config(
            TrainingConfig::default()
                .device(device())
                .output_dir(folder.path()),
        )
        .distill_config(case.config.clone())
        .student_adaptor(adaptor)
        .teacher_adaptor(of_teacher)
        .build()
        .unwrap()
        .train(&mut VecLoader::new(batches).unwrap())
        .optimizer(Sgd::new(0.5))
        .epochs(1)
        .run()
        .unwrap();
    assert_eq!(seen.get(), 3);
    let variables = [&student.below, &student.weight, &student.bias];
    let numbers = variables.into_iter().flat_map(elements).collect();
    (numbers, summary.losses)
}

#[test]
fn labels_are_learned_in_the_same_pass() {
    let mut cases = Vec::new();
    for name in [
        "forward_kl",
        "reverse_kl",
        "kl",
        "ce",
        "adaptive_kl",
        "nkd",
        "mse",
        "dist",
    ] {
        cases.push(Case::new(name));
        let mut weighted = Case::new(name);
        weighted.is_weighted = name != "dist";
        cases.push(weighted);
    }
    let mut standardized = Case::new("forward_kl");
    standardized.config = standardized.config.standardize_logits(true);
    let mut scheduled = Case::new("forward_kl");
    scheduled.config = scheduled.config.temperature_scheduler(("flsw", [1.0, 2.0]));
    let mut labels_alone = Case::new("forward_kl");
    labels_alone.config = labels_alone.config.kd_loss_weight(0.0);
    let mut squared = Case::new("total_variation");
    squared.config = squared.config.tau_squared(true);
    let mut sparse = Case::new("forward_kl");
    sparse.top_k = true;
    let mut unequal = Case::new("reverse_kl");
    unequal.config = unequal.config.kd_loss_weight(0.4).temperature(1.0);
    let mut almost_alone = Case::new("reverse_kl");
    almost_alone.config = almost_alone.config.kd_loss_weight(1e-30);
    let mut growing = Case::new("nkd");
    growing.config = growing.config.kd_loss_weight_scheduler("linear_decay");
    // One that keeps all labels, and one that keeps two of six.
    let (mut all_kept, mut some_kept) = (Case::new("forward_kl"), Case::new("forward_kl"));
    all_kept.mask = Some([1, 0, 1, 1, 1, 1, 0, 1, 1, 0]);
    some_kept.mask = Some([1, 1, 0, 0, 1, 0, 1, 0, 1, 0]);
    cases.extend([standardized, scheduled, labels_alone, squared, sparse]);
    cases.extend([unequal, almost_alone, growing, all_kept, some_kept]);
    for case in cases {
        let what = format!(
            "{} weighted: {}, top k: {}",
            case.config, case.is_weighted, case.top_k
        );
        let (whole, logged) = train(&case, false);
        let (in_parts, of_parts) = train(&case, true);
        let far = difference(&whole, &in_parts);
        assert!(far < 2e-6, "{what}: {far}");
        let name = "unweighted_hard_label_loss";
        let (label_loss, of_parts) = (logged[name], of_parts[name]);
        assert!(
            (label_loss - of_parts).abs() < 1e-5,
            "{what}: {label_loss}, {of_parts}"
        );
    }
}

#[test]
fn a_label_that_is_no_class_is_told() {
    let student = Student::new();
    let hidden = waves(&[2, 5, WIDTH], 0.1).to_kind(Kind::Float);
    for name in ["forward_kl", "mse"] {
        let case = Case::new(name);
        let said = AdaptorOutput::new()
            .logits(student.logits(&hidden))
            .labels(&(labels() + 1));
        let teacher =
            AdaptorOutput::new().logits(waves(&[2, 5, CLASSES], 0.9).to_kind(Kind::Float));
        let step = textbrewer::StepInfo::new(0, 0, 1, 1);
        let presets = textbrewer::Presets::default();
        let error =
            crate::common::said::kd_loss_of((&said, &teacher), case.config, presets, (&(), &step));
        assert_eq!(
            error.unwrap_err().to_string(),
            "labels: expected classes below 50, or -100 for none, got 50"
        );
    }
}

#[test]
fn agreement_is_seen_in_the_same_pass() {
    for name in ["forward_kl", "mse", "nkd", "dist"] {
        for is_weighted in [false, true] {
            let mut case = Case::new(name);
            case.is_weighted = is_weighted && name != "dist";
            let (plain, not_asked) = train(&case, true);
            case.config = case.config.diagnostics(5);
            let (whole, expected) = train(&case, false);
            let (in_parts, got) = train(&case, true);
            assert_eq!(plain, in_parts, "{name}: it changes nothing");
            assert!(difference(&whole, &in_parts) < 2e-6);
            for observed in [
                "best_agreement",
                "top5_overlap",
                "student_entropy",
                "teacher_entropy",
                "student_mass_on_top5",
            ] {
                let (got, expected) = (got[observed], expected[observed]);
                assert!(
                    (got - expected).abs() < 1e-5,
                    "{name}, {observed}: {got}, {expected}"
                );
                // Of seven positions both may find another class the likeliest at each.
                let is_there = expected > 0.0 || observed == "best_agreement";
                assert!(is_there, "{name}, {observed}: {expected}");
                assert!(!not_asked.contains_key(observed));
            }
        }
    }
}
