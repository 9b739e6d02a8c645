//! Several processes that train together.

mod common;

#[path = "process_cases/collectives.rs"]
mod collectives;
#[path = "process_cases/device.rs"]
mod device;
#[path = "process_cases/same_as_one.rs"]
mod same_as_one;
#[path = "process_cases/sharded.rs"]
mod sharded;
