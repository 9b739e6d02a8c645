//! Training with several processes, GPUs or machines.

mod address;
mod environment;
mod error_file;
mod exchange;
mod failure;
mod launch;
mod meeting;
mod owners;
mod process_group;
#[cfg(unix)]
mod processes;
mod rendezvous;
mod sharded_optimizer;
#[cfg(unix)]
mod signals;

pub(crate) use exchange::NUMBERS;
pub use launch::Launch;
pub use process_group::{ProcessGroup, Reduce};
pub use rendezvous::Rendezvous;
pub(crate) use sharded_optimizer::ShardedOptimizer;
