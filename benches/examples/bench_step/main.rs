//! Measures the time of a training step on two shapes: `random_tokens` distils BERT-base into three
//! layers, where the models dominate, and `tiny` has models so small that the overhead of the
//! framework dominates.
//!
//! The last line is JSON with the times; `docs/book/src/performance.md` compares them.
//!
//! `cargo run --release --example bench_step -- --shape tiny --steps 500`

mod report;
mod shape;
mod timed;

use std::time::Instant;

use clap::Parser;
use tch::Device;
use tch::nn::VarStore;
use textbrewer::config::{Precision, parse_device};
use textbrewer::schedule::{constant, linear_with_warmup};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Side, TrainingConfig,
    VecLoader, backend,
};

use shape::{Shape, Student};
use timed::Timed;

/// Measures training steps, and prints the result as JSON in the last line.
#[derive(Debug, Parser)]
struct Options {
    /// Which models and data.
    #[arg(long, value_enum)]
    shape: Shape,
    /// Which student.
    #[arg(long, value_enum, default_value_t = Student::Wide)]
    student: Student,
    /// Number of measured steps.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Examples per batch; 32, or 8 for `tiny`, by default.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    batch: Option<i64>,
    /// Tokens per example; 128, or 16 for `tiny`, by default.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=512))]
    length: Option<i64>,
    /// Cache the teacher's outputs. The first epoch, which fills the cache, is then run before the
    /// measured steps.
    #[arg(long)]
    cache: bool,
    /// Precision of forward passes: `float32`, `bf16` or `fp16`.
    #[arg(long, default_value = "float32")]
    precision: Precision,
    /// Precision of the teacher's forward passes; by default that of `--precision`.
    #[arg(long)]
    teacher_precision: Option<Precision>,
    /// `cpu`, `cuda` or `cuda:1`.
    #[arg(long, default_value = "cpu", value_parser = parse_device)]
    device: Device,
    /// Threads within an operation; by default libtorch's choice, or 1 for `tiny`.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
    /// Let the C library return freed memory to the system in every step, its default, instead of
    /// calling `backend::keep_freed_memory`.
    #[arg(long)]
    return_memory: bool,
}

impl Options {
    /// How many steps come before the measured ones, in the same run.
    fn steps_before(&self, batches_per_epoch: u64) -> u64 {
        if self.cache { batches_per_epoch } else { 0 }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    if options.shape == Shape::Tiny && options.student == Student::Small {
        return Err("--student small: is for `--shape random_tokens`".into());
    }
    if let Some(threads) = options.threads.or(options.shape.threads()) {
        tch::set_num_threads(threads);
    }
    if !options.return_memory {
        backend::keep_freed_memory()?;
    }
    tch::manual_seed(0);
    let folder = tempfile::tempdir()?;
    let train_config = TrainingConfig::default()
        .device(options.device)
        .output_dir(folder.path())
        .precision(options.precision)
        .teacher_precision(options.teacher_precision);
    train_config.validate()?;
    let device = train_config.device;

    let (mut teacher_vars, student_vars) = (VarStore::new(device), VarStore::new(device));
    let teacher = options.shape.teacher(&teacher_vars)?;
    if train_config.precision_of(Side::Teacher) == Precision::Bf16 {
        // They never change: converted once, not in every step.
        teacher_vars.bfloat16();
    }
    let student = options.shape.student(&student_vars, options.student)?;
    let batches = options.shape.batches(options.batch, options.length)?;
    let batches_per_epoch = batches.len() as u64;
    let mut loader = VecLoader::new(batches)?;

    let distiller = GeneralDistiller::builder(&teacher, &student, &student_vars)
        .train_config(train_config)
        .distill_config(
            DistillationConfig::default()
                .temperature(8.0)
                .intermediate_matches(options.shape.matches(options.student))
                .is_caching_logits(options.cache)
                .cache_features(options.cache),
        )
        .adaptor(|batch, output| {
            let adapted = AdaptorOutput::new()
                .logits(&output.logits)
                .hidden(&output.hidden_states);
            Ok(match &batch.attention_mask {
                Some(mask) => adapted.inputs_mask(mask),
                None => adapted,
            })
        })
        .build()?;
    let mut distiller = Timed::new(distiller);
    let mut optimizer = AdamW::new(1e-4);
    if let Some(steps) = options.shape.warm_up_steps() {
        distiller
            .train(&mut loader)
            .steps(steps)
            .optimizer(&mut optimizer)
            .progress(false)
            .run()?;
    }

    let before = options.steps_before(batches_per_epoch);
    let schedule: Box<dyn Fn(u64, u64) -> f64> = match options.shape {
        Shape::RandomTokens => Box::new(linear_with_warmup(options.steps / 10, options.steps)),
        Shape::Tiny => Box::new(constant()),
    };
    // A run ends with a checkpoint, which must not be measured: the last measured step
    // ends where one step more begins.
    distiller.measure_until(before + options.steps);
    let run_started = Instant::now();
    let summary = distiller
        .train(&mut loader)
        .steps(before + options.steps + 1)
        .optimizer(&mut optimizer)
        .schedule(schedule)
        .progress(false)
        .run()?;

    println!(
        "{}",
        report::line(
            &options,
            &distiller,
            batches_per_epoch,
            run_started,
            &summary
        )?
    );
    Ok(())
}

/// Waits until the device has finished all operations; the CPU always has.
fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
