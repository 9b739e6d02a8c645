//! Resuming from a checkpoint.

use std::collections::BTreeMap;

use serde_json::Value;
use tch::Tensor;

use super::before::Before;
use super::description::SCHEDULE;
use crate::checkpoint::{CheckpointFolder, Description, Newest};
use crate::config::TrainingConfig;
use crate::distiller::Distiller;
use crate::engine::hooks::Hooks;
use crate::engine::plan::Plan;
use crate::engine::position::Position;
use crate::engine::ranks::as_of_rank;
use crate::engine::run::Begin;
use crate::error::{Error, Result};
use crate::logging;
use crate::optim::Optimizer;
use crate::weights::{self, LoadOptions};

/// The checkpoint to resume from, if the run resumes.
pub(super) fn find(begin: &Begin, config: &TrainingConfig) -> Result<Option<Newest>> {
    let (folder, must) = match begin {
        Begin::New => return Ok(None),
        Begin::Resume(folder) => (folder.as_path(), true),
        Begin::ResumeIfAny => (config.output_dir.as_path(), false),
    };
    let newest = CheckpointFolder::new(folder).newest()?;
    let Some(newest) = newest else {
        if must {
            let reason = format!(
                "there is no checkpoint in {}; give the `output_dir` of the run, or use \
                 `resume_or_start`",
                folder.display()
            );
            return Err(Error::config("resume", reason));
        }
        return Ok(None);
    };
    for error in &newest.damaged {
        logging::warn(format_args!(
            "a newer checkpoint is damaged, that of step {} is used: {error}",
            newest.loaded.position.global_step
        ));
    }
    Ok(Some(newest))
}

/// Fails if a run of this plan is never at the saved position. Whether the loss is scaled was
/// compared with the description; a saved position that says otherwise was altered.
fn check_position(newest: &Newest, plan: &Plan, is_scaled: bool) -> Result<()> {
    let saved = &newest.loaded.position;
    let reason = if !plan.has_position(&Position::of(saved)) {
        format!(
            "`progress.json` has a position that such a run is never at: batch {} of epoch {}, \
             {} batches and {} steps in all; resume from another folder",
            saved.batch, saved.epoch, saved.forward_step, saved.global_step
        )
    } else if saved.scaling.is_some() != is_scaled {
        let state = if is_scaled { "no" } else { "a" };
        format!(
            "is damaged: it has {state} state of loss scaling, and its description says otherwise"
        )
    } else {
        return Ok(());
    };
    let path = newest.loaded.path.clone();
    Err(Error::Checkpoint { path, reason })
}

/// Leaves of the factors of two schedules those that both have: a longer run has more of them,
/// and earlier versions of this crate saved them for steps that a run does not have.
fn shorten_schedules(one: &mut Description, other: &mut Description) {
    let factors = |run: &Description| Some(run.run.get(SCHEDULE)?.as_array()?.len());
    let (Some(of_one), Some(of_other)) = (factors(one), factors(other)) else {
        return;
    };
    let common = of_one.min(of_other);
    for run in [one, other] {
        if let Some(Value::Array(factors)) = run.run.get_mut(SCHEDULE) {
            factors.truncate(common);
        }
    }
}

/// Fails if the checkpoint belongs to another run than the one described. Only the schedule may
/// be another, in a run that `extends` it.
pub(super) fn check(newest: &Newest, now: &Description, plan: &Plan, extends: bool) -> Result<()> {
    let loaded = &newest.loaded;
    let (mut before, mut now) = (loaded.manifest.description.clone(), now.clone());
    shorten_schedules(&mut before, &mut now);
    if extends {
        before.run.remove(SCHEDULE);
        now.run.remove(SCHEDULE);
    }
    let mut differences = before.differences(&now)?;
    let of_schedule = format!("run.{SCHEDULE}: ");
    for difference in &mut differences {
        if difference.starts_with(&of_schedule) {
            difference.push_str("; `extend(true)` allows another schedule");
        }
    }
    if !differences.is_empty() {
        return Err(Error::ResumeMismatch {
            path: loaded.path.clone(),
            differences,
        });
    }
    let is_scaled = now
        .run
        .get("loss_scaling")
        .is_some_and(|rule| !rule.is_null());
    check_position(newest, plan, is_scaled)
}

/// A checkpoint that was loaded, and what was there before.
#[derive(Debug)]
pub(in crate::engine) struct Resumed {
    pub(in crate::engine) newest: Newest,
    pub(in crate::engine) before: Before,
}

/// Restores what a checkpoint holds, after [`check`]. If anything is refused, all is as it was.
pub(super) fn load<D: Distiller + ?Sized>(
    newest: Newest,
    rank: usize,
    distiller: &mut D,
    optimizer: &mut dyn Optimizer,
    hooks: &mut Hooks<'_, D::Student>,
) -> Result<Resumed> {
    let before = Before::of(distiller, optimizer, hooks)?;
    if let Err(error) = load_all(&newest, rank, distiller, optimizer, hooks) {
        before.put_back(distiller, optimizer, hooks);
        return Err(error);
    }
    logging::info(format_args!(
        "resumed from {}",
        newest.loaded.path.display()
    ));
    Ok(Resumed { newest, before })
}

fn load_all<D: Distiller + ?Sized>(
    newest: &Newest,
    rank: usize,
    distiller: &mut D,
    optimizer: &mut dyn Optimizer,
    hooks: &mut Hooks<'_, D::Student>,
) -> Result<()> {
    let loaded = &newest.loaded;
    let origin = loaded.path.display().to_string();
    let _guard = tch::no_grad_guard();
    weights::check_fit(distiller.core().variables(), &loaded.student, &origin)?;
    hooks.load_state(&loaded.tensors.hooks, loaded.position.global_step)?;
    // One process alone may call its tensors anything.
    match loaded.position.world_size > 1 {
        true => {
            let of_rank = as_of_rank(rank, &loaded.tensors.distiller);
            distiller.core_mut().load_state(&of_rank)?;
        }
        false => distiller.core_mut().load_state(&loaded.tensors.distiller)?,
    }
    optimizer.load_state(&loaded.tensors.optimizer)?;
    // Last, as a hook may have written into the student.
    load_student(distiller, &loaded.student, &origin)
}

fn load_student<D: Distiller + ?Sized>(
    distiller: &D,
    student: &BTreeMap<String, Tensor>,
    origin: &str,
) -> Result<()> {
    let variables = distiller.core().variables();
    weights::load_into(variables, student, origin, &LoadOptions::new()).map(drop)
}
