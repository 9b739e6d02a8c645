//! Training with several processes, GPUs or machines.

mod address;
mod environment;
mod error_file;
mod launch;
#[cfg(unix)]
mod processes;
mod rendezvous;
#[cfg(unix)]
mod signals;

pub use launch::Launch;
pub use rendezvous::Rendezvous;
