//! Every loss of the presets at the sizes of BERT-base, forward and backward.
//!
//! `cargo bench --bench losses -- kd/` runs a part.

mod common;

use criterion::Criterion;
use tch::{Device, Kind, Tensor};
use textbrewer::{KdInput, Presets, Result};

/// Masked language modelling: the chosen positions of a batch over BERT's vocabulary.
const LOGITS: [i64; 2] = [256, 30_522];
/// A batch of hidden states, and of attentions.
const HIDDEN: [i64; 3] = [32, 128, 768];
const ATTENTION: [i64; 4] = [32, 12, 128, 128];

fn main() -> Result<()> {
    tch::manual_seed(0);
    let mut criterion = common::criterion();
    kd_losses(&mut criterion)?;
    match_losses(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn kd_losses(criterion: &mut Criterion) -> Result<()> {
    let mut group = common::group(criterion, "kd");
    let presets = Presets::default();
    let (student, teacher) = (random(&LOGITS)?.set_requires_grad(true), random(&LOGITS)?);
    let constant = KdInput::new(&student, &teacher, 8.0)?;
    for name in presets.kd_losses() {
        let loss = presets.find_kd_loss("kd_loss_type", name)?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| backward(&loss.apply(&constant)?, &[&student]).map(drop))
        });
    }
    // As the `flsw` and `cwsm` schedules make them.
    let each = Tensor::f_full([LOGITS[0]], 8.0, (Kind::Float, Device::Cpu))?;
    let each = KdInput::new(&student, &teacher, each)?;
    for name in ["ce", "mse"] {
        let loss = presets.find_kd_loss("kd_loss_type", name)?;
        group.bench_function(format!("{name}, a temperature of each"), |bencher| {
            bencher.iter(|| backward(&loss.apply(&each)?, &[&student]).map(drop))
        });
    }
    Ok(())
}

fn match_losses(criterion: &mut Criterion) -> Result<()> {
    let mut group = common::group(criterion, "match");
    let presets = Presets::default();
    let mask = Tensor::f_ones([HIDDEN[0], HIDDEN[1]], (Kind::Int64, Device::Cpu))?;
    let attention = [
        "attention_mse",
        "attention_mse_sum",
        "attention_ce",
        "attention_ce_mean",
    ];
    let hidden = ["hidden_mse", "cos", "pkd"];
    let gram = ["fsp", "nst"];
    for (names, size, layers) in [
        (&attention[..], &ATTENTION[..], 1),
        (&hidden[..], &HIDDEN[..], 1),
        (&gram[..], &HIDDEN[..], 2),
    ] {
        let states = || {
            (0..layers)
                .map(|_| random(size))
                .collect::<Result<Vec<_>>>()
        };
        let student: Vec<_> = states()?
            .into_iter()
            .map(|state| state.set_requires_grad(true))
            .collect();
        let inputs: Vec<_> = student.iter().collect();
        let teacher = states()?;
        for name in names {
            let loss = presets.find_match_loss("loss", *name)?;
            group.bench_function(*name, |bencher| {
                bencher.iter(|| {
                    backward(&loss.apply(&student, &teacher, Some(&mask))?, &inputs).map(drop)
                })
            });
        }
    }
    Ok(())
}

fn random(size: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_randn(size, (Kind::Float, Device::Cpu))?)
}

/// The gradients of the inputs, anew: adding them to older ones is no work of the loss.
fn backward(loss: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    Ok(Tensor::f_run_backward(&[loss], inputs, false, false)?)
}
