//! On CUDA no call in a step makes the host wait for the device, so that the next kernels are
//! there when it is done with the last. libtorch's own debug mode watches: under it, what would
//! wait is an error.
//!
//! `TEXTBREWER_TEST_DEVICE=cuda` runs these; elsewhere there is nothing to wait for.

#[path = "../../common/mod.rs"]
mod common;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::device::{device, left_out};
use common::tiny::{Net, adapt, batches, config, fill_projections, general};
use tch::{Device, Tensor};
use textbrewer::config::Precision;
use textbrewer::optim::LossScaling;
use textbrewer::{
    AdamW, Batch, DataLoader, DistillationConfig, Distiller, Error, GeneralDistiller,
    IntermediateMatch, MemorySink, OnNonFinite, ProjectionSpec, Result, Run, TrainingConfig,
    VecLoader,
};
#[cfg(target_os = "linux")]
use torch_meter::NoCuda;
use torch_meter::Refused;

/// The mode is one for the process: each test has it alone.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a test is left out, as there is nothing to wait for.
fn nothing_to_wait_for(test: &str) -> bool {
    let reason = "only a CUDA device is waited for";
    left_out(test, !device().is_cuda(), reason)
}

/// Waiting is refused while this is `Some`.
#[derive(Debug, Default)]
struct Watch(RefCell<Option<Refused>>);

impl Watch {
    fn begin(&self) -> Result<()> {
        self.0.replace(Some(Refused::new().map_err(Error::other)?));
        Ok(())
    }

    fn end(&self) {
        self.0.replace(None);
    }
}

/// A run of 20 steps. From the fifth to the sixteenth waiting is refused: the first make what all
/// others use, and the last is followed by the reading of the losses.
fn steps<D: Distiller<Batch = Tensor>>(
    distiller: &mut D,
    change: impl for<'a> FnOnce(Run<'a, D>) -> Run<'a, D>,
) -> Result<()> {
    let (watch, drawn) = (Watch::default(), Cell::new(0));
    let mut loader = VecLoader::new(batches(20))?.map(move |batch: Tensor| {
        drawn.set(drawn.get() + 1);
        match drawn.get() {
            5 => watch.begin()?,
            17 => watch.end(),
            _ => {}
        }
        Ok(batch)
    });
    let run = distiller.train(&mut loader).steps(20).progress(false);
    let run = run.log_sink(MemorySink::new());
    let run = change(run.optimizer(AdamW::new(0.01)).max_grad_norm(0.5));
    run.run().map(drop)
}

fn train_config(folder: &Path) -> TrainingConfig {
    config(folder).log_interval(None)
}

fn distill_config() -> DistillationConfig {
    DistillationConfig::default()
        .temperature(8.0)
        .hard_label_weight(0.5)
        .intermediate_matches([
            IntermediateMatch::hidden(3, 1).proj(ProjectionSpec::linear(4, 5)),
            IntermediateMatch::hidden([0, 2], [0, 1])
                .loss("nst")
                .weight(0.5),
            IntermediateMatch::hidden(1, 1)
                .loss("cos")
                .proj(ProjectionSpec::linear(4, 5)),
        ])
}

fn distiller<'a>(
    teacher: &'a Net,
    student: &'a Net,
    config: TrainingConfig,
    distill_config: DistillationConfig,
) -> GeneralDistiller<'a, Tensor, Net> {
    let distiller = GeneralDistiller::builder(teacher, student, &student.variables)
        .train_config(config)
        .distill_config(distill_config)
        .teacher_adaptor(adapt)
        .student_adaptor(|batch: &Tensor, output| {
            let loss = common::tiny::square(batch, output)?.losses;
            Ok(loss
                .iter()
                .fold(adapt(batch, output)?, |adapted, loss| adapted.losses(loss)))
        })
        .build()
        .unwrap();
    fill_projections(&distiller);
    distiller
}

/// The library may be loaded on a machine without a device. One in which the mode is not found, as
/// it may have another name in a later libtorch, would let every other test here pass.
#[cfg(target_os = "linux")]
#[test]
fn waiting_is_refused_exactly_where_the_library_for_cuda_is_loaded() {
    let _alone = alone();
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    let expected = match mapped.contains("/libc10_cuda") {
        true => Ok(()),
        false => Err(NoCuda),
    };
    assert_eq!(Refused::new().map(drop), expected);
}

#[test]
fn a_batch_is_copied_from_page_locked_memory_without_waiting() {
    if nothing_to_wait_for("a_batch_is_copied_from_page_locked_memory_without_waiting") {
        return;
    }
    let _alone = alone();
    let batch = common::waves(&[512, 1024], 0.3);
    // What is made at the first call is made.
    drop(Batch::to_device(&batch, device()).unwrap());
    let moved = {
        let _refused = Refused::new().unwrap();
        // The contrast: libtorch's own copy waits, and is refused.
        assert!(batch.f_to_device(device()).is_err());
        Batch::to_device(&batch, device()).unwrap()
    };
    assert_eq!(moved.to_device(Device::Cpu), batch);
    // Page-locked memory is used again only when its copy is done.
    let many: Vec<Tensor> = (0..64)
        .map(|seed| Batch::to_device(&common::waves(&[256, 1024], f64::from(seed)), device()))
        .collect::<Result<_>>()
        .unwrap();
    for (seed, moved) in many.iter().enumerate() {
        let expected = common::waves(&[256, 1024], seed as f64);
        assert_eq!(moved.to_device(Device::Cpu), expected, "{seed}");
    }
}

#[test]
fn no_step_of_a_distillation_waits() {
    if nothing_to_wait_for("no_step_of_a_distillation_waits") {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for precision in [Precision::Float32, Precision::Bf16, Precision::Fp16] {
        let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
        let config = train_config(folder.path()).precision(precision);
        let mut distiller = distiller(&teacher, &student, config, distill_config());
        let result = steps(&mut distiller, |run| {
            run.schedule(|step, _| 1.0 / (1 + step) as f64)
        });
        result.unwrap_or_else(|error| panic!("{precision}: {error}"));
    }
}

/// Options that could ask the device for a number in each step.
#[test]
fn no_option_makes_a_step_wait() {
    if nothing_to_wait_for("no_option_makes_a_step_wait") {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let train =
        |name: &str, config: TrainingConfig, distill: DistillationConfig, policy, scaled| {
            let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 4, 0.2));
            let mut distiller = distiller(&teacher, &student, config, distill);
            let result = steps(&mut distiller, |run| {
                let run = run.on_non_finite(policy);
                match scaled {
                    true => run.loss_scaling(LossScaling::new()),
                    false => run,
                }
            });
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
        };
    let (config, distill) = (|| train_config(folder.path()), distill_config);
    let error = OnNonFinite::Error;
    train(
        "accumulation",
        config().gradient_accumulation_steps(2),
        distill(),
        error,
        false,
    );
    train(
        "clipped projections",
        config().clip_projections(true),
        distill(),
        error,
        false,
    );
    train(
        "skipped steps",
        config(),
        distill(),
        OnNonFinite::SkipStep,
        false,
    );
    train("loss scaling", config(), distill(), error, true);
    train(
        "flsw",
        config(),
        distill().temperature_scheduler(("flsw", [1.0, 2.0])),
        error,
        false,
    );
    train(
        "flsw of another power",
        config(),
        distill().temperature_scheduler(("flsw", [1.0, 1.5])),
        error,
        false,
    );
    train(
        "cwsm",
        config(),
        distill().temperature_scheduler(("cwsm", [1.0])),
        error,
        false,
    );
    for loss in [
        "ce",
        "kl",
        "mse",
        "bce",
        "regression_mse",
        "smooth_l1",
        "taid",
    ] {
        train(loss, config(), distill().kd_loss_type(loss), error, false);
    }
}

/// The teacher's outputs come from main memory, page-locked on their way, once all are kept.
#[test]
fn kept_outputs_are_not_waited_for() {
    if nothing_to_wait_for("kept_outputs_are_not_waited_for") {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = (Net::new(4, 5, 0.1), Net::new(2, 5, 0.2));
    let kept = DistillationConfig::default()
        .is_caching_logits(true)
        .cache_features(true)
        .intermediate_matches([IntermediateMatch::hidden(3, 1)]);
    let mut distiller = general(&teacher, &student, train_config(folder.path()), kept).unwrap();
    let mut four = VecLoader::new(batches(4)).unwrap();
    let watch = Watch::default();
    let run = distiller.train(&mut four).steps(20).progress(false);
    let run = run.optimizer(AdamW::new(0.01)).after_step(|_, step| {
        // From the third epoch on.
        match step.global_step {
            9 => watch.begin()?,
            16 => watch.end(),
            _ => {}
        }
        Ok(())
    });
    run.run().unwrap();
}
