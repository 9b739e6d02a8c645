//! Several processes that train together.

mod common;

#[path = "process_cases/collectives.rs"]
mod collectives;
#[path = "process_cases/device.rs"]
mod device;
#[path = "process_cases/distillers.rs"]
mod distillers;
#[path = "process_cases/ends.rs"]
mod ends;
#[path = "process_cases/going_on.rs"]
mod going_on;
#[path = "process_cases/loaders.rs"]
mod loaders;
#[path = "process_cases/options.rs"]
mod options;
#[path = "process_cases/random.rs"]
mod random;
#[path = "process_cases/remembering.rs"]
mod remembering;
#[path = "process_cases/sharded.rs"]
mod sharded;
#[path = "process_cases/together.rs"]
mod together;
#[path = "process_cases/voice.rs"]
mod voice;
