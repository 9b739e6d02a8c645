//! Knowledge distillation of text models.

mod adaptor;
mod batch;
pub mod config;
mod error;
pub mod losses;
mod model;
pub mod models;
pub mod optim;
pub mod weights;

pub use adaptor::AdaptorOutput;
pub use batch::Batch;
pub use error::{BoxError, Error, Result, Side};
pub use model::{from_fn, FromFn, Model};
