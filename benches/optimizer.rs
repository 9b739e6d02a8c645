//! AdamW and gradient clipping over the parameters of a three-layer BERT-base, 45 million,
//! beside those of tch.

mod common;

use std::cell::RefCell;

use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::models::{BertConfig, BertForSequenceClassification};
use textbrewer::optim::{clip_grad_norm, param_groups, Optimizer};
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
    group.bench_function("clip_grad_norm", |bencher| {
        bencher.iter(|| clip_grad_norm(&parameters, 1.0))
    });
    group.bench_function("clip_grad_norm of tch", |bencher| {
        bencher.iter(|| tchs.borrow().clip_grad_norm(1.0))
    });
    group.finish();
    criterion.final_summary();

    if common::measures() {
        let step = || ours.borrow_mut().step(1.0).expect("a step");
        let [our_seconds, tch_seconds] = common::in_turn(9, step, || tchs.borrow_mut().step());
        println!(
            "AdamW, 45M parameters, in turn: {:.1} ms; tch {:.1} ms; ratio {:.2}",
            our_seconds * 1e3,
            tch_seconds * 1e3,
            tch_seconds / our_seconds
        );
        let clip = || drop(clip_grad_norm(&parameters, 1.0).expect("a norm"));
        let [our_seconds, tch_seconds] =
            common::in_turn(9, clip, || tchs.borrow().clip_grad_norm(1.0));
        println!(
            "clip_grad_norm, in turn: {:.1} ms; tch {:.1} ms; ratio {:.2}",
            our_seconds * 1e3,
            tch_seconds * 1e3,
            tch_seconds / our_seconds
        );
    }
    Ok(())
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
