//! Batches that weigh by their positions in an optimizer step.

use tch::{Kind, Tensor};
use textbrewer::config::PresetSpec;
use textbrewer::optim::LossScaling;
use textbrewer::{
    AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, GeneralDistiller, Result, Sgd,
    TrainingConfig, VecLoader,
};

use crate::common::tiny::{INPUT, Net, Output, batch, config, difference, numbers};

/// Six examples, in batches of as many as `sizes` says.
fn examples(sizes: &[i64]) -> VecLoader<Tensor> {
    let all = Tensor::cat(&[batch(0), batch(1), batch(2)], 0);
    let mut start = 0;
    let batches = sizes.iter().map(|&size| {
        start += size;
        all.narrow(0, start - size, size)
    });
    VecLoader::new(batches.collect()).unwrap()
}

/// One number of each token of a batch.
fn at_tokens(batch: &Tensor) -> Tensor {
    batch.select(-1, INPUT - 1)
}

/// Tokens as positions: a mask leaves some out, others have no label, and weights differ.
fn tokens(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let value = at_tokens(batch);
    let logits = output.hidden[1].narrow(-1, 0, 4) * 3.0;
    let labels = (value.abs() * 4.0).to_kind(Kind::Int64);
    let labels = labels.masked_fill(&value.lt(-0.6), -100);
    Ok(AdaptorOutput::new()
        .logits(logits)
        .logits_mask(&value.gt(-0.4).to_kind(Kind::Int64))
        .logits_weights(&(value.abs() + 0.1))
        .labels(&labels))
}

fn trained(
    kd_loss_type: &PresetSpec,
    sizes: &[i64],
    change: impl FnOnce(TrainingConfig) -> TrainingConfig,
) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(3, 6, 0.5), Net::new(2, 4, 0.2));
    let config = config(folder.path()).gradient_accumulation_steps(sizes.len() as u64);
    GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(change(config))
        .distill_config(DistillationConfig::default().kd_loss_type(kd_loss_type.clone()))
        .adaptor(tokens)
        .build()
        .unwrap()
        .train(&mut examples(sizes))
        .optimizer(Sgd::new(0.5))
        .max_grad_norm(0.05)
        .loss_scaling(LossScaling::new().initial_scale(256.0))
        .epochs(2)
        .run()
        .unwrap();
    numbers(&student.variables)
}

#[test]
fn the_loss_of_a_step_is_a_mean_over_all_its_positions() {
    for name in ["forward_kl", "generalized_jsd", "nkd", "dkd"] {
        let at_once = trained(&name.into(), &[6], |config| config);
        for sizes in [[3, 3].as_slice(), &[1, 3, 2], &[4, 2]] {
            let split = trained(&name.into(), sizes, |config| config);
            let far = difference(&at_once, &split);
            assert!(far < 1e-6, "{name} {sizes:?}: {far}");
        }
    }
}

/// Batches that are left over at the end of an epoch make no step, and weigh in no other.
#[test]
fn batches_left_over_do_not_weigh_in_the_next_step() {
    let run = |sizes: &[i64]| {
        trained(&"forward_kl".into(), sizes, |config| {
            config.gradient_accumulation_steps(2)
        })
    };
    assert_eq!(run(&[2, 1, 3]), run(&[2, 1]));
}

#[test]
fn textbrewers_losses_are_means_of_means_unless_asked() {
    for (name, default) in [("ce", false), ("kl", false), ("forward_kl", true)] {
        let sizes = [1, 5];
        let mean_over = |on| trained(&name.into(), &sizes, |config| config.weigh_by_positions(on));
        let by_default = trained(&name.into(), &sizes, |config| config);
        assert_eq!(by_default, mean_over(default), "{name}");
        let at_once = trained(&name.into(), &[6], |config| config);
        assert!(difference(&mean_over(true), &at_once) < 1e-6, "{name}");
        assert!(difference(&mean_over(false), &at_once) > 1e-4, "{name}");
    }
}

/// The mean over the labelled tokens.
fn labelled(batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    let labels = at_tokens(batch).gt(0.0).to_kind(Kind::Int64) * 101 - 100;
    let is_labelled = labels.ge(0).to_kind(Kind::Float);
    let losses = output.hidden[1]
        .square()
        .mean_dim([-1i64].as_slice(), false, Kind::Float);
    let mean = (losses * &is_labelled).sum(Kind::Float) / is_labelled.sum(Kind::Float);
    Ok(AdaptorOutput::new().losses(&mean).labels(&labels))
}

fn supervised(
    sizes: &[i64],
    adaptor: fn(&Tensor, &Output) -> Result<AdaptorOutput>,
) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let student = Net::new(2, 4, 0.2);
    let config = config(folder.path()).weigh_by_positions(true);
    BasicTrainer::builder(&student, &student.variables)
        .train_config(config.gradient_accumulation_steps(sizes.len() as u64))
        .adaptor(adaptor)
        .build()
        .unwrap()
        .train(&mut examples(sizes))
        .optimizer(Sgd::new(0.5))
        .epochs(2)
        .run()?;
    Ok(numbers(&student.variables))
}

#[test]
fn a_models_own_losses_weigh_by_its_labels() {
    let at_once = supervised(&[6], labelled).unwrap();
    let split = supervised(&[1, 3, 2], labelled).unwrap();
    assert!(difference(&at_once, &split) < 1e-6);
    assert!(difference(&at_once, &numbers(&Net::new(2, 4, 0.2).variables)) > 1e-3);
}

#[test]
fn positions_that_nobody_counts_are_an_error() {
    let without =
        |_: &Tensor, output: &Output| Ok(AdaptorOutput::new().losses(&output.hidden[1].square()));
    // A step of one batch asks nobody.
    assert!(supervised(&[6], without).is_ok());
    let error = supervised(&[3, 3], without).unwrap_err().to_string();
    assert!(
        error.contains("weigh_by_positions: no term said how many positions the batch has"),
        "{error}"
    );
}
