//! Batches of which a mask, or the labels, keep nothing: their term is 0, and the run goes on.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, EmdConfig, Feature, GeneralDistiller,
    IntermediateMatch, MemorySink, PresetSpec, Presets, Result,
};

use crate::common::tiny::{Net, Output, config, loader, numbers};

/// `[2, 3]`, as the positions of the batches.
fn all(value: i64) -> Tensor {
    Tensor::full([2, 3], value, (Kind::Int64, Device::Cpu))
}

/// Logits of each position, hidden states, and a loss of the model's own.
fn said(output: &Output) -> AdaptorOutput {
    AdaptorOutput::new()
        .logits(&output.hidden[0])
        .hidden(&output.hidden)
        .losses(&output.logits.square())
}

/// Three batches, of which `of_second` says what counts in the second, on both sides. Its value of
/// `term`, that of the total, and the value of `term` in the third.
fn second_batch(
    distill_config: DistillationConfig,
    presets: Presets,
    term: &str,
    of_second: impl Fn(AdaptorOutput, bool) -> AdaptorOutput,
) -> [f64; 3] {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(2, 4, 0.1), Net::new(2, 4, 0.2));
    let (of_teacher, of_student) = (Cell::new(0), Cell::new(0));
    let adapt = |calls: &Cell<u32>, output: &Output| -> Result<AdaptorOutput> {
        calls.set(calls.get() + 1);
        Ok(of_second(said(output), calls.get() == 2))
    };
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder.path()).log_interval(1))
        .distill_config(distill_config.hard_label_weight(1.0))
        .presets(presets)
        .teacher_adaptor(|_: &Tensor, output: &Output| adapt(&of_teacher, output))
        .student_adaptor(|_: &Tensor, output: &Output| adapt(&of_student, output))
        .build()
        .unwrap();
    let log = MemorySink::new();
    let mut batches = loader(3);
    let run = distiller.train(&mut batches).epochs(1);
    let run = run.optimizer(AdamW::new(0.01)).log_sink(log.clone());
    let summary = run.run().unwrap_or_else(|error| panic!("{term}: {error}"));
    assert_eq!(summary.global_steps, 3);
    assert!(
        numbers(&student.variables)
            .iter()
            .all(|value| value.is_finite())
    );
    let at = |name: &str, step: usize| log.curve(&format!("scalar/{name}"))[step].1;
    let [hard, total] = ["unweighted_hard_label_loss", "total_loss"].map(|name| at(name, 1));
    assert!(hard > 0.0);
    [at(term, 1), total - hard, at(term, 2)]
}

const KD: &str = "unweighted_kd_loss";

#[test]
fn a_mask_of_logits_that_keeps_nothing() {
    let labelled =
        |said: AdaptorOutput| said.labels(&Tensor::from_slice2(&[[0i64, 1, 2], [3, 2, 1]]));
    for loss in Presets::default().kd_losses() {
        for scheduler in [None, Some("flsw"), Some("cwsm")] {
            let mut distill_config = DistillationConfig::default().kd_loss_type(loss);
            if let Some(name) = scheduler {
                let one = PresetSpec::new(name).named([("beta", 1.0)]);
                distill_config = distill_config.temperature_scheduler(match name {
                    "flsw" => PresetSpec::new(name).named([("beta", 1.0), ("gamma", 1.0)]),
                    _ => one,
                });
            }
            let values = second_batch(distill_config, Presets::default(), KD, |said, second| {
                labelled(said).logits_mask(&all(i64::from(!second)))
            });
            assert_eq!(values[..2], [0.0, 0.0], "{loss}, {scheduler:?}");
            assert!(values[2] != 0.0, "{loss}");
        }
    }
}

/// One that is no function per position, and one that is.
#[test]
fn losses_of_a_users_own_need_not_know_what_to_make_of_nothing() {
    let presets = Presets::default()
        .kd_loss("whole", |student, teacher, _| {
            assert!(student.numel() > 0);
            Ok(student.f_sub(teacher)?.f_square()?.f_mean(None::<Kind>)?)
        })
        .kd_loss_per_position("each", |input| {
            let differences = input.student.whole()?.f_sub(&input.teacher.whole()?)?;
            assert!(differences.numel() > 0);
            Ok(differences
                .f_square()?
                .f_mean_dim([-1i64].as_slice(), false, None::<Kind>)?)
        });
    for loss in ["whole", "each"] {
        let distill_config = DistillationConfig::default().kd_loss_type(loss);
        let values = second_batch(distill_config, presets.clone(), KD, |said, second| {
            said.logits_mask(&all(i64::from(!second)))
        });
        assert_eq!(values[..2], [0.0, 0.0], "{loss}");
        assert!(values[2] > 0.0, "{loss}");
    }
}

#[test]
fn weights_that_are_all_zero_and_labels_that_are_all_ignored() {
    let values = second_batch(
        DistillationConfig::default(),
        Presets::default(),
        KD,
        |said, second| said.logits_weights(&all(i64::from(!second)).to_kind(Kind::Float)),
    );
    assert_eq!(values[..2], [0.0, 0.0]);
    let presets = Presets::default().kd_loss_with_labels("at labels", |input| {
        let student = input.student.whole()?;
        assert!(student.numel() > 0);
        let labels = input.labels()?.f_unsqueeze(-1)?;
        Ok(student
            .f_gather(-1, &labels, false)?
            .f_squeeze_dim(-1)?
            .f_square()?)
    });
    let distill_config = DistillationConfig::default().kd_loss_type("at labels");
    let values = second_batch(distill_config, presets, KD, |said, second| {
        said.labels(&all(if second { -100 } else { 1 }))
    });
    assert_eq!(values[..2], [0.0, 0.0]);
    assert!(values[2] > 0.0);
}

#[test]
fn masks_of_features_that_keep_nothing() {
    for (loss, layers) in [("hidden_mse", 1), ("cos", 1), ("fsp", 2), ("mmd", 2)] {
        let matched = match layers {
            1 => IntermediateMatch::hidden(1, 1),
            _ => IntermediateMatch::hidden([0, 1], [0, 1]),
        };
        let matched = matched.loss(loss);
        let name = matched.log_name();
        for own in [false, true] {
            // The logits are not matched: what is left of the total is the match.
            let distill_config = DistillationConfig::default()
                .kd_loss_weight(0.0)
                .intermediate_matches([matched.clone()]);
            let values = second_batch(distill_config, Presets::default(), &name, |said, second| {
                let mask = all(i64::from(!second));
                match own {
                    false => said.inputs_mask(&mask),
                    true => {
                        let layers: Vec<_> = said.features["hidden"]
                            .layers
                            .iter()
                            .map(Tensor::shallow_clone)
                            .collect();
                        said.hidden(Feature::from(layers).mask(&mask))
                    }
                }
            });
            assert_eq!(values[..2], [0.0, 0.0], "{loss}, {own}");
            assert!(values[2] > 0.0, "{loss}, {own}");
        }
    }
}

#[test]
fn layers_that_a_plan_chooses_under_a_mask_that_keeps_nothing() {
    let distill_config = DistillationConfig::default()
        .kd_loss_weight(0.0)
        .emd(EmdConfig::default().attention_weight(0.0));
    let name = "unweighted_emd_hidden";
    let values = second_batch(distill_config, Presets::default(), name, |said, second| {
        said.inputs_mask(&all(i64::from(!second)))
    });
    assert_eq!(values[..2], [0.0, 0.0]);
    assert!(values[2] > 0.0);
}

/// A loss of no number, as a selection by labels gives it.
#[test]
fn losses_of_the_adaptors_own_without_an_element() {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let mut trainer = textbrewer::BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder.path()))
        .adaptor(|_: &Tensor, output: &Output| {
            Ok(AdaptorOutput::new().losses(&output.logits.narrow(0, 0, 0).square()))
        })
        .build()
        .unwrap();
    let before = numbers(&student.variables);
    let mut batches = loader(2);
    let run = trainer.train(&mut batches).epochs(1);
    let summary = run.optimizer(textbrewer::Sgd::new(0.5)).run().unwrap();
    assert_eq!(summary.losses["total_loss"], 0.0);
    assert_eq!(numbers(&student.variables), before);
}
