//! How weights, temperatures and learning rates change while training.

mod learning_rate;
mod taid;
pub mod temperature;
pub mod weight;

pub use learning_rate::{
    LrSchedule, constant, constant_with_warmup, cosine_with_warmup, cosine_with_warmup_fraction,
    linear_with_warmup, linear_with_warmup_fraction,
};
pub use taid::TaidSchedule;
