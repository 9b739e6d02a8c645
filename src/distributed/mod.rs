//! Training with several processes, GPUs or machines.

mod address;
mod environment;
mod error_file;
mod rendezvous;

pub use rendezvous::Rendezvous;
