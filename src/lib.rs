//! Knowledge distillation of text models.

mod adaptor;
mod batch;
pub mod config;
mod display;
mod error;
pub mod losses;
mod model;
pub mod optim;

pub use adaptor::AdaptorOutput;
pub use batch::Batch;
pub use config::{
    DistillationConfig, IntermediateMatch, Layers, ProjectionSpec, SchedulerSpec, TrainingConfig,
};
pub use display::{display_parameters, NamedTensors, ParameterNode, ParameterReport};
pub use error::{BoxError, Error, Result, Side};
pub use model::{from_fn, FromFn, Model};
