#![doc = include_str!("../README.md")]
// The README is read where hidden lines would show, so its programs are whole.
#![allow(clippy::needless_doctest_main)]

// The code of `#[derive(Batch)]` names this crate as a user does.
extern crate self as textbrewer;

mod adaptor;
pub mod augment;
pub mod backend;
mod batch;
pub mod checkpoint;
pub mod config;
pub mod data;
mod display;
pub mod distiller;
mod engine;
mod error;
mod feature;
mod files;
mod kind;
pub mod logging;
pub mod logits;
pub mod losses;
mod model;
pub mod models;
#[allow(dead_code, unused_imports)]
mod native;
pub mod optim;
mod presets;
mod projection;
mod scalar;
pub mod schedule;
mod step;
pub mod transport;
pub mod weights;

pub use adaptor::AdaptorOutput;
pub use batch::{Batch, Split};
pub use config::{
    DistillationConfig, EmdConfig, IntermediateMatch, LayerMap, LayerSelection, LayerWeights,
    Layers, ProjectionSpec, SchedulerSpec, TrainingConfig, match_set,
};
pub use data::{
    DataLoader, ExampleLoader, FnLoader, TaskBatch, TaskLoader, TensorLoader, VecLoader,
};
pub use display::{NamedTensors, ParameterNode, ParameterReport, display_parameters};
pub use distiller::{
    BasicDistiller, BasicTrainer, Core, Distiller, EmdDistiller, GeneralDistiller, LossReport,
    MultiTaskDistiller, MultiTeacherDistiller, Term,
};
pub use engine::{CheckpointInfo, Flow, Hook, NonFinite, OnNonFinite, Run, TrainSummary, Verdict};
pub use error::{BoxError, Error, Result, Side};
pub use feature::Feature;
pub use logging::{LogSink, MemorySink, TensorBoardSink};
pub use logits::{Logits, probability_shift, select_logits_with_mask};
#[doc(hidden)]
pub use model::FromFn;
pub use model::{Model, from_fn};
pub use optim::{Adam, AdamW, Optimizer, Sgd};
pub use presets::{KdInput, KdLoss, MatchLoss, Presets, TemperatureSchedule, WeightFunction};
pub use projection::{Projection, ProjectionBuilder, ProjectionForward};
pub use step::StepInfo;

/// What the code of `#[derive(Batch)]` names besides, so that it needs no other dependency.
#[doc(hidden)]
pub mod __private {
    pub use tch::Device;
}
