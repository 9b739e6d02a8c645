//! Everything before the loop: checks, optimizer, resuming, data, logs.

mod agreement;
mod before;
mod description;
pub(super) mod existing;
mod feed;
mod fit;
mod logs;
mod optimizer;
mod resume;

use super::TrainSummary;
use super::epochs::{Epochs, Feed, no_batch};
use super::hooks::Hooks;
use super::interrupt::Stop;
use super::learning_rates::LearningRates;
use super::logs::{Logs, RunLogs};
use super::plan::{Length, Plan};
use super::position::Position;
use super::random::Random;
use super::ranks::Ranks;
use super::record::Record;
use super::run::{RequestedLength, Run};
use super::saving::Saving;
use super::statistics::Statistics;
use super::step_weight::StepWeight;
use super::training::Training;
use super::update::Update;
use serde_json::json;
use tch::Device;

use crate::checkpoint::CheckpointFolder;
use crate::config::TrainingConfig;
use crate::data::{DataLoader, Shard};
use crate::distiller::{Distiller, check_training};
use crate::error::{Error, Result};
use crate::logging::ProgressBar;
use crate::optim::LossScaling;
pub(super) use agreement::reducer;
use description::RunDescription;
pub(super) use resume::Resumed;

/// Checks that a run can work and makes everything ready for its loop. If the run resumes, the
/// checkpoint is loaded and returned too.
pub(super) fn prepare<'a, D: Distiller + ?Sized>(
    run: Run<'a, D>,
) -> Result<(Training<'a, D>, Option<Resumed>)> {
    let Run {
        distiller,
        loader,
        length,
        postprocessor,
        seed,
        optimization,
        mut observers,
        options,
        processes,
    } = run;
    let ranks = Ranks::new(processes.group);
    processes.check(distiller.core().config())?;
    let mut all_batches = None;
    let loader: Feed<'a, D::Batch> = match ranks.shard(processes.uneven)? {
        Some(shard) => {
            // Shares of other data may have as many batches. Not those of a share from before.
            loader.take_share(Shard::new(0, 1)?);
            all_batches = loader.num_batches();
            Box::new(loader.shard(shard))
        }
        None => Box::new(loader),
    };
    check_training(distiller.core().config(), distiller.core().variables())?;
    let max_grad_norm = optimization.max_grad_norm;
    if max_grad_norm.is_some_and(f64::is_nan) {
        return Err(Error::config("max_grad_norm", "must be a number, is NaN"));
    }
    let length = length
        .ok_or_else(|| Error::config("epochs", "say how long to train: `epochs` or `steps`"))?;
    let plan = plan(length, &loader, distiller)?;
    let mut hooks = Hooks::new(observers.hooks)?;
    let evaluations = observers.evaluations;
    evaluations.check(observers.callbacks.len())?;

    let folder = &distiller.core().config().output_dir;
    let mut checkpoints = CheckpointFolder::new(folder);
    if !ranks.is_first() {
        checkpoints = checkpoints.read_only();
    }
    checkpoints.prepare()?;
    let is_new_here = !options.begin.resumes_in(folder);
    if is_new_here && !options.overwrites && ranks.is_first() {
        let (steps, anywhere) = (
            1..=plan.total_steps(),
            // A callback that stops at an evaluation may be anywhere too.
            options.may_save_unplanned() || evaluations.every.is_some(),
        );
        let saves = |step| plan.saves_at(step) || (anywhere && steps.contains(&step));
        existing::check(folder, saves, &checkpoints)?;
    }

    let mut optimizer = optimization.optimizer.ok_or_else(|| {
        let reason = "none was given; for example `AdamW::new(1e-4)`";
        Error::config("optimizer", reason)
    })?;
    if processes.shards_optimizer {
        optimizer = optimizer::shard(optimizer, ranks)?;
    }
    let rules = optimizer::Rules {
        options_of: optimization.options_of,
        no_decay: optimization.no_decay,
    };
    optimizer::add_groups(&mut optimizer, rules, distiller)?;
    let core = distiller.core();
    let is_one_batch = core.config().gradient_accumulation_steps == 1 && ranks.world_size() == 1;
    let weighs_by_positions = core.weighs_by_positions() && !is_one_batch;
    let scaling = optimizer::loss_scaling(
        optimization.loss_scaling,
        (max_grad_norm.is_some(), weighs_by_positions),
        &optimizer,
        distiller,
    )?;
    let about = RunDescription {
        in_epochs: matches!(length, RequestedLength::Epochs(_)),
        total_steps: plan.total_steps(),
        max_grad_norm,
        loss_scaling: scaling.as_ref().map(LossScaling::rule),
        seed,
        postprocesses: postprocessor.is_some(),
        hooks: hooks.names(),
        batches: loader.num_batches().map(|batches| batches as u64),
    };
    let schedule = optimization.schedule;
    let description = about.describe(distiller, &optimizer, schedule.as_deref())?;
    let stop = Stop::new(options.stop_flags.clone(), options.handles_interrupts)?;
    let also = vec![
        ("steps", json!(plan.total_steps())),
        ("device", json!(kind_of(distiller.core().config().device))),
        ("batches of all processes", json!(all_batches)),
        ("evaluations", json!(format!("{evaluations:?}"))),
        (
            "on_non_finite",
            json!(format!("{:?}", options.on_non_finite)),
        ),
        ("save_state", json!(options.saves_state)),
        (
            "early_stopping",
            json!(format!("{:?}, {:?}", options.early_stopping, options.mode)),
        ),
        ("uneven", json!(format!("{:?}", processes.uneven))),
        (
            "callbacks",
            json!(format!("{:?}", processes.callback_ranks)),
        ),
        ("shard_optimizer", json!(processes.shards_optimizer)),
        (
            "intervals of logging and saving",
            json!(intervals(distiller.core().config())),
        ),
    ];
    agreement::compare(ranks, &description, also)?;
    agreement::look_at_threads(ranks, distiller.core().config().device)?;
    let may_stop = ranks.any("what may stop the run", stop.is_possible())?;
    // Until here the first rank may have been removing what an earlier run left unfinished.
    let mut newest = resume::find(&options.begin, distiller.core().config())?;
    agreement::same_checkpoint(ranks, newest.as_ref())?;
    if let Some(newest) = &mut newest {
        fit::fit(newest, &description, &plan, ranks.world_size());
        resume::check(newest, &description, &plan, options.extends)?;
    }

    let device = distiller.core().config().device;
    let random = Random::new(device, ranks)?;
    let keeps_outputs = distiller.core().cache_bytes().is_some();
    let feed = feed::feed(loader, postprocessor, keeps_outputs, seed)?;
    let mut summary = TrainSummary::default();
    let mut log = None;
    if ranks.is_first()
        && let Some(folder) = &distiller.core().config().log_dir
    {
        // A run that goes on elsewhere has a log of its own, as it has checkpoints of its own.
        let newest = newest.as_ref().filter(|_| !is_new_here);
        let own = logs::of_run(folder, newest, &observers.sinks)?;
        summary.log_dir = Some(own.path);
        if let Some(sink) = own.sink {
            log = sink.folder();
            observers.sinks.push(Box::new(sink));
        }
    }
    let bar = match observers.progress && ranks.is_first() {
        true => ProgressBar::new(plan.total_steps()),
        false => ProgressBar::hidden(),
    };
    if !ranks.is_first() {
        observers.sinks.clear();
    }
    let texts = logs::configuration(distiller, &description, plan.total_steps())?;
    let accumulation = distiller.core().config().gradient_accumulation_steps;
    let logs = RunLogs {
        logs: Logs::new(observers.sinks, observers.log_axis, accumulation),
        texts,
        folder: log,
        rates: LearningRates::of(&optimizer),
    };
    // Only now that nothing else can fail.
    let load = |newest| resume::load(newest, ranks.rank(), distiller, &mut optimizer, &mut hooks);
    let resumed = newest.map(load).transpose()?;
    if is_new_here
        && options.overwrites
        && let Err(error) = checkpoints.clear()
    {
        if let Some(Resumed { before, .. }) = resumed {
            before.put_back(distiller, &mut optimizer, &mut hooks);
        }
        return Err(error);
    }
    if resumed.is_none() {
        agreement::share_state(ranks, distiller)?;
        // One whose state is divided began without any.
        if !processes.shards_optimizer {
            agreement::share_optimizer(ranks, &mut optimizer)?;
        }
    }
    let statistics = Statistics::of(ranks, distiller.core().variables());
    let (reducer, frozen) = agreement::reducer(ranks, &optimizer, distiller)?;
    distiller.core().clear_cache();
    let batches = match ranks.world_size() {
        1 => plan.batches_per_epoch(),
        _ => feed.num_batches().map(|batches| batches as u64),
    };
    let training = Training {
        at: Position::default(),
        epochs: Epochs::new(feed, device, batches, random),
        update: Update {
            optimizer,
            schedule,
            max_grad_norm,
            scaling,
            on_non_finite: options.on_non_finite,
            ranks,
            reducer,
            frozen,
            is_accumulating: false,
            has_dropped: false,
            has_gradients: false,
            weight: StepWeight::default(),
        },
        hooks,
        record: Record::new(
            logs,
            bar,
            observers.callbacks,
            distiller.core().config().log_interval,
            options.on_non_finite,
            Saving::new(checkpoints, &options, description),
            summary,
        )
        .of_ranks(ranks, processes.callback_ranks),
        statistics,
        stop,
        ranks,
        may_stop,
        weighs_by_positions,
        plan,
        evaluations,
        distiller,
    };
    Ok((training, resumed))
}

fn plan<D: Distiller + ?Sized>(
    length: RequestedLength,
    loader: &Feed<'_, D::Batch>,
    distiller: &D,
) -> Result<Plan> {
    let length = match length {
        RequestedLength::Epochs(0) => return Err(Error::config("epochs", "must be at least 1")),
        RequestedLength::Steps(0) => return Err(Error::config("steps", "must be at least 1")),
        RequestedLength::Steps(steps) => Length::Steps(steps),
        RequestedLength::Epochs(epochs) => {
            let batches = match loader.num_batches() {
                Some(0) => return Err(no_batch(1)),
                Some(batches) => batches as u64,
                None => {
                    let reason = "the loader does not know its number of batches; say how many an \
                                  epoch has (`FnLoader::with_num_batches`, \
                                  `DataLoader::num_batches` of a loader of your own), or give \
                                  the run a length in `steps`";
                    return Err(Error::config("epochs", reason));
                }
            };
            Length::Epochs { epochs, batches }
        }
    };
    Plan::new(distiller.core().config(), length)
}

/// How often the ranks come together besides the optimizer steps. A resumed run may have others.
fn intervals(config: &TrainingConfig) -> [Option<u64>; 4] {
    [
        config.log_interval,
        Some(config.ckpt_frequency),
        Some(config.ckpt_epoch_frequency),
        config.ckpt_steps,
    ]
}

/// Each process has a device of its own, but all of one kind.
fn kind_of(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    }
}
