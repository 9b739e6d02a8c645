//! What a user can do wrong, and the first line of the message that each mistake gets.

#[path = "error_cases/batches.rs"]
mod batches;
mod common;
#[path = "error_cases/configuration.rs"]
mod configuration;
#[path = "error_cases/files.rs"]
mod files;
#[path = "error_cases/loaders.rs"]
mod loaders;
#[path = "error_cases/runs.rs"]
mod runs;
#[path = "error_cases/setup.rs"]
mod setup;
