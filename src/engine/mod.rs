//! The loop that drives every distiller.

mod checkpoint;
mod existing;
mod losses;
mod plan;
mod run;
mod summary;
mod training;

pub use checkpoint::{CheckpointInfo, Flow};
pub use run::Run;
pub use summary::TrainSummary;
