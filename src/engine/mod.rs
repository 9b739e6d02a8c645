//! The loop that drives every distiller.

mod checkpoint;
mod existing;
mod interrupt;
mod losses;
mod non_finite;
mod plan;
mod random;
mod resume;
mod run;
mod saving;
mod summary;
mod survival;
mod training;
mod verdict;

pub use checkpoint::{CheckpointInfo, Flow};
pub use non_finite::{NonFinite, OnNonFinite};
pub use run::Run;
pub use summary::TrainSummary;
pub use verdict::Verdict;
