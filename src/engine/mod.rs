//! The loop that drives every distiller.

mod callback;
mod epochs;
mod evaluations;
mod finite;
mod hook;
mod hooks;
mod interrupt;
mod learning_rates;
mod logs;
mod losses;
mod non_finite;
mod pending;
mod plan;
mod position;
mod prepare;
mod random;
mod ranks;
mod record;
mod run;
mod saving;
mod statistics;
mod step_weight;
mod summary;
mod training;
mod update;
mod zeros;

pub use callback::{CheckpointInfo, Flow, Verdict};
pub use hook::Hook;
pub use non_finite::{NonFinite, OnNonFinite};
pub use run::Run;
pub use summary::TrainSummary;
