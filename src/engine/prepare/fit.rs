//! Going on with another number of processes.

use serde_json::json;

use super::Plan;
use super::description::SCHEDULE;
use crate::checkpoint::{Description, Newest};
use crate::engine::position::Position;
use crate::logging;

/// Fits what was saved by another number of processes to a run with this one: an epoch then has
/// another number of batches for each of them, and the run is as far in it as before.
///
/// The number of batches of a step may be changed with the number of processes. A schedule of
/// learning rates is that of this run, whose epochs have other steps.
pub(super) fn fit(newest: &mut Newest, now: &Description, plan: &Plan, world_size: usize) {
    let loaded = &mut newest.loaded;
    let (before, world_size) = (loaded.position.world_size.max(1), world_size as u64);
    if before == world_size {
        return;
    }
    let saved = &mut loaded.manifest.description;
    let batches = (saved.batches, now.batches);
    saved.batches = now.batches;
    if let (Some(saved), Some(now)) = (saved.config.as_object_mut(), now.config.as_object()) {
        for key in OF_A_STEP {
            match now.get(key) {
                Some(value) => saved.insert(key.to_owned(), value.clone()),
                None => saved.shift_remove(key),
            };
        }
    }
    // One by the length of the run has other steps, as the run has.
    if now.run.get("length") == Some(&json!("epochs"))
        && let Some(schedule) = now.run.get(SCHEDULE)
    {
        saved.run.insert(SCHEDULE.to_owned(), schedule.clone());
    }
    let batch = match batches {
        (Some(before), Some(now)) if before > 0 => scaled(loaded.position.batch, now, before),
        _ => scaled(loaded.position.batch, before, world_size),
    };
    let at = plan.at(Position::of(&loaded.position), batch);
    logging::warn(format_args!(
        "the checkpoint is of {before} process(es), and this run has {world_size}: it goes on at \
         batch {} of epoch {} for each of them, step {}, and the examples come in another order",
        at.batch, at.epoch, at.global_step
    ));
    let position = &mut loaded.position;
    let steps = position.global_step;
    if steps != at.global_step {
        // What was saved so far is as far in the run as before, but its files have the names of the
        // steps of then, which this run may use again.
        position.kept.clear();
        let best = position.best.iter_mut();
        for point in position.history.iter_mut().chain(best) {
            point.step = scaled(point.step, at.global_step, steps);
        }
    }
    position.global_step = at.global_step;
    position.forward_step = at.forward_step;
    position.batch = at.batch;
    position.counted = at.counted;
}

/// Keys that say how many batches make a step.
const OF_A_STEP: [&str; 1] = ["gradient_accumulation_steps"];

fn scaled(batch: u64, by: u64, of: u64) -> u64 {
    let wide = u128::from(batch) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}
