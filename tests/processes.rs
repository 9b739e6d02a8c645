//! Several processes that train together.

mod common;

#[path = "process_cases/collectives.rs"]
mod collectives;
#[path = "process_cases/distillers.rs"]
mod distillers;
#[path = "process_cases/remembering.rs"]
mod remembering;
#[path = "process_cases/together.rs"]
mod together;
