//! What a training run does, step by step.

#[path = "engine_cases/after_step.rs"]
mod after_step;
#[path = "engine_cases/clipping.rs"]
mod clipping;
mod common;
#[path = "engine_cases/hooks.rs"]
mod hooks;
#[path = "engine_cases/logs.rs"]
mod logs;
#[path = "engine_cases/models.rs"]
mod models;
#[path = "engine_cases/more_logs.rs"]
mod more_logs;
#[path = "engine_cases/nothing_counts.rs"]
mod nothing_counts;
#[path = "engine_cases/observations.rs"]
mod observations;
#[path = "engine_cases/optimizers.rs"]
mod optimizers;
#[path = "engine_cases/positions.rs"]
mod positions;
#[path = "engine_cases/run_folders.rs"]
mod run_folders;
#[path = "engine_cases/schedules.rs"]
mod schedules;
#[path = "engine_cases/steps.rs"]
mod steps;
