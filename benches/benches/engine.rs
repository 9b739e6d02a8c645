//! What the engine adds to a training step: runs of a distiller whose losses cost nearly
//! nothing, less the same forward, backward and optimizer step in a plain loop.
//!
//! The loss of the plain loop is computed as one would write it; what a `LossReport` costs
//! is the engine's.

mod common;

use tch::nn::{Init, VarStore};
use tch::{Device, Tensor};
use textbrewer::distiller::{AnyCore, DistillerBuilder};
use textbrewer::optim::{Optimizer, param_groups};
use textbrewer::{
    AdamW, AdaptorOutput, Core, DataLoader, Distiller, Error, LossReport, Model, Result, StepInfo,
    TrainingConfig, VecLoader,
};

/// One parameter, and names of losses that each are a multiple of it.
struct Trivial {
    parameter: Tensor,
    variables: VarStore,
    losses: Vec<String>,
}

impl Trivial {
    fn new(losses: usize) -> Self {
        let variables = VarStore::new(Device::Cpu);
        Trivial {
            parameter: variables.root().var("w", &[], Init::Const(1.0)),
            losses: (0..losses).map(|loss| format!("loss_{loss}")).collect(),
            variables,
        }
    }

    fn loss(&self, batch: &Tensor) -> Result<Tensor> {
        Ok(self.parameter.f_mul(batch)?)
    }
}

/// There is nothing to run: the losses are made by the distiller.
impl Model<Tensor> for Trivial {
    type Output = ();

    fn forward(&self, _: &Tensor, _: bool) -> Result<()> {
        Ok(())
    }
}

struct TrivialDistiller<'a>(Core<'a, Tensor, Trivial>);

impl<'a> TryFrom<Core<'a, Tensor, Trivial>> for TrivialDistiller<'a> {
    type Error = Error;

    fn try_from(core: Core<'a, Tensor, Trivial>) -> Result<Self> {
        Ok(TrivialDistiller(core))
    }
}

impl Distiller for TrivialDistiller<'_> {
    type Batch = Tensor;
    type Student = Trivial;

    fn core(&self) -> &dyn AnyCore<Trivial> {
        &self.0
    }

    fn core_mut(&mut self) -> &mut dyn AnyCore<Trivial> {
        &mut self.0
    }

    fn train_on_batch(&mut self, batch: &Tensor, step: &StepInfo) -> Result<LossReport> {
        let _said = self.0.run_models(batch, step)?;
        let student = self.student();
        let mut report = LossReport::new();
        for name in &student.losses {
            report.add(name, student.loss(batch)?, 1.0);
        }
        Ok(report)
    }
}

/// The same steps without the engine.
fn plain_loop(
    model: &Trivial,
    optimizer: &mut AdamW,
    loader: &mut VecLoader<Tensor>,
    steps: u64,
) -> Result<()> {
    let mut done = 0;
    for epoch in 1.. {
        loader.start_epoch(epoch)?;
        while let Some(batch) = loader.next_batch()? {
            let batch = batch.f_to_device(Device::Cpu)?;
            let mut total = model.loss(&batch)?;
            for _ in 1..model.losses.len() {
                total = total.f_add(&model.loss(&batch)?)?;
            }
            total.f_backward()?;
            optimizer.step(1.0)?;
            optimizer.zero_grad()?;
            done += 1;
            if done == steps {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().map_err(Error::other)?;
    let config = TrainingConfig::default()
        .device(Device::Cpu)
        .output_dir(folder.path());
    let steps = if common::measures() { 5_000 } else { 10 };
    for (name, terms, config) in [
        ("1 term", 1, config.clone()),
        ("5 terms", 5, config.clone()),
        (
            "5 terms, to TensorBoard",
            5,
            config.log_dir(folder.path().join("log")),
        ),
    ] {
        let (student, model) = (Trivial::new(terms), Trivial::new(terms));
        let mut distiller: TrivialDistiller =
            DistillerBuilder::without_teacher(&student, &student.variables)
                .train_config(config)
                .adaptor(|_, ()| Ok(AdaptorOutput::new()))
                .build()?;
        let mut optimizers = [AdamW::new(1e-6), AdamW::new(1e-6)];
        for group in param_groups(&model.variables, &[]) {
            optimizers[1].add_group(group)?;
        }
        let [engines, plain] = &mut optimizers;
        let batches = || (0..100).map(|_| Tensor::from(1f32)).collect();
        let mut loaders = [VecLoader::new(batches())?, VecLoader::new(batches())?];
        let [engines_loader, plain_loader] = &mut loaders;
        let [engine_seconds, plain_seconds] = common::in_turn(
            7,
            || {
                let run = distiller.train(engines_loader).steps(steps);
                let summary = run.optimizer(&mut *engines).progress(false).run();
                assert_eq!(summary.expect("a run").global_steps, steps);
            },
            || plain_loop(&model, plain, plain_loader, steps).expect("a loop"),
        );
        let micros = |seconds: f64| seconds / steps as f64 * 1e6;
        println!(
            "{name}: {:.1} µs a step, of which the engine {:.1} µs, the plain loop {:.1} µs",
            micros(engine_seconds),
            micros(engine_seconds - plain_seconds),
            micros(plain_seconds)
        );
    }
    Ok(())
}
