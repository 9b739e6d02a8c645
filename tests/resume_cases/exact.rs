//! A run that is interrupted at any step ends with the same bytes and the same losses.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::config::Precision;
use textbrewer::optim::LossScaling;
use textbrewer::schedule::linear_with_warmup;
use textbrewer::{
    AdamW, AdaptorOutput, BasicTrainer, DataLoader, DistillationConfig, Distiller, EmdConfig,
    EmdDistiller, Error, GeneralDistiller, IntermediateMatch, LayerWeights, MemorySink, Model,
    ProjectionSpec, Result, Run, Sgd, TaskLoader, TensorLoader, TrainSummary, VecLoader,
};

use crate::alone;
use crate::common::device::device;
use crate::common::tiny::{INPUT, Net, Output, batches, config, fill};
use crate::common::{record, same_files, same_losses};

/// How a run is interrupted, at the given forward pass of the student.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    Never,
    /// An error, as sudden as a kill: nothing is saved.
    Crash(u64),
    /// The flag is set, and the run ends after the optimizer step with a checkpoint.
    Flag(u64),
}

/// Two layers with dropout between them and running statistics, and a way to end.
pub(super) struct Student {
    pub(super) variables: VarStore,
    below: nn::Linear,
    norm: nn::BatchNorm,
    above: nn::Linear,
    calls: Cell<u64>,
    end: End,
    pub(super) flag: Arc<AtomicBool>,
}

impl Student {
    pub(super) fn new(end: End) -> Self {
        let variables = VarStore::new(device());
        let root = variables.root();
        let student = Student {
            below: nn::linear(&root / "below", INPUT, 4, Default::default()),
            norm: nn::batch_norm1d(&root / "norm", 4, Default::default()),
            above: nn::linear(&root / "above", 4, 2, Default::default()),
            variables,
            calls: Cell::new(0),
            end,
            flag: Arc::default(),
        };
        fill(&student.variables, 0.3);
        let mut variance = student.norm.running_var.shallow_clone();
        let _ = tch::no_grad(|| variance.fill_(1.0));
        student
    }
}

impl Model<Tensor> for Student {
    type Output = Output;

    fn forward(&self, batch: &Tensor, train: bool) -> Result<Output> {
        let calls = self.calls.get() + 1;
        self.calls.set(calls);
        match self.end {
            End::Crash(at) if at == calls => return Err(Error::other("killed")),
            End::Flag(at) if at == calls => self.flag.store(true, Ordering::Relaxed),
            _ => {}
        }
        let flat = self.below.forward(batch).reshape([-1, 4]);
        let hidden = flat
            .apply_t(&self.norm, train)
            .dropout(0.4, train)
            .reshape([batch.size()[0], -1, 4])
            .tanh();
        let mean = hidden.mean_dim([1i64].as_slice(), false, Kind::Float);
        Ok(Output {
            logits: self.above.forward(&mean).dropout(0.2, train),
            hidden: vec![hidden],
        })
    }
}

pub(super) fn adapt(_batch: &Tensor, output: &Output) -> Result<AdaptorOutput> {
    Ok(AdaptorOutput::new()
        .logits(&output.logits)
        .hidden(&output.hidden)
        .losses(&output.logits.square()))
}

/// Every logged value, by name and step.
type Logged = BTreeMap<(String, u64), u64>;

/// One process's part of a run.
pub(super) type Part = fn(&Path, End, bool, &MemorySink) -> Result<TrainSummary>;

pub(super) fn finish<D: Distiller>(
    run: Run<'_, D>,
    flag: &Arc<AtomicBool>,
    resumes: bool,
    sink: &MemorySink,
) -> Result<TrainSummary> {
    let run = run
        .progress(false)
        .stop_flag(Arc::clone(flag))
        .log_sink(sink.clone())
        // An evaluation may draw random numbers.
        .callback(|_, _| {
            let number = Tensor::rand([1], (Kind::Float, Device::Cpu));
            Ok(number.double_value(&[0]))
        });
    match resumes {
        true => run.resume_or_start().run(),
        false => run.run(),
    }
}

/// Epochs with accumulation, a projection, schedules, clipping, and kept teacher outputs.
fn epochs(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let (teacher, student) = (Net::new(2, 5, 0.1), Student::new(end));
    let distill = DistillationConfig::default()
        .temperature(3.0)
        .kd_loss_weight_scheduler("linear_decay")
        .temperature_scheduler(("flsw", [1.0, 2.0]))
        .is_caching_logits(true)
        .cache_features(true)
        .intermediate_matches([IntermediateMatch::hidden(1, 0)
            .loss("hidden_mse")
            .proj(ProjectionSpec::linear(4, 5).learning_rate(1e-2))]);
    let mut distiller = GeneralDistiller::builder(&teacher, &student, &student.variables)
        .train_config(
            config(folder)
                .gradient_accumulation_steps(2)
                .ckpt_frequency(3)
                .log_interval(3),
        )
        .distill_config(distill)
        .adaptor(adapt)
        .build()?;
    let rows = Tensor::cat(&batches(7), 0);
    // Random numbers are drawn when batches are made, which is once here.
    let mut loader = TensorLoader::new(vec![rows], 2)?.shuffle(4).map(|rows| {
        let noise = Tensor::randn_like(&rows[0]) * 0.01;
        Ok(&rows[0] + noise)
    });
    let run = distiller
        .train(&mut loader)
        .epochs(3)
        .optimizer(AdamW::new(0.02))
        .no_decay(["bias"])
        .schedule(linear_with_warmup(2, 9))
        .max_grad_norm(0.5);
    finish(run, &student.flag, resumes, sink)
}

/// Steps over mixed tasks that draw random numbers, momentum, accumulation over the ends of
/// epochs, and checkpoints at every second step.
fn steps(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let student = Student::new(end);
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(config(folder).gradient_accumulation_steps(3).ckpt_steps(2))
        .adaptor(adapt)
        .build()?;
    let noisy = |batch: Tensor| {
        let noise = Tensor::randn_like(&batch) * 0.1;
        Ok(batch + noise)
    };
    let mut loader = TaskLoader::new()
        .task("a", VecLoader::new(batches(3))?.shuffle(1).map(noisy))
        .task(
            "b",
            VecLoader::new(batches(5))?.map(noisy).fixed().shuffle(2),
        )
        .seed(3)
        .map(|batch| Ok(batch.batch));
    let run = trainer
        .train(&mut loader)
        .steps(7)
        .optimizer(Sgd::new(0.05).momentum(0.9));
    finish(run, &student.flag, resumes, sink)
}

/// A stream of a given length, weights of layers that are re-estimated, and no log interval.
fn emd(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let (teacher, student) = (Net::new(3, 5, 0.1), Student::new(end));
    let emd = EmdConfig::default()
        .hidden_projection(ProjectionSpec::linear(4, 5))
        .attention_weight(0.0)
        .layer_weights(LayerWeights::Reestimated { temperature: 2.0 });
    let mut distiller = EmdDistiller::builder(&teacher, &student, &student.variables)
        .train_config(config(folder).ckpt_steps(1).log_interval(None))
        .distill_config(DistillationConfig::default().emd(emd))
        .adaptor(adapt)
        .build()?;
    let mut loader = VecLoader::new(batches(4))?.shuffle(6);
    let run = distiller
        .train(&mut loader)
        .steps(6)
        .optimizer(AdamW::new(0.02));
    finish(run, &student.flag, resumes, sink)
}

/// The student in fp16, with a scaled loss. The third of five batches has a gradient that no
/// scale makes finite, so the scale falls, and grows again in between.
fn scaled(folder: &Path, end: End, resumes: bool, sink: &MemorySink) -> Result<TrainSummary> {
    let student = Student::new(end);
    let bad = batches(3).remove(2).to_device(device());
    let mut trainer = BasicTrainer::builder(&student, &student.variables)
        .train_config(
            config(folder)
                .precision(Precision::Fp16)
                .gradient_accumulation_steps(2)
                .ckpt_steps(2)
                .log_interval(1),
        )
        .adaptor(move |batch: &Tensor, output: &Output| {
            let logits = output.logits.to_kind(Kind::Float);
            // The root of 0 is 0, and its slope infinite: the loss stays what it is.
            let root = match *batch == bad {
                true => (&logits * 0.0).sqrt(),
                false => logits.zeros_like(),
            };
            Ok(AdaptorOutput::new().losses(&(logits.square() + root)))
        })
        .build()?;
    let mut loader = VecLoader::new(batches(5))?;
    let run = trainer
        .train(&mut loader)
        .steps(10)
        .optimizer(AdamW::new(0.02))
        .max_grad_norm(0.5)
        .loss_scaling(LossScaling::new().initial_scale(1024.0).growth_interval(2));
    finish(run, &student.flag, resumes, sink)
}

fn logged(sinks: &[MemorySink]) -> Logged {
    let mut all = BTreeMap::new();
    for sink in sinks {
        for (tag, value, step) in sink.scalars() {
            // What is computed again is the same again.
            let before = all.insert((tag.clone(), step), value.to_bits());
            assert!(
                before.is_none_or(|bits| same_losses(&[value], &[f64::from_bits(bits)])),
                "{tag} {step}"
            );
        }
    }
    all
}

/// Whether two runs have the same weights after a step.
fn same_weights_at(step: u64, folder: &Path, other: &Path) -> bool {
    let file = format!("gs{step}.safetensors");
    same_files(&folder.join(&file), &other.join(&file))
}

fn same_logs(got: &Logged, expected: &Logged) -> bool {
    let values = |logged: &Logged| -> Vec<f64> {
        let bits = logged.values();
        bits.map(|bits| f64::from_bits(*bits)).collect()
    };
    got.keys().eq(expected.keys()) && same_losses(&values(got), &values(expected))
}

/// Interrupts the run at every forward pass, both ways, and lets it go on.
pub(super) fn survives(part: Part, forwards: u64, steps: u64) {
    let _alone = alone();
    let whole = crate::common::tiny::folder();
    let sink = MemorySink::new();
    tch::manual_seed(11);
    let summary = part(whole.path(), End::Never, false, &sink).unwrap();
    assert_eq!(
        (summary.forward_steps, summary.global_steps),
        (forwards, steps)
    );
    let expected_log = logged(&[sink]);
    assert!(summary.resumed_from.is_none() && summary.best.is_some());
    let mut resumed_from = Vec::new();
    for at in 1..=forwards {
        for end in [End::Crash(at), End::Flag(at)] {
            let folder = crate::common::tiny::folder();
            let sinks = [MemorySink::new(), MemorySink::new()];
            tch::manual_seed(11);
            let first = part(folder.path(), end, false, &sinks[0]);
            if let End::Crash(_) = end {
                assert!(first.unwrap_err().to_string().contains("killed"));
            } else {
                let first = first.unwrap();
                assert!(first.interrupted, "{end:?}");
            }
            // In another process the generator would be anywhere; so it is here. Without a
            // checkpoint the run begins anew, as the first did.
            let has_state = folder.path().join("state").is_dir();
            tch::manual_seed(if has_state { 99 } else { 11 });
            let second = part(folder.path(), End::Never, true, &sinks[1]).unwrap();
            let place = format!("{end:?}, resumed from {:?}", second.resumed_from);
            assert_eq!(second.resumed_from.is_some(), has_state, "{place}");
            assert_eq!(second.global_steps, steps, "{place}");
            assert_eq!(second.forward_steps, forwards, "{place}");
            assert!(
                same_weights_at(steps, folder.path(), whole.path()),
                "{place}: weights"
            );
            assert!(same_logs(&logged(&sinks), &expected_log), "{place}: losses");
            let last =
                |summary: &TrainSummary| summary.losses.values().copied().collect::<Vec<_>>();
            assert!(same_losses(&last(&second), &last(&summary)), "{place}");
            assert_eq!(second.best, summary.best, "{place}");
            if end == End::Flag(forwards / 2) {
                record::folder("", folder.path());
                let losses = logged(&sinks).into_iter();
                record::losses("", losses.map(|((tag, step), bits)| (tag, step, bits)));
            }
            resumed_from.extend(second.resumed_from);
        }
    }
    resumed_from.sort_unstable();
    resumed_from.dedup();
    // By way of the flag each step was one that a run went on from.
    assert_eq!(resumed_from, (1..=steps).collect::<Vec<_>>());
}

#[test]
fn epochs_with_projections_schedules_and_kept_outputs() {
    survives(epochs, 21, 9);
}

#[test]
fn steps_over_tasks_with_random_batches() {
    survives(steps, 21, 7);
}

#[test]
fn weights_of_layers() {
    survives(emd, 6, 6);
}

#[test]
fn fp16_with_a_loss_scale_that_falls_and_grows() {
    let sink = MemorySink::new();
    {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        tch::manual_seed(11);
        scaled(folder.path(), End::Never, false, &sink).unwrap();
    }
    // The bad batch is in the steps 1, 3, 6 and 8, counted from 0; after 4 and 5 the scale
    // grows. Both batches of a step have the scale that it began with.
    let scales = sink.curve("scalar/loss_scale").into_iter();
    let powers: Vec<f64> = scales.map(|(_, scale)| scale.log2()).collect();
    let of_steps = [10.0, 10.0, 9.0, 9.0, 8.0, 8.0, 9.0, 8.0, 8.0, 7.0];
    assert_eq!(powers, of_steps.map(|power| [power; 2]).concat());
    survives(scaled, 20, 10);
}

#[test]
fn several_interruptions_of_one_run() {
    let _alone = alone();
    let whole = crate::common::tiny::folder();
    tch::manual_seed(11);
    epochs(whole.path(), End::Never, false, &MemorySink::new()).unwrap();
    let folder = crate::common::tiny::folder();
    tch::manual_seed(11);
    let mut runs = 0;
    // Each gets a little further than a checkpoint.
    while epochs(folder.path(), End::Crash(5), true, &MemorySink::new()).is_err() {
        runs += 1;
        tch::manual_seed(1000 + runs);
        assert!(runs < 20);
    }
    assert!(runs >= 3, "{runs}");
    assert!(same_weights_at(9, folder.path(), whole.path()));
}

#[test]
fn a_loader_ahead_of_the_run() {
    let _alone = alone();
    let part = |folder: &Path, end, resumes| {
        let student = Student::new(end);
        let mut trainer = BasicTrainer::builder(&student, &student.variables)
            .train_config(config(folder).ckpt_frequency(5))
            .adaptor(adapt)
            .build()
            .unwrap();
        let rows = Tensor::cat(&batches(5), 0);
        let mut loader = TensorLoader::new(vec![rows], 2)
            .unwrap()
            .shuffle(3)
            .prefetch(2)
            .map(|rows| Ok(rows[0].shallow_clone()));
        let run = trainer
            .train(&mut loader)
            .epochs(2)
            .optimizer(AdamW::new(0.02));
        finish(run, &student.flag, resumes, &MemorySink::new())
    };
    let whole = crate::common::tiny::folder();
    tch::manual_seed(11);
    part(whole.path(), End::Never, false).unwrap();
    for at in 2..=10 {
        let folder = crate::common::tiny::folder();
        tch::manual_seed(11);
        part(folder.path(), End::Crash(at), false).unwrap_err();
        tch::manual_seed(5);
        part(folder.path(), End::Never, true).unwrap();
        assert!(same_weights_at(10, folder.path(), whole.path()), "{at}");
    }
}
