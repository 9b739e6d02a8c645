//! Measures what training together costs: the time of a step beyond the slower process's own work,
//! and the bytes that are sent.
//!
//! The processes take turns, for some steps each: every one for itself, but beginning each step at
//! the same time; with averaged gradients; and with the optimizer's state divided as well. They
//! share the cores alike in all three, so that only their ratios mean something, and those of
//! several rounds.
//!
//! `cargo run --release --example processes -- --shape random_tokens --rounds 10`

mod shape;
mod timed;
mod usage;

use clap::Parser;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::distributed::{Launch, ProcessGroup, Reduce};
use textbrewer::{
    AdamW, AdaptorOutput, DistillationConfig, Distiller, GeneralDistiller, Result, TrainingConfig,
    VecLoader, backend,
};

use shape::Shape;
use timed::Timed;

/// Measures what training together costs; on Linux also the bytes that are sent.
#[derive(Debug, Parser)]
struct Options {
    /// Which models and data.
    #[arg(long, value_enum, default_value_t = Shape::RandomTokens)]
    shape: Shape,
    /// How many processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,
    /// Measured steps of a turn.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// How often each of the three has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Examples per batch, in place of the shape's.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    batch: Option<i64>,
    /// Batches of an optimizer step.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    accumulation: u64,
}

/// How the processes train.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Alone,
    Together,
    Divided,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    let options = Options::parse();
    if std::env::var_os("RANK").is_none() {
        let arguments = std::env::args_os().skip(1);
        let launch = Launch::new(options.processes as usize).omp_num_threads(1);
        return Ok(launch.run(std::env::current_exe()?, arguments)?);
    }
    let group = ProcessGroup::from_env()?;
    backend::keep_freed_memory()?;
    let mut rows = Vec::new();
    for round in 0..options.rounds {
        let alone = measure(&options, &group, Way::Alone)?;
        let together = measure(&options, &group, Way::Together)?;
        let divided = measure(&options, &group, Way::Divided)?;
        if group.is_first() {
            println!(
                "round {}: alone {:.2} ms, together {:+.1} %, divided {:+.1} %; work {:.2} ms, {:+.1} %, \
                 {:+.1} %",
                round + 1,
                1e3 * alone.seconds,
                percent(together.seconds, alone.seconds),
                percent(divided.seconds, alone.seconds),
                1e3 * alone.cpu_seconds,
                percent(together.cpu_seconds, alone.cpu_seconds),
                percent(divided.cpu_seconds, alone.cpu_seconds),
            );
        }
        rows.push([alone, together, divided]);
    }
    if group.is_first() {
        report(&options, &rows)?;
    }
    Ok(())
}

fn report(options: &Options, rows: &[[Measured; 3]]) -> Result<()> {
    let rounds = rows.len();
    println!("beyond a process's own, median of {rounds} rounds (least to most): time; work");
    for (index, name) in [(1, "together"), (2, "divided")] {
        let more = |of: fn(&Measured) -> f64| {
            let of_row = |row: &[Measured; 3]| percent(of(&row[index]), of(&row[0]));
            spread(rows.iter().map(of_row).collect())
        };
        // What others send is in it too, so that the least is nearest.
        let sent = rows.iter().map(|row| row[index].megabytes);
        println!(
            "  {name}: {}; {}; each process sends {:.3} MB in a step",
            more(|measured| measured.seconds),
            more(|measured| measured.cpu_seconds),
            sent.fold(f64::INFINITY, f64::min),
        );
    }
    println!("gradients: {:.3} MB", gradient_megabytes(options)?);
    Ok(())
}

/// What a turn came to, for one step.
#[derive(Debug)]
struct Measured {
    /// The time of the process that took longer.
    seconds: f64,
    /// The work of a process, on all of its threads.
    cpu_seconds: f64,
    /// What a process sent.
    megabytes: f64,
}

fn measure(
    options: &Options,
    group: &ProcessGroup,
    way: Way,
) -> std::result::Result<Measured, Box<dyn std::error::Error>> {
    tch::manual_seed(7);
    let folder = tempfile::tempdir()?;
    // All processes have to see one folder, in which only the first writes; alone each has its own.
    let folder = match way {
        Way::Alone => folder.path().to_owned(),
        _ => std::env::temp_dir().join(format!("textbrewer-processes-{}", parent())),
    };
    let config = TrainingConfig::default()
        .device(Device::Cpu)
        .log_interval(options.steps + 10)
        .gradient_accumulation_steps(options.accumulation)
        .output_dir(&folder);
    let (teacher_variables, variables) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let teacher = options.shape.teacher(&teacher_variables)?;
    let student = options.shape.student(&variables)?;
    let batches = options.shape.batches(options.batch)?;
    let mut loader = VecLoader::new(batches)?;
    let distiller = GeneralDistiller::builder(&teacher, &student, &variables)
        .train_config(config)
        .distill_config(
            DistillationConfig::default()
                .temperature(2.0)
                .intermediate_matches(options.shape.matches()),
        )
        .adaptor(|_, output| {
            let adapted = AdaptorOutput::new().logits(&output.logits);
            Ok(adapted.hidden(&output.hidden_states))
        })
        .build()?;
    let waits = (way == Way::Alone).then_some(group);
    let mut timed = Timed::new(distiller, waits, options.accumulation);
    // The last step is followed by a checkpoint, and the first ones make what later ones keep.
    let run = timed
        .train(&mut loader)
        .steps(timed::WARM_UP + options.steps + 1)
        .optimizer(AdamW::new(1e-4))
        .overwrite(true)
        .save_state(false)
        .progress(false);
    let run = match way {
        Way::Alone => run,
        Way::Together => run.process_group(group),
        Way::Divided => run.process_group(group).shard_optimizer(true),
    };
    run.run()?;
    let steps = timed.measured();
    if way != Way::Alone {
        group.barrier()?;
        if group.is_first() {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    // The slower process of each step, as the others wait for it.
    let slowest = group.all_reduce(&Tensor::from_slice(&steps.seconds), Reduce::Max)?;
    let mut slowest: Vec<f64> = Vec::try_from(&slowest)?;
    slowest.sort_by(f64::total_cmp);
    // Work in place of time is added up, as none of it may be free.
    let cpu_seconds = group.all_reduce(&Tensor::from(steps.cpu_seconds), Reduce::Sum)?;
    let count = options.steps as f64 * group.world_size() as f64;
    Ok(Measured {
        seconds: slowest.get(slowest.len() / 2).copied().unwrap_or_default(),
        cpu_seconds: cpu_seconds.f_double_value(&[])? / count,
        megabytes: steps.sent_bytes / 1e6 / count,
    })
}

fn parent() -> String {
    std::env::var("MASTER_PORT").unwrap_or_default()
}

fn gradient_megabytes(options: &Options) -> Result<f64> {
    let variables = VarStore::new(Device::Cpu);
    options.shape.student(&variables)?;
    let all = variables.trainable_variables();
    let numbers: usize = all.iter().map(Tensor::numel).sum();
    let projections = options.shape.projections();
    Ok(4.0 * (numbers as f64 + projections) / 1e6)
}

fn percent(one: f64, alone: f64) -> f64 {
    100.0 * (one / alone - 1.0)
}

fn spread(mut percents: Vec<f64>) -> String {
    percents.sort_by(f64::total_cmp);
    let at = |index: usize| percents.get(index).copied().unwrap_or_default();
    format!(
        "{:+.1} % ({:+.1} to {:+.1})",
        at(percents.len() / 2),
        at(0),
        at(percents.len().saturating_sub(1))
    )
}
