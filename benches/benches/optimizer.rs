//! AdamW and gradient clipping over the parameters of a three-layer BERT-base, 45 million,
//! beside those of tch.

mod common;

use std::cell::RefCell;

use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification};
use textbrewer::optim::{Optimizer, clip_grad_norm, param_groups};
use textbrewer::{AdamW, Result};

fn main() -> Result<()> {
    tch::manual_seed(0);
    let mut criterion = common::criterion();
    // One after the other: each has parameters, gradients and moments, 720 MB.
    let (our_variables, tch_variables) = (variables()?, variables()?);
    let mut ours = AdamW::new(1e-4);
    for group in param_groups(&our_variables, &[]) {
        ours.add_group(group)?;
    }
    let tchs = nn::AdamW::default().build(&tch_variables, 1e-4)?;
    let (ours, tchs) = (RefCell::new(ours), RefCell::new(tchs));
    let parameters = our_variables.trainable_variables();

    let mut group = common::group(&mut criterion, "45M parameters");
    group.bench_function("AdamW", |bencher| {
        bencher.iter(|| ours.borrow_mut().step(1.0))
    });
    group.bench_function("AdamW of tch", |bencher| {
        bencher.iter(|| tchs.borrow_mut().step())
    });
    let step = || ours.borrow_mut().step(1.0).expect("a step");
    compare("AdamW", step, || tchs.borrow_mut().step());

    // To a norm of 0: tch multiplies only what is above the norm, and so does it every time.
    group.bench_function("clip_grad_norm", |bencher| {
        bencher.iter(|| clip_grad_norm(&parameters, 0.0))
    });
    group.bench_function("clip_grad_norm of tch", |bencher| {
        bencher.iter(|| tchs.borrow().clip_grad_norm(0.0))
    });
    let clip = || drop(clip_grad_norm(&parameters, 0.0).expect("a norm"));
    compare("clip_grad_norm", clip, || tchs.borrow().clip_grad_norm(0.0));
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Prints what both take when they take turns.
fn compare(name: &str, ours: impl FnMut(), tchs: impl FnMut()) {
    if !common::measures() {
        return;
    }
    let [ours, tchs] = common::in_turn(9, ours, tchs);
    println!(
        "{name}, in turn: {:.1} ms; tch {:.1} ms; ratio {:.2}",
        ours * 1e3,
        tchs * 1e3,
        tchs / ours
    );
}

/// The variables of a three-layer BERT-base, each with a gradient.
fn variables() -> Result<VarStore> {
    let variables = VarStore::new(Device::Cpu);
    let config = BertConfig::default().num_hidden_layers(3);
    BertForSequenceClassification::new(&variables.root(), &config)?;
    for variable in variables.trainable_variables() {
        let slopes = Tensor::f_randn(variable.size(), (Kind::Float, Device::Cpu))?;
        (variable.f_mul(&slopes)?.f_sum(None)?).f_backward()?;
    }
    Ok(variables)
}
