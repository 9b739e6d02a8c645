//! Loss scaling in a run: gradients that would vanish, steps that are skipped, and numbers that
//! stay what they are.

use std::cell::RefCell;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use textbrewer::config::Precision;
use textbrewer::optim::{LossScaling, Optimizer, ParamGroup};
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DistillationConfig, Distiller, FromFn, IntermediateMatch,
    MemorySink, ProjectionSpec, Result, Sgd, TrainingConfig, VecLoader, from_fn,
};

use crate::common::device::device;
use crate::common::plain::Plain;
use crate::common::tiny::{
    Net, batch, config, fill_projections, first_line, general, loader, numbers, projected_numbers,
};
use crate::common::{elements, same_losses, same_weights};

fn plain_or_not(is_plain: bool, optimizer: impl Optimizer + 'static) -> Box<dyn Optimizer> {
    match is_plain {
        true => Box::new(Plain(optimizer)),
        false => Box::new(optimizer),
    }
}

/// A weight `[3, 1]`, whose products with the batches are the outputs.
fn weighted() -> (VarStore, FromFn<impl Fn(&Tensor, bool) -> Result<Tensor>>) {
    let variables = VarStore::new(device());
    let weight = variables.root().ones("weight", &[3, 1]);
    (
        variables,
        from_fn(move |batch: &Tensor, _| Ok(batch.matmul(&weight))),
    )
}

/// Two rows, the same in every batch.
fn rows() -> VecLoader<Tensor> {
    VecLoader::new(vec![Tensor::from_slice2(&[
        [1f32, 2.0, -1.0],
        [3.0, 0.5, -2.0],
    ])])
    .unwrap()
}

/// The mean of each column of [`rows`]: the gradient of the mean output.
const COLUMNS: [f64; 3] = [2.0, 1.25, -1.5];

/// Trains the weight on `factor` times its mean output, and returns it with its log.
fn train(
    train_config: TrainingConfig,
    factor: f64,
    optimizer: impl Optimizer,
    scaling: Option<LossScaling>,
    steps: u64,
) -> (Vec<f64>, MemorySink) {
    let (variables, model) = weighted();
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .train_config(train_config.log_interval(1))
        .adaptor(|_, output: &Tensor| {
            // As the losses of this crate: in `float32`.
            let loss = output.to_kind(Kind::Float) * factor;
            Ok(AdaptorOutput::new().losses(&loss))
        })
        .build()
        .unwrap();
    let log = MemorySink::new();
    let mut batches = rows();
    let mut run = trainer.train(&mut batches).steps(steps);
    run = run.optimizer(optimizer).log_sink(log.clone());
    if let Some(scaling) = scaling {
        run = run.loss_scaling(scaling);
    }
    let summary = run.run().unwrap();
    assert_eq!(summary.global_steps, steps, "a step that is skipped counts");
    (numbers(&variables), log)
}

fn scales(log: &MemorySink) -> Vec<f64> {
    let curve = log.curve("scalar/loss_scale");
    curve.into_iter().map(|(_, scale)| scale).collect()
}

#[test]
fn gradients_too_small_for_fp16_do_not_vanish() {
    let folder = tempfile::tempdir().unwrap();
    let fp16 = || config(folder.path()).precision(Precision::Fp16);
    // The output's gradient is half of it, and the smallest number of fp16 is 6e-8.
    let factor = 1e-8;
    let rate = 1e7;
    let off = || Some(LossScaling::new().initial_scale(1.0));
    let (weight, _) = train(fp16(), factor, Sgd::new(rate), off(), 1);
    assert_eq!(weight, [1.0; 3], "without scaling the gradient is 0");

    // In this precision a run scales unasked.
    let (weight, log) = train(fp16(), factor, Sgd::new(rate), None, 1);
    for (weight, column) in weight.iter().zip(COLUMNS) {
        let gradient = (1.0 - weight) / (rate * factor);
        assert!(
            (gradient - column).abs() < 2e-3 * column.abs(),
            "{gradient}, {column}"
        );
    }
    assert_eq!(log.curve("scalar/loss_scale"), [(0, 65536.0)]);
    // The loss that is logged is not scaled. Its mean output is 1.75.
    let [(_, loss)] = log.curve("scalar/total_loss")[..] else {
        panic!("one step has one loss");
    };
    assert!((loss - 1.75e-8).abs() < 1e-13, "{loss}");
}

#[test]
fn float32_and_bf16_are_not_scaled_unless_asked() {
    let folder = tempfile::tempdir().unwrap();
    for train_config in [
        config(folder.path()),
        config(folder.path()).precision(Precision::Bf16),
        // On CUDA that is fp16 itself.
        config(folder.path()).fp16(device() == Device::Cpu),
        config(folder.path()).teacher_precision(Precision::Fp16),
    ] {
        let (_, log) = train(train_config, 1.0, Sgd::new(0.1), None, 1);
        assert_eq!(scales(&log), [0.0; 0]);
    }
}

#[test]
fn a_step_with_an_infinite_gradient_changes_nothing_but_the_scale() {
    let folder = tempfile::tempdir().unwrap();
    let fp16 = || config(folder.path()).precision(Precision::Fp16);
    for is_plain in [false, true] {
        let (variables, model) = weighted();
        let mut optimizer = plain_or_not(is_plain, AdamW::new(0.1));
        let train = |optimizer: &mut dyn Optimizer, scale: f64, steps: u64| {
            let factors = RefCell::new(Vec::new());
            let log = MemorySink::new();
            let mut trainer = BasicTrainer::builder(&model, &variables)
                .train_config(fp16().log_interval(1))
                .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(output)))
                .build()
                .unwrap();
            let summary = trainer
                .train(&mut rows())
                .steps(steps)
                .optimizer(optimizer)
                .max_grad_norm(10.0)
                .schedule(|step: u64, _| {
                    factors.borrow_mut().push(step);
                    1.0
                })
                .loss_scaling(LossScaling::new().initial_scale(scale))
                .log_sink(log.clone())
                .run()
                .unwrap();
            assert_eq!(summary.global_steps, steps);
            // Before the first step the schedule is asked for what tells it from another.
            let asked = factors.into_inner();
            let of_steps = asked.len() - steps as usize;
            assert_eq!(asked[of_steps..], (0..steps).collect::<Vec<_>>());
            scales(&log)
        };
        train(&mut optimizer, 8.0, 2);
        let state = |optimizer: &dyn Optimizer| -> Vec<(String, Vec<f64>)> {
            let state = optimizer.state().unwrap().into_iter();
            state
                .map(|(name, tensor)| (name, elements(&tensor)))
                .collect()
        };
        let before = (numbers(&variables), state(&optimizer));
        assert_eq!(before.1.len(), 3, "two moments and a count: {:?}", before.1);

        // fp16 ends at 65,504; the gradient of each output is half the scale.
        let two = |power: i32| 2f64.powi(power);
        assert_eq!(train(&mut optimizer, two(24), 3), [24, 23, 22].map(two));
        assert_eq!(
            (numbers(&variables), state(&optimizer)),
            before,
            "plain: {is_plain}"
        );

        // The scale falls until the gradients fit, and stays.
        let scales = train(&mut optimizer, two(19), 8);
        let falling = [19, 18, 17, 16].map(two);
        assert_eq!(scales[..4], falling);
        let fits = *scales.last().unwrap();
        assert!(fits <= two(15) && scales[6] == fits, "{scales:?}");
        assert_ne!(numbers(&variables), before.0);
    }
}

#[test]
fn the_scale_grows_after_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let scaling = LossScaling::new().initial_scale(8.0).growth_interval(2);
    for is_plain in [false, true] {
        let scaling = LossScaling::new().initial_scale(8.0).growth_interval(2);
        let optimizer = plain_or_not(is_plain, Sgd::new(1e-3));
        let (_, log) = train(config(folder.path()), 1.0, optimizer, Some(scaling), 5);
        let curve = [(0, 8.0), (1, 8.0), (2, 16.0), (3, 16.0), (4, 32.0)];
        assert_eq!(log.curve("scalar/loss_scale"), curve);
    }
    // Read no oftener than the losses, here once at the end.
    let (variables, model) = weighted();
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .train_config(config(folder.path()).log_interval(None))
        .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(output)))
        .build()
        .unwrap();
    let log = MemorySink::new();
    let mut batches = rows();
    let run = trainer
        .train(&mut batches)
        .steps(5)
        .optimizer(Sgd::new(1e-3));
    run.loss_scaling(scaling)
        .log_sink(log.clone())
        .run()
        .unwrap();
    assert_eq!(log.curve("scalar/loss_scale"), [(4, 32.0)]);
}

/// A power of two changes exponents alone, so every number has to be the same to the last bit:
/// gradients added over batches, clipped, of the student and of its projections.
#[test]
fn scaling_changes_no_number_of_a_distillation_in_float32() {
    let folder = tempfile::tempdir().unwrap();
    let train = |clip_projections: bool, scaling: Option<LossScaling>| {
        let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
        let matched = IntermediateMatch::hidden(3, 1)
            .weight(5.0)
            .proj(ProjectionSpec::linear(4, 5));
        let mut distiller = general(
            &teacher,
            &student,
            config(folder.path())
                .gradient_accumulation_steps(2)
                .clip_projections(clip_projections),
            DistillationConfig::default().intermediate_matches([matched]),
        )
        .unwrap();
        fill_projections(&distiller);
        let log = MemorySink::new();
        let mut batches = loader(4);
        let mut run = distiller
            .train(&mut batches)
            .epochs(3)
            .optimizer(AdamW::new(0.05))
            .max_grad_norm(0.1)
            .log_sink(log.clone());
        if let Some(scaling) = scaling {
            run = run.loss_scaling(scaling);
        }
        run.run().unwrap();
        let weights = [numbers(&student.variables), projected_numbers(&distiller)];
        let curve = log.curve("scalar/total_loss").into_iter();
        (
            weights.concat(),
            curve.map(|(_, loss)| loss).collect::<Vec<_>>(),
        )
    };
    for clip_projections in [false, true] {
        let without = train(clip_projections, None);
        let scaling = LossScaling::new().initial_scale(4096.0).growth_interval(2);
        let with = train(clip_projections, Some(scaling));
        assert!(same_weights(&with.0, &without.0));
        assert!(same_losses(&with.1, &without.1));
    }
}

#[test]
fn gradients_that_no_scale_makes_finite_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (variables, model) = weighted();
    let mut trainer = BasicTrainer::builder(&model, &variables)
        .train_config(config(folder.path()))
        // The root has no gradient at 0.
        .adaptor(|_, output: &Tensor| Ok(AdaptorOutput::new().losses(&(output * 0.0).sqrt())))
        .build()
        .unwrap();
    let mut batches = rows();
    let run = trainer
        .train(&mut batches)
        .steps(1000)
        .optimizer(Sgd::new(0.1));
    let shown = first_line(run.loss_scaling(LossScaling::new()).run());
    assert!(
        shown.starts_with("loss scaling: the scale has fallen to almost 0"),
        "{shown}"
    );
    assert_eq!(numbers(&variables), [1.0; 3]);
    assert!(!folder.path().join("gs1000.safetensors").exists());
}

#[test]
fn what_cannot_be_scaled_back_may_not_rule_the_norm() {
    let folder = tempfile::tempdir().unwrap();
    let train = |frozen: bool, norm: f64| {
        let student = Net::new(2, 4, 0.2);
        let variables = student.variables.variables();
        let (head, rest): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .partition(|(name, _)| name.starts_with("head"));
        if frozen {
            for (_, tensor) in rest {
                let _ = tensor.set_requires_grad(false);
            }
        }
        let mut optimizer = Sgd::new(0.1);
        optimizer.add_group(ParamGroup::new("head", head)).unwrap();
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder.path()))
            .adaptor(crate::common::tiny::square)
            .build()
            .unwrap();
        let mut batches = VecLoader::new(vec![batch(0)]).unwrap();
        let run = trainer.train(&mut batches).steps(1).optimizer(optimizer);
        run.max_grad_norm(norm)
            .loss_scaling(LossScaling::new())
            .run()
    };
    assert_eq!(
        first_line(train(false, 1.0)),
        "max_grad_norm: with loss scaling or `weigh_by_positions`, every variable of the student that gets gradients \
         must be in a group of the optimizer; add the others, or freeze them with \
         `set_requires_grad(false)`"
    );
    train(true, 1.0).unwrap();
    train(false, 0.0).unwrap();
}
