//! Knowledge distillation of text models.

mod adaptor;
mod batch;
pub mod config;
pub mod data;
mod error;
pub mod logging;
pub mod losses;
mod model;
pub mod optim;

pub use adaptor::AdaptorOutput;
pub use batch::Batch;
pub use data::{DataLoader, ExampleLoader, FnLoader, TensorLoader, VecLoader};
pub use error::{BoxError, Error, Result, Side};
pub use logging::{LogSink, MemorySink, Progress, TensorBoardSink};
pub use model::{from_fn, FromFn, Model};
pub use optim::{clip_grad_norm, Adam, AdamW, Optimizer, ParamGroup, Sgd};
