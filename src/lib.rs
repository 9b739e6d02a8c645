//! Knowledge distillation of text models.

mod adaptor;
mod batch;
pub mod config;
mod display;
mod error;
mod logits;
pub mod losses;
mod model;
pub mod optim;
mod presets;
mod projection;
pub mod schedule;

pub use adaptor::AdaptorOutput;
pub use batch::Batch;
pub use config::{
    DistillationConfig, IntermediateMatch, Layers, ProjectionSpec, SchedulerSpec, TrainingConfig,
};
pub use display::{display_parameters, NamedTensors, ParameterNode, ParameterReport};
pub use error::{BoxError, Error, Result, Side};
pub use logits::{probability_shift, select_logits_with_mask};
pub use model::{from_fn, FromFn, Model};
pub use presets::{
    KdLoss, MatchLoss, MatchOnSeveral, MatchOnSingle, Presets, TemperatureSchedule, WeightFunction,
};
pub use projection::{Projection, ProjectionBuilder, ProjectionForward};
